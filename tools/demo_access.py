"""Access to the demo's gateway: a port on this machine's loopback and one virtual key, made once and reused.

The key lies in a file of mode 0600 as a ready header, so that `curl -H @file` never shows it in a process list.
"""

import json
import os
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path

import httpx

from tools import init_vault

FIRST_PORT = 4000
PORTS_TRIED = 20
KEY_ALIAS = "demo"
TIMEOUT_SECONDS = 30.0


@dataclass(frozen=True, kw_only=True)
class Access:
    """How to reach the gateway from this machine."""

    port: int
    gateway: str
    header_file: Path
    model: str

    def lines(self, *, report_directory: Path) -> list[str]:
        """What the demo prints at its end."""
        base = f"http://127.0.0.1:{self.port}"
        return [
            "",
            f"Gateway     {self.gateway}/v1   inside the lab;   {base}/v1   from this machine",
            f"Dashboard   {self.gateway}/ui   inside the lab;   {base}/ui   from this machine"
            "   (user admin, password: the master key in the site's vault)",
            f"Report      {report_directory}/report.html and report.json",
            "Try it:",
            f"  curl {base}/v1/chat/completions -H @{self.header_file} -H 'Content-Type: application/json' \\",
            f'    -d \'{{"model": "{self.model}", "max_tokens": 32, '
            '"messages": [{"role": "user", "content": "Hello!"}]}\'',
            "Take it down:  make demo-down",
        ]


def open_gateway(*, lab: Path, site: Path, state: Path, gateway_host: str) -> Access:
    """Forwards a loopback port to the gateway and makes sure that the demo's key works."""
    plan = json.loads((site / "group_vars/all/appliance_plan.json").read_text(encoding="utf-8"))["appliance_plan"]
    gateway_port = plan["gateway"]["port"]
    models = [model["name"] for model in plan["models"]]
    port = _forwarded_port(lab, state, f"{gateway_host}:{gateway_port}")
    header_file = state / "virtual-key.header"
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=TIMEOUT_SECONDS, trust_env=False) as client:
        if not (header_file.exists() and _works(client, header_file)):
            _make_key(client, site, header_file, models)
    return Access(
        port=port,
        gateway=f"http://{plan['gateway']['address']}:{gateway_port}",
        header_file=header_file,
        model=models[0],
    )


def _forwarded_port(lab: Path, state: Path, target: str) -> int:
    """The loopback port that leads to the gateway: the one of the last run while it still listens, else a new one."""
    remembered = state / "gateway-port"
    if remembered.exists():
        port = int(remembered.read_text(encoding="utf-8"))
        if _listens(port) and _answers(port):
            return port
    for port in range(FIRST_PORT, FIRST_PORT + PORTS_TRIED):
        if not _listens(port):
            subprocess.run([str(lab), "forward", f"127.0.0.1:{port}", target], check=True)
            remembered.write_text(f"{port}\n", encoding="utf-8")
            return port
    raise SystemExit(f"demo: no free loopback port from {FIRST_PORT} to {FIRST_PORT + PORTS_TRIED - 1}")


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _answers(port: int) -> bool:
    """Whether what listens there is our gateway."""
    try:
        answer = httpx.get(f"http://127.0.0.1:{port}/health/liveliness", timeout=TIMEOUT_SECONDS, trust_env=False)
    except httpx.HTTPError:
        return False
    return answer.status_code == httpx.codes.OK


def _works(client: httpx.Client, header_file: Path) -> bool:
    name, value = header_file.read_text(encoding="utf-8").strip().split(": ", 1)
    return client.get("/v1/models", headers={name: value}).status_code == httpx.codes.OK


def _make_key(client: httpx.Client, site: Path, header_file: Path, models: list[str]) -> None:
    master_key = init_vault.read_vault(site / "group_vars/all/vault.yml")["vault_gateway_master_key"]
    headers = {"Authorization": f"Bearer {master_key}"}
    client.post("/key/delete", headers=headers, json={"key_aliases": [KEY_ALIAS]})
    answer = client.post("/key/generate", headers=headers, json={"key_alias": KEY_ALIAS, "models": models})
    if answer.status_code != httpx.codes.OK:
        raise SystemExit(f"demo: the gateway made no virtual key: {answer.status_code} {answer.text[:300]}")
    header_file.unlink(missing_ok=True)
    descriptor = os.open(header_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(f"Authorization: Bearer {answer.json()['key']}\n")

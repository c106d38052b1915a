"""A planned site whose only gateway host is this machine: what the operator has before playbooks/access.yml runs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.access.living_gateway import MODELS, ROOT, LivingGateway

BIN = Path(sys.executable).parent
HARDWARE = {
    "schema_version": 1,
    "host": "h1",
    "accelerator": "cpu",
    "cpu": {"model": "AMD EPYC", "architecture": "x86_64", "cores": [0, 1], "flags": []},
    "memory_total_bytes": 16 * 1024**3,
}
RECAP = re.compile(r"^h1\s+: ok=\d+\s+changed=(\d+)\s+unreachable=0\s+failed=(\d+)", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Applied:
    """What a run of the playbook said."""

    output: str
    changed_count: int
    failed: bool


@dataclass(frozen=True, kw_only=True)
class DeclaredSite:
    """An inventory directory with request, hardware, plan, vault and its password."""

    directory: Path
    environment: dict[str, str]

    @classmethod
    def make(cls, directory: Path, gateway: LivingGateway) -> DeclaredSite:
        """Plans it as an operator would."""
        site = directory / "site"
        everything = site / "group_vars" / "all"
        everything.mkdir(parents=True)
        (site / "host_vars" / "h1").mkdir(parents=True)
        password = directory / "vault-password"
        password.write_text("a password for this test\n", encoding="utf-8")
        (site / "hosts.yml").write_text(yaml.safe_dump(_inventory()), encoding="utf-8")
        (site / "request.yml").write_text(yaml.safe_dump(_request(gateway)), encoding="utf-8")
        (site / "host_vars" / "h1" / "hardware.json").write_text(
            json.dumps({"appliance_hardware": HARDWARE}), encoding="utf-8"
        )
        (everything / "main.yml").write_text(f"model_store: {directory}\n", encoding="utf-8")
        environment = os.environ | {
            "LLM_APPLIANCE_VAULT_PASSWORD_FILE": str(password),
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_FORCE_COLOR": "0",
            "ANSIBLE_LOCAL_TEMP": str(directory / "tmp"),
        }
        made = cls(directory=site, environment=environment)
        made.run(str(BIN / "llm-size"), "recommend", "--site", str(site), "--write")
        secret = yaml.safe_dump({"vault_gateway_master_key": gateway.master_key})
        vault = made.run(str(BIN / "ansible-vault"), "encrypt", "--output", "-", "-", text=secret)
        (everything / "vault.yml").write_text(vault, encoding="utf-8")
        return made

    def declare(self, access: dict[str, Any] | None) -> None:
        """Writes access.yml, or takes it away."""
        path = self.directory / "group_vars" / "all" / "access.yml"
        if access is None:
            path.unlink(missing_ok=True)
        else:
            path.write_text(yaml.safe_dump({"access": access}), encoding="utf-8")

    def apply(self, *options: str) -> Applied:
        """Runs playbooks/access.yml."""
        command = [
            str(BIN / "ansible-playbook"),
            "-i",
            str(self.directory),
            str(ROOT / "playbooks/access.yml"),
            *options,
        ]
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        recap = RECAP.search(done.stdout)
        return Applied(
            output=done.stdout + done.stderr,
            changed_count=int(recap[1]) if recap else -1,
            failed=done.returncode != 0,
        )

    def keys(self, *options: str) -> str:
        """Runs tools.access_keys, which `make keys` calls."""
        return self.run(sys.executable, "-m", "tools.access_keys", str(self.directory), *options)

    def value(self, alias: str) -> str:
        """The value of a key, as the operator reads it to hand it over."""
        return self.keys("--show", alias).strip()

    def run(self, *command: str, text: str | None = None) -> str:
        done = subprocess.run(
            command, cwd=ROOT, env=self.environment, input=text, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


def _inventory() -> dict[str, Any]:
    host = {"ansible_host": "127.0.0.1", "ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    groups = {group: {"hosts": {"h1": {}}} for group in ("gateway", "postgres", "redis", "engines")}
    return {"all": {"hosts": {"h1": host}, "children": groups}}


def _request(gateway: LivingGateway) -> dict[str, Any]:
    model = {"source": "Qwen/Qwen3-0.6B", "context_tokens": 2048, "output_tokens": 512, "users": 1}
    models = [{"name": name, **model} for name in MODELS]
    return {"schema_version": 1, "site": "test", "gateway_port": int(gateway.url.rsplit(":", 1)[1]), "models": models}

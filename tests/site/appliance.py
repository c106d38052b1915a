"""A site of its own for the tests: its hosts, inventory, secrets and plan, apart from a demo that may be running.

It runs the commands that an operator types, and nothing else.
"""

import json
import os
import re
import secrets
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tools import artifacts

REPOSITORY = Path(__file__).resolve().parents[2]
LAB = REPOSITORY / "tests" / "lab" / "lab"
BIN = Path(sys.executable).parent
RECAP = re.compile(r"^(\S+)\s+: ok=(\d+)\s+changed=(\d+)\s+unreachable=(\d+)\s+failed=(\d+)", re.MULTILINE)
COMMAND_LIMIT_SECONDS = 1200


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a command ended and what it said."""

    exit_code: int
    output: str

    def changed(self) -> dict[str, int]:
        """`changed=` of the recap, per host."""
        return {match[1]: int(match[3]) for match in RECAP.finditer(self.output)}


@dataclass(kw_only=True)
class Appliance:
    """One lab with one site on it. `directory` holds everything of it and must have a short path (sockets)."""

    directory: Path
    environment: dict[str, str] = field(default_factory=dict)
    _gateway: str | None = None

    @property
    def site(self) -> Path:
        return self.directory / "inventories" / "lab"

    def prepare(self, made: artifacts.Artifacts) -> None:
        """Copies the lab's inventory, links what it installs from, makes its secrets."""
        (self.site / "group_vars" / "all").mkdir(parents=True)
        (self.directory / ".demo").mkdir()
        (self.directory / ".demo" / "models").symlink_to(made.models)
        (self.directory / ".demo" / "prisma-engine.tar.gz").symlink_to(made.prisma_engine)
        for name in ("hosts.yml", "request.yml", "group_vars/all/main.yml"):
            (self.site / name).write_bytes((REPOSITORY / "inventories" / "lab" / name).read_bytes())
        password = self.directory / "vault-password"
        password.touch(mode=0o600)
        password.write_text(secrets.token_urlsafe(32), encoding="utf-8")
        self.environment = {
            **os.environ,
            "LLM_APPLIANCE_LAB_STATE": str(self.directory / ".lab"),
            "LLM_APPLIANCE_VAULT_PASSWORD_FILE": str(password),
            "ANSIBLE_FORCE_COLOR": "0",
        }
        self.must("tools/init_vault.py", str(self.site))

    def lab(self, *arguments: str) -> str:
        """One verb of the lab; fails the test when it fails."""
        outcome = self._run([str(LAB), *arguments])
        assert outcome.exit_code == 0, outcome.output
        return outcome.output

    def playbook(self, name: str, *arguments: str, **environment: str) -> Outcome:
        """One playbook on this site."""
        command = [str(BIN / "ansible-playbook"), "-i", str(self.site), f"playbooks/{name}", *arguments]
        return self._run(command, **environment)

    def llm_size(self, *arguments: str, limit_seconds: int = COMMAND_LIMIT_SECONDS) -> Outcome:
        """One verb of the command line; one that takes longer is told to end, and its exit code is 124."""
        return self._run(["timeout", str(limit_seconds), str(BIN / "llm-size"), *arguments])

    def must(self, *command: str) -> None:
        """A Python program of the repository that has to work."""
        outcome = self._run([str(BIN / "python"), *command])
        assert outcome.exit_code == 0, outcome.output

    def vault(self) -> dict[str, str]:
        """The site's secrets, decrypted."""
        outcome = self._run([str(BIN / "ansible-vault"), "view", str(self.site / "group_vars/all/vault.yml")])
        assert outcome.exit_code == 0, outcome.output
        content: dict[str, str] = yaml.safe_load(outcome.output)
        return content

    def gateway(self) -> str:
        """Where this machine reaches the gateway; the way in is made once."""
        if self._gateway is None:
            self._gateway = self.lab("forward", "127.0.0.1:0", "h1:4000").split()[-1]
        return f"http://{self._gateway}"

    def replica_states(self, group: str) -> dict[str, str]:
        """What the relay of a model says about each engine."""
        return {row["id"]: row["state"] for row in self._replicas(group)}

    def busy_hosts(self, group: str) -> list[str]:
        """The hosts whose engine answers a request of this relay now."""
        return [row["id"].partition("@")[2] for row in self._replicas(group) if row["outstanding_requests"]]

    def last_legs(self, group: str) -> list[dict[str, Any]]:
        """The legs of the request that this relay booked last."""
        written = self.lab("exec", "h1", "--", "sh", "-c", f"tail -qn 50 /var/lib/relay/ledger/{group}.*.ledger.jsonl")
        ends = [entry for entry in map(json.loads, written.splitlines()) if entry["kind"] == "end"]
        legs: list[dict[str, Any]] = max(ends, key=lambda entry: float(entry["at"]))["legs"]
        return legs

    def _replicas(self, group: str) -> list[dict[str, Any]]:
        content = json.loads(self.plan_path().read_text(encoding="utf-8"))["appliance_plan"]["gateway"]["relays"]
        port = next(relay["port"] for relay in content if relay["group"] == group)
        ask = (
            "import os, urllib.request as u; "
            f"r = u.Request('http://127.0.0.1:{port}/relay/status', "
            "headers={'Authorization': 'Bearer ' + os.environ['VLLM_API_KEY']}); print(u.urlopen(r).read().decode())"
        )
        said = self.lab(
            *("exec", "h1", "--", "systemd-run", "--quiet", "--pipe", "--wait", "--collect"),
            *(f"--property=EnvironmentFile=/etc/relay/{group}.env", "/usr/bin/python3", "-c", ask),
        )
        rows: list[dict[str, Any]] = json.loads(said)["replicas"]
        return rows

    def plan_path(self) -> Path:
        return self.site / "group_vars" / "all" / "appliance_plan.json"

    def report(self) -> dict[str, object]:
        """The newest verification report."""
        content: dict[str, object] = json.loads((self.site / "reports/latest/report.json").read_text(encoding="utf-8"))
        return content

    def _run(self, command: list[str], **environment: str) -> Outcome:
        answer = subprocess.run(
            command,
            cwd=REPOSITORY,
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=COMMAND_LIMIT_SECONDS,
            check=False,
        )
        return Outcome(exit_code=answer.returncode, output=answer.stdout)

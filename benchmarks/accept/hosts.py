"""Hosts: the arm that reaches a site's inventory and hosts. Ansible does it, run as a program.

Secrets come from it through a pipe and stay in this process; no argument and no file ever holds one.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.errors import BadLoad
from benchmarks.null_process import ROOT
from sizing.errors import SizingError

NETWORK_VARIABLE = "accept_network_command"
FAULT_VARIABLE = "accept_fault_command"
GATEWAY_VARIABLE = "accept_gateway_url"
_QUESTION = (
    "msg={{ {'master_key': vault_gateway_master_key | default(''), 'engine_key': vault_vllm_api_key | default(''), "
    "'network': " + NETWORK_VARIABLE + " | default([]), 'breaks': " + FAULT_VARIABLE + " | default(''), "
    "'database': groups['postgres'] | default([]) | first | default(''), "
    "'clients': " + GATEWAY_VARIABLE + " | default(''), 'certificate': vault_edge_certificate | default('')} }}"
)


class HostsFailed(SizingError):
    """A playbook that the run needs did not end well."""


@dataclass(frozen=True, kw_only=True)
class Inventory:
    """What only the inventory knows. Keys are never shown."""

    master_key: str = field(repr=False)
    engine_key: str = field(repr=False)
    network: tuple[str, ...] = ()
    fault_program: str = ""  # breaks and mends hosts, relative to the repository
    database_host: str = ""
    clients_url: str = ""  # what clients use, where edges stand before the gateways
    certificate: str = ""  # of those edges, PEM


def ask_inventory(site: Path) -> Inventory:
    """The keys of the site, and the command that leads into its network where there has to be one."""
    environment = {
        **os.environ,
        "ANSIBLE_LOAD_CALLBACK_PLUGINS": "1",
        "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json",
        "ANSIBLE_FORCE_COLOR": "0",
        "ANSIBLE_LOG_PATH": os.devnull,  # the answer holds secrets
    }
    command = [_program("ansible"), "-i", str(site.resolve()), "gateway[0]", "-m", "ansible.builtin.debug"]
    answer = subprocess.run(
        [*command, "-a", _QUESTION], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    try:
        said = json.loads(answer.stdout)["plays"][0]["tasks"][0]["hosts"]
        message = next(iter(said.values()))["msg"]
    except (ValueError, KeyError, IndexError, StopIteration):
        lines = [line.strip() for line in (answer.stderr + answer.stdout).splitlines() if "ERROR" in line]
        raise BadLoad(f"{site}: the inventory does not answer: {(lines or ['no reason given'])[0]}") from None
    if not isinstance(message, dict):
        raise BadLoad(f"{site}: the inventory does not answer: {str(message)[:200]}")
    for name, variable in (("master_key", "vault_gateway_master_key"), ("engine_key", "vault_vllm_api_key")):
        if not message[name]:
            raise BadLoad(f"{site}: {variable} is not set; make the secrets with `make vault SITE={site}`")
    network = tuple(str(word) for word in message["network"])
    return Inventory(
        master_key=message["master_key"],
        engine_key=message["engine_key"],
        network=network,
        fault_program=str(message["breaks"]),
        database_host=str(message["database"]),
        clients_url=str(message["clients"]).rstrip("/"),
        certificate=str(message["certificate"]),
    )


@dataclass(frozen=True, kw_only=True)
class Hosts:
    """The hosts of one site; what Ansible says about them goes to a log."""

    site: Path
    log: Path

    def play(self, name: str, variables: Mapping[str, object]) -> None:
        """Runs playbooks/<name>; raises HostsFailed with the first line of what went wrong."""
        command = [_program("ansible-playbook"), "-i", str(self.site.resolve()), str(ROOT / "playbooks" / name)]
        with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as given:
            json.dump(dict(variables), given)
            given.flush()
            ended = subprocess.run(
                [*command, "--extra-vars", f"@{given.name}"],
                cwd=ROOT,
                env={**os.environ, "ANSIBLE_FORCE_COLOR": "0"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
            )
        with self.log.open("a", encoding="utf-8") as log:
            log.write(ended.stdout)
        if ended.returncode:
            lines = [line for line in ended.stdout.splitlines() if line.startswith(("fatal:", "failed:", "[ERROR]"))]
            reason = (lines or ["no reason given"])[0][:300]
            raise HostsFailed(f"playbooks/{name} ended with {ended.returncode}: {reason}; the whole log: {self.log}")


def _program(name: str) -> str:
    beside_python = Path(sys.executable).with_name(name)
    found = str(beside_python) if beside_python.exists() else shutil.which(name)
    if found is None:
        raise SizingError(f"{name} is not installed; install llm-appliance with its `deploy` extra")
    return found

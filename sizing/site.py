"""Site: the inventory directory as Python sees it - hosts by group, measured hardware, the request, the present plan.

Groups and addresses have one home, the Ansible inventory; it is read through `ansible-inventory`, run as a program.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sizing.documents import read_structured_file
from sizing.errors import DocumentError, SizingError, StaleDocument
from sizing.hardware import Hardware
from sizing.plan import PLAN_KEY, Plan
from sizing.providers import KEYS_VARIABLE
from sizing.request import Request
from sizing.tracing import KEYS_VARIABLE as TRACING_KEYS_VARIABLE

OUR_DOCUMENTS = frozenset(
    {
        "access.yml",
        "alerts.yml",
        "appliance_plan.json",
        "audit.yml",
        "caching.yml",
        "guardrails.yml",
        "hardware.json",
        "providers.yml",
        "routing.yml",
        "tracing.yml",
        "vault_access.yml",
    }
)

GROUPS = ("gateway", "postgres", "redis", "engines")


@dataclass(frozen=True, kw_only=True)
class Site:
    """What is known of one site before anything is decided. `addresses` holds every host of the inventory."""

    directory: Path
    request: Request
    addresses: Mapping[str, str]
    groups: Mapping[str, tuple[str, ...]]
    hardware: Mapping[str, Hardware]
    model_store: Path
    provider_keys: frozenset[str]
    """The names, never the values, of what the vault holds for providers."""
    tracing_keys: frozenset[str] = frozenset()
    """The same for receivers of traces."""


def plan_path(directory: Path) -> Path:
    """Where Ansible finds the plan of a site."""
    return directory / "group_vars" / "all" / "appliance_plan.json"


def load_site(directory: Path) -> Site:
    """The site in an inventory directory; raises SizingError with one line that says what is missing."""
    if not directory.is_dir():
        raise DocumentError(f"{directory}: no such site; copy inventories/example and edit it")
    request = load_request(directory)
    inventory = _inventory(directory)
    groups = {group: _hosts_of(inventory, group) for group in GROUPS}
    for group, hosts in groups.items():
        if not hosts:
            raise DocumentError(f"{directory}: the inventory has no host in group {group}")
    hostvars: Mapping[str, Mapping[str, Any]] = inventory["_meta"]["hostvars"]
    names = sorted({host for hosts in groups.values() for host in hosts})
    addresses = {name: str(hostvars.get(name, {}).get("ansible_host", name)) for name in names}
    hardware = {name: _hardware_of(directory, name) for name in groups["engines"]}
    return Site(
        directory=directory,
        request=request,
        addresses=addresses,
        groups=groups,
        hardware=hardware,
        model_store=_model_store(directory, hostvars, groups["engines"][0]),
        provider_keys=_keys_in_vault(directory, hostvars.get(groups["gateway"][0], {}), KEYS_VARIABLE),
        tracing_keys=_keys_in_vault(directory, hostvars.get(groups["gateway"][0], {}), TRACING_KEYS_VARIABLE),
    )


def load_request(directory: Path) -> Request:
    """What the operator wishes for this site."""
    return Request.load(directory / "request.yml")


def load_plan(directory: Path) -> Plan:
    """The plan that Ansible would use for this site."""
    path = plan_path(directory)
    if not path.exists():
        raise DocumentError(f"{path}: no plan yet; run `llm-size recommend --site {directory} --write`")
    content = read_structured_file(path)
    if not isinstance(content, dict) or set(content) != {PLAN_KEY}:
        raise DocumentError(f"{path}: expected the single top-level key {PLAN_KEY}")
    return Plan.parse(content[PLAN_KEY], origin=str(path))


def check_freshness(site: Site, plan: Plan) -> None:
    """Raises StaleDocument when the plan was made from another request or other hardware than the site holds now."""
    again = f"make the plan again: `llm-size recommend --site {site.directory} --write`"
    if plan.request_digest != site.request.digest():
        raise StaleDocument(f"the plan was made from another request than {site.directory / 'request.yml'}; {again}")
    for name, host in plan.hosts.items():
        hardware = site.hardware.get(name)
        if hardware is None:
            raise StaleDocument(f"the plan places engines on {name}, which is not in group engines any more; {again}")
        if hardware.digest() != host.hardware_digest:
            raise StaleDocument(f"the plan is older than the hardware of {name}; {again}")


def _hardware_of(directory: Path, host: str) -> Hardware:
    path = directory / "host_vars" / host / "hardware.json"
    if not path.exists():
        raise DocumentError(
            f"{path}: the hardware of {host} is not known; run `ansible-playbook -i {directory} playbooks/probe.yml`"
        )
    return Hardware.load_host_vars(path)


def _model_store(directory: Path, hostvars: Mapping[str, Mapping[str, Any]], host: str) -> Path:
    configured = hostvars.get(host, {}).get("model_store")
    if not isinstance(configured, str) or not configured:
        raise DocumentError(f"{directory}: set model_store (the directory that holds the models) in group_vars/all")
    if "{{" in configured:
        configured = configured.replace("{{ inventory_dir }}", str(directory.resolve()))
    return Path(configured).expanduser()


def _keys_in_vault(directory: Path, variables: Mapping[str, Any], name: str) -> frozenset[str]:
    keys = variables.get(name, {})
    if not isinstance(keys, dict) or not all(isinstance(value, str | dict) and value for value in keys.values()):
        raise DocumentError(f"{directory}: {name} in the vault must name each key with its value, none empty")
    return frozenset(str(key) for key in keys)


def _hosts_of(inventory: Mapping[str, Any], group: str) -> tuple[str, ...]:
    members = inventory.get(group, {})
    hosts = list(members.get("hosts", []))
    for child in members.get("children", []):
        hosts.extend(_hosts_of(inventory, child))
    return tuple(sorted(set(hosts)))


def _without_our_documents(directory: Path, scratch: Path) -> Path:
    """The inventory without plan and hardware, as links: Ansible would copy the plan of all hosts to each of them."""
    light = scratch / directory.name
    light.mkdir()
    for entry in directory.iterdir():
        if entry.name in {"group_vars", "host_vars"} and entry.is_dir():
            for one in sorted(entry.rglob("*")):
                place = light / one.relative_to(directory)
                if one.is_dir():
                    place.mkdir(parents=True)
                elif one.name not in OUR_DOCUMENTS:
                    place.parent.mkdir(exist_ok=True, parents=True)
                    place.symlink_to(one)
        else:
            (light / entry.name).symlink_to(entry)
    return light


def _inventory(directory: Path) -> dict[str, Any]:
    beside_python = Path(sys.executable).with_name("ansible-inventory")
    program = str(beside_python) if beside_python.exists() else shutil.which("ansible-inventory")
    if program is None:
        raise SizingError("ansible-inventory is not installed; install llm-appliance with its `deploy` extra")
    with tempfile.TemporaryDirectory(prefix="llm-size-") as scratch:
        light = _without_our_documents(directory.resolve(), Path(scratch))
        answer = subprocess.run([program, "-i", str(light), "--list"], capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        errors = answer.stderr.replace(str(light), str(directory))
        lines = [line for line in errors.splitlines() if "ERROR" in line] or errors.splitlines()
        raise DocumentError(f"{directory}: ansible-inventory: {lines[0].strip() if lines else 'failed without a word'}")
    content: dict[str, Any] = json.loads(answer.stdout)
    return content

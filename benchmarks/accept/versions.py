"""Versions: everything that ran, as it said itself, and the machines it ran on."""

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version

from benchmarks.accept.witness import MachineSeen, Witness
from benchmarks.acceptance import Machine
from benchmarks.null_process import ROOT
from sizing.observation import Observation
from sizing.plan import Plan
from sizing.site import Site
from sizing.units import gib_text


def versions(site: Site, observation: Observation, witness: Witness) -> dict[str, str]:
    """Name to version. Where hosts differ, every version is named."""
    engines = {engine.version for seen in observation.engines.values() for engine in seen}
    gateways = {gateway.version for gateway in observation.gateways.values()}
    found = {
        "llm-appliance": f"{_of('llm-appliance')}, {_commit()}",
        "vLLM": _joined(engines),
        "LiteLLM": _joined(gateways),
        "PostgreSQL": _package(site, witness, "postgres", "postgresql-"),
        "Redis": _package(site, witness, "redis", "redis-server"),
        "Python of the gateway": _pythons(site, witness, "gateway"),
        "Python of the engines": _pythons(site, witness, "engines"),
        "kernel": _joined({machine.kernel for machine in witness.machines.values()}),
        "load generator": f"Locust {_of('locust')}, Python {platform.python_version()}",
        "ansible-core": _of("ansible-core"),
    }
    return {name: text for name, text in found.items() if text}


def machines(site: Site, plan: Plan, witness: Witness) -> tuple[Machine, ...]:
    """Every host and the machine that sent the load."""
    found = [
        Machine(name=host, role=_role(site, plan, host), description=_description(plan, host, seen))
        for host, seen in witness.machines.items()
    ]
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    found.append(
        Machine(
            name=platform.node(),
            role="load generator",
            description=f"{platform.platform()}, {os.cpu_count()} cores, load average when the run ended {load}",
        )
    )
    return tuple(found)


def _role(site: Site, plan: Plan, host: str) -> str:
    names = {"gateway": "gateway", "postgres": "PostgreSQL", "redis": "Redis"}
    roles = [title for group, title in names.items() if host in site.groups[group]]
    if host in plan.hosts:
        roles += [f"engine {engine.name}" for engine in plan.hosts[host].engines]
    return ", ".join(roles) or "host"


def _description(plan: Plan, host: str, seen: MachineSeen) -> str:
    gpus = plan.hosts[host].gpus if host in plan.hosts else ()
    named = [f"{len(gpus)} x {gpus[0].name}"] if gpus else []
    processor = f"{seen.processor_count} cores of {seen.processor}"
    return ", ".join([*named, processor, gib_text(seen.memory_bytes), seen.distribution])


def _package(site: Site, witness: Witness, group: str, prefix: str) -> str:
    hosts = [witness.machines[host] for host in site.groups[group] if host in witness.machines]
    names = {name.partition(" ")[2] for host in hosts for name in host.packages if name.startswith(prefix)}
    return _joined(names)


def _pythons(site: Site, witness: Witness, group: str) -> str:
    hosts = [witness.machines[host] for host in site.groups[group] if host in witness.machines]
    return _joined({python.removeprefix("Python ") for host in hosts for python in host.pythons})


def _joined(names: "set[str | None] | set[str]") -> str:
    return ", ".join(sorted(name for name in names if name))


def _of(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _commit() -> str:
    """The commit of the working tree, and whether it differs from it."""
    answers = []
    for arguments in (["rev-parse", "--short=12", "HEAD"], ["status", "--porcelain", "--untracked-files=no"]):
        try:
            done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=False)
        except FileNotFoundError:
            return "commit not known"
        if done.returncode:
            return "commit not known"
        answers.append(done.stdout.strip())
    return f"commit {answers[0]}{' with local changes' if answers[1] else ''}"

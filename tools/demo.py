"""The demo: plan, deploy and verify the whole appliance on real systemd hosts of this machine.

`up` runs the same commands that an operator types, in the same order, with the time of each stage; run again, it
changes nothing and says so. `down` takes the hosts away. State lies in .demo/ and .lab/ of the clone.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml
from rich.console import Console
from rich.table import Table

from tools import artifacts, demo_access, lab_machine, run_tests
from tools.playbook import PlaybookFailed, run_playbook

REPOSITORY = Path(__file__).resolve().parent.parent
INVENTORIES = REPOSITORY / "inventories"
STATE = REPOSITORY / ".demo"
LAB = REPOSITORY / "tests" / "lab" / "lab"
LLM_SIZE = Path(sys.executable).with_name("llm-size")


@dataclass(frozen=True, kw_only=True)
class DemoSite:
    """A site on hosts of the lab; what runs where is its inventory's to say."""

    directory: Path
    hosts: tuple[str, ...]
    gateways: tuple[str, ...]
    engine_hosts: tuple[str, ...]

    @staticmethod
    def load(name: str) -> "DemoSite":
        """The site in inventories/<name>."""
        directory = INVENTORIES / name
        content = yaml.safe_load((directory / "hosts.yml").read_text(encoding="utf-8"))["all"]
        groups = {group: tuple(members["hosts"]) for group, members in content["children"].items()}
        return DemoSite(
            directory=directory,
            hosts=tuple(content["hosts"]),
            gateways=groups["gateway"],
            engine_hosts=groups["engines"],
        )


class Stages:
    """Runs stages one after the other, says which one is running and remembers how long each took."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        self.console.print(f"[bold cyan]==> {name}[/]")
        begun = time.monotonic()
        yield
        self.seconds[name] = time.monotonic() - begun

    def table(self) -> Table:
        table = Table("stage", "seconds", title="How long it took")
        table.columns[1].justify = "right"
        for name, seconds in self.seconds.items():
            table.add_row(name, f"{seconds:.0f}")
        table.add_row("[bold]together[/]", f"[bold]{sum(self.seconds.values()):.0f}[/]")
        return table


def main() -> int:
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("action", choices=("up", "down"))
    parser.add_argument(
        "--site",
        default="lab",
        choices=("lab", "lab-ha", "lab-full"),
        help="lab: three hosts; lab-ha: five; lab-full: five with guardrails, access, alerts, monitoring",
    )
    parser.add_argument("--bare", action="store_true", help="hosts without any package or venv installed before")
    arguments = parser.parse_args()
    console = Console(highlight=False)
    try:
        if arguments.action == "down":
            return down(console)
        return up(console, DemoSite.load(arguments.site), bare=arguments.bare)
    except PlaybookFailed as failure:
        console.print(f"[bold red]demo: {failure}[/]", markup=True)
        return 1
    except subprocess.CalledProcessError as failure:
        console.print(
            f"demo: {' '.join(map(str, failure.cmd))} failed with exit code {failure.returncode}", style="red"
        )
        return 1


def up(console: Console, site: DemoSite, *, bare: bool) -> int:
    """The main job, stage by stage; returns the exit code."""
    reason = run_tests.why_no_lab()
    if reason is not None:
        console.print(f"demo: it boots {len(site.hosts)} systemd hosts: {reason}.")
        console.print("What works here: `.venv/bin/llm-size --help`, and `make test` without its lab tier.")
        return 2
    STATE.mkdir(exist_ok=True)
    stages = Stages(console)
    with stages.stage("prepare this machine"):
        if lab_machine.main() != 0:
            return 2
    with stages.stage("download and make what hosts install from"):
        made = artifacts.make(lambda text: console.print(f"    {text}"))
        _link(STATE / "models", made.models)
        _link(STATE / "prisma-engine.tar.gz", made.prisma_engine)
    with stages.stage(f"boot {len(site.hosts)} hosts"):
        _boot(made, site, bare=bare)
    with stages.stage("make the site's secrets"):
        subprocess.run([sys.executable, "tools/init_vault.py", str(site.directory)], cwd=REPOSITORY, check=True)
    with stages.stage("probe the hosts"):
        probed = run_playbook("probe.yml", site.directory, console=console, log=STATE / "probe.log")
    with stages.stage("decide: llm-size recommend"):
        subprocess.run(
            [str(LLM_SIZE), "recommend", "--site", str(site.directory), "--write"], cwd=REPOSITORY, check=True
        )
    with stages.stage("place: ansible-playbook playbooks/site.yml"):
        placed = run_playbook("site.yml", site.directory, console=console, log=STATE / "site.log")
    with stages.stage("keep what was installed for the next time"):
        _save_layers(made, site)
    with stages.stage("verify: ansible-playbook playbooks/verify.yml"):
        run_playbook("verify.yml", site.directory, console=console, log=STATE / "verify.log")
    with stages.stage("open the gateway on this machine's loopback"):
        access = demo_access.open_gateway(lab=LAB, site=site.directory, state=STATE, gateway_host=site.gateways[0])
    (STATE / "timings.json").write_text(json.dumps(stages.seconds, indent=2) + "\n", encoding="utf-8")
    console.print(stages.table())
    changed = probed.changed_count + placed.changed_count
    if changed == 0:
        console.print("[bold green]Nothing had to be changed on any host (changed=0).[/]")
    else:
        console.print(f"{changed} changes were made on the hosts; run `make demo` again and it is 0.")
    for line in access.lines(report_directory=site.directory / "reports" / "latest"):
        console.print(line, soft_wrap=True, markup=False)
    return 0


def down(console: Console) -> int:
    """Takes the hosts away; leaves caches, the site's vault and the reports."""
    subprocess.run([str(LAB), "down"], check=True)
    console.print("The hosts are gone. Kept: the cache, the inventory (vault, plan, reports), .demo/ (logs, key).")
    return 0


def layer_names(site: DemoSite, prisma_engine: Path) -> dict[str, str]:
    """The overlay layer of each host, named by what it was installed from."""
    engine = f"vllm-{artifacts.lock_digest(artifacts.ENGINE_LOCK)}"
    gateway = f"litellm-{artifacts.lock_digest(artifacts.GATEWAY_LOCK)}-{prisma_engine.name.split('.')[0]}"
    return {**dict.fromkeys(site.gateways, gateway), **dict.fromkeys(site.engine_hosts, engine)}


def _boot(made: artifacts.Artifacts, site: DemoSite, *, bare: bool) -> None:
    status = json.loads(_lab_output("status", "--json"))
    if status.get("up"):
        running = tuple(host["name"] for host in status["hosts"])
        if running != site.hosts:
            raise SystemExit(f"demo: hosts {', '.join(running)} of another site are up; take them down: make demo-down")
        for host in status["hosts"]:
            if not host["running"]:
                subprocess.run([str(LAB), "start", host["name"]], check=True)
                subprocess.run([str(LAB), "wait", host["name"]], check=True)
        return
    command = [str(LAB), "up", str(len(site.hosts))]
    for bind in made.binds(gateways=site.gateways, engine_hosts=site.engine_hosts):
        command += ["--bind", bind]
    if bare:
        command.append("--bare")
    else:
        kept = set(_lab_output("layers").split())
        for host, layer in layer_names(site, made.prisma_engine).items():
            if layer in kept:
                command += ["--layer", f"{host}={layer}"]
    subprocess.run(command, check=True)


def _save_layers(made: artifacts.Artifacts, site: DemoSite) -> None:
    kept = set(_lab_output("layers").split())
    names = layer_names(site, made.prisma_engine)
    for host, directory in ((site.gateways[0], "/opt/litellm"), (site.engine_hosts[0], "/opt/vllm")):
        if names[host] not in kept:
            subprocess.run([str(LAB), "save-layer", host, names[host], directory], check=True)


def _lab_output(*arguments: str) -> str:
    return subprocess.run([str(LAB), *arguments], stdout=subprocess.PIPE, text=True, check=True).stdout


def _link(link: Path, target: Path) -> None:
    if link.is_symlink() and link.readlink() == target:
        return
    link.unlink(missing_ok=True)
    link.symlink_to(target)


if __name__ == "__main__":
    sys.exit(main())

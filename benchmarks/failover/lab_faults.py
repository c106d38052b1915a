"""Faults of a whole site on lab hosts: engines and their parts, hosts and their cables, relays, gateways, databases."""

import json
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle

from benchmarks.errors import BadLoad
from benchmarks.failover.faults import AFTER_STALL_SECONDS, CRASH_GAP_SECONDS
from benchmarks.failover.lab import Lab
from benchmarks.null_process import ROOT
from benchmarks.suites.failover import Fault
from sizing.plan import Plan, PlannedModel
from sizing.relays import Relay

LOOK_SECONDS = 1.0  # each look costs the lab a process in a host
NEW_CONNECTIONS_SECONDS = 4.0  # until another gateway has the address
ROLLING_SECONDS = 1800
SLOW_UNIT = "fault-slow-database"
POSTGRES, REDIS, LITELLM = "postgresql@15-main.service", "redis-server.service", "litellm.service"
DATA = "/var/lib/postgresql"
SLOW = f"""
import subprocess, time
while True:
    for name, seconds in (("SIGSTOP", 0.9), ("SIGCONT", 0.1)):
        subprocess.run(["systemctl", "kill", "--signal=" + name, "--kill-whom=all", "{POSTGRES}"], check=True)
        time.sleep(seconds)
"""
SMALL_DISK = f"""
set -e
size=$(( $(du -sm {DATA} | cut -f1) + 64 ))
trap "systemctl start {POSTGRES}" EXIT
systemctl stop {POSTGRES}
mkdir -p /run/kept && cp -a {DATA}/. /run/kept/
chown --reference={DATA} /run/kept && chmod --reference={DATA} /run/kept
mount -t tmpfs -o size=${{size}}m tmpfs {DATA}
cp -a /run/kept/. {DATA}/ && chown --reference=/run/kept {DATA} && chmod --reference=/run/kept {DATA}
rm -rf /run/kept
"""
OLD_DISK = f"""
set -e
trap "systemctl start {POSTGRES}" EXIT
systemctl stop {POSTGRES}
mkdir -p /run/kept && cp -a {DATA}/. /run/kept/ && umount {DATA} && cp -a /run/kept/. {DATA}/ && rm -rf /run/kept
"""


@dataclass(frozen=True, kw_only=True)
class Ground:
    """What the faults of one site need to know."""

    lab: Lab
    plan: Plan
    model: PlannedModel
    database_host: str
    repeats: int = 1
    rolling_command: Sequence[str] = ()

    @property
    def relay(self) -> Relay:
        """The relay of this model."""
        for relay in self.plan.gateway.relays:
            if relay.model == self.model.name:
                return relay
        raise BadLoad(f"the plan has no relay for {self.model.name}; make it again with `llm-size recommend`")

    @property
    def silence_seconds(self) -> float:
        """What a stream may feel of a silent engine."""
        return self.relay.stall_seconds + AFTER_STALL_SECONDS

    def is_out(self, host: str, engine: str = "") -> bool:
        """Whether some gateway's relay sends nothing to this engine, or to any engine of this host."""
        names = {
            place.id
            for place in self.model.deployments
            if place.host == host and engine in {"", f"vllm@{place.engine}.service"}
        }
        states = (self.lab.relay_states(gateway, self.relay.port) for gateway in self.plan.gateway.hosts)
        return any(state.get(name) == "ejected" for state in states for name in names)


Place = tuple[str, str]  # host, unit


def lab_faults(ground: Ground) -> list[Fault]:
    """All of them, the gentlest first."""
    faults = [*_engine_faults(ground), *_host_faults(ground), *_gateway_faults(ground), *_database_faults(ground)]
    return [*faults, _rolling(ground)] if ground.rolling_command else faults


def _engine_faults(ground: Ground) -> Iterator[Fault]:
    lab = ground.lab
    engines = [(place.host, f"vllm@{place.engine}.service") for place in ground.model.deployments]

    def back(place: Place) -> None:
        lab.run(place[0], "systemctl", "start", place[1])  # returns after a token

    def kill(part: str) -> Callable[[Place], None]:
        return lambda place: lab.signal_member(*place, part, "SIGKILL")

    for part in ("VLLM::EngineCore", "VLLM::Worker"):
        yield _each(
            ground,
            f"{part.removeprefix('VLLM::')} killed (kill -9)",
            engines,
            kill(part),
            back,
            CRASH_GAP_SECONDS,
            watched=True,
        )
    yield _each(
        ground,
        "API server killed (kill -9)",
        engines,
        lambda place: lab.signal_unit(*place, "SIGKILL", whom="main"),
        back,
        CRASH_GAP_SECONDS,
        watched=True,
    )
    yield _each(
        ground,
        "engine stopped (SIGSTOP)",
        engines,
        lambda place: lab.signal_unit(*place, "SIGSTOP"),
        lambda place: lab.signal_unit(*place, "SIGCONT"),
        ground.silence_seconds,
        watched=True,
    )


def _host_faults(ground: Ground) -> Iterator[Fault]:
    lab, silence = ground.lab, ground.silence_seconds
    hosts = [(host, "") for host in dict.fromkeys(place.host for place in ground.model.deployments)]

    def revive(place: Place) -> None:
        engines = [one.engine for one in ground.model.deployments if one.host == place[0]]
        lab.power_on(place[0], *(f"vllm@{engine}.service" for engine in engines))

    yield _each(
        ground,
        "network of an engine host gone",
        hosts,
        lambda place: lab.verb("cut", place[0]),
        lambda place: lab.verb("heal", place[0]),
        silence,
        watched=True,
    )
    yield _each(
        ground,
        "engine host powered off",
        hosts,
        lambda place: lab.verb("kill", place[0]),
        revive,
        silence,
        watched=True,
    )


def _gateway_faults(ground: Ground) -> Iterator[Fault]:
    lab = ground.lab
    gateways = ground.plan.gateway.hosts
    relays = [(host, f"relay@{ground.relay.group}.service") for host in gateways]

    def kill_worker(place: Place) -> None:
        if ground.plan.gateway.workers > 1:
            lab.signal_member(*place, "spawn_main", "SIGKILL")
        else:  # LiteLLM has no other process than the one that answers
            lab.signal_unit(*place, "SIGKILL", whom="main")

    yield _each(
        ground,
        "relay killed (kill -9)",
        relays,
        lambda place: lab.signal_unit(*place, "SIGKILL", whom="main"),
        streams_may_break=True,
    )
    yield _each(
        ground,
        "gateway worker killed (kill -9)",
        [(host, LITELLM) for host in gateways],
        kill_worker,
        lambda place: lab.run(place[0], "systemctl", "start", place[1]),  # returns when it answers
        streams_may_break=True,
    )
    if len(gateways) > 1:
        yield _each(
            ground,
            "gateway host powered off",
            [(host, "") for host in gateways],
            lambda place: lab.verb("kill", place[0]),
            lambda place: lab.power_on(place[0], LITELLM),
            streams_may_break=True,
            new_may_fail_seconds=NEW_CONNECTIONS_SECONDS,
        )


def _database_faults(ground: Ground) -> Iterator[Fault]:
    lab, host = ground.lab, ground.database_host

    def unit(verb: str, name: str) -> Callable[[], None]:
        return lambda: _discard(lab.run(host, "systemctl", verb, name))

    for title, name in (("PostgreSQL", POSTGRES), ("Redis", REDIS)):
        yield Fault(
            name=f"{title} stopped", inject=unit("stop", name), heal=unit("start", name), repeats=ground.repeats
        )

    def slow() -> None:
        lab.run(host, "systemd-run", "--collect", f"--unit={SLOW_UNIT}", "/usr/bin/python3", "-c", SLOW)

    def fast() -> None:
        lab.run(host, "systemctl", "stop", f"{SLOW_UNIT}.service")
        lab.signal_unit(host, POSTGRES, "SIGCONT")

    yield Fault(name="PostgreSQL slow (frozen nine tenths of each second)", inject=slow, heal=fast,
                repeats=ground.repeats)  # fmt: skip
    yield Fault(
        name="disk full on the database host",
        prepare=lambda: _discard(lab.run(host, "/bin/sh", "-c", SMALL_DISK)),
        inject=lambda: _discard(
            lab.run(host, "/bin/sh", "-c", f"dd if=/dev/zero of={DATA}/filler bs=1M 2>&1; df {DATA}")
        ),
        heal=lambda: _discard(lab.run(host, "rm", "-f", f"{DATA}/filler")),
        clean=lambda: _discard(lab.run(host, "/bin/sh", "-c", OLD_DISK)),
        repeats=ground.repeats,
    )


def _rolling(ground: Ground) -> Fault:
    """Everything restarts, one after the other, while the load goes on: the run must be long enough for it."""

    def roll() -> None:
        command = list(ground.rolling_command)
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=ROLLING_SECONDS, check=False)
        if done.returncode:
            raise BadLoad(f"{json.dumps(command)}: exit {done.returncode}: {done.stdout.strip()[-300:]}")

    return Fault(name="rolling restart of everything", inject=roll)


def _each(  # noqa: PLR0917  a table: name, where, break, mend, silence
    ground: Ground,
    name: str,
    places: Sequence[Place],
    break_it: Callable[[Place], object],
    mend_it: Callable[[Place], object] = lambda _: None,
    gap_seconds: float | None = None,
    *,
    streams_may_break: bool = False,
    new_may_fail_seconds: float = 0.0,
    watched: bool = False,
) -> Fault:
    turn = cycle(places)
    current = [places[0]]

    def inject() -> None:
        current[0] = next(turn)
        break_it(current[0])

    return Fault(
        name=name,
        inject=inject,
        heal=lambda: _discard(mend_it(current[0])),
        gap_seconds=gap_seconds,
        streams_may_break=streams_may_break,
        new_may_fail_seconds=new_may_fail_seconds,
        repeats=ground.repeats,
        ejected=(lambda: ground.is_out(*current[0])) if watched else None,
        look_seconds=LOOK_SECONDS,
    )


def _discard(_: object) -> None:
    """What an action printed."""

"""Command line of the failover suite; `cli_suites` gives it its name."""

import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.errors import BadLoad
from benchmarks.failover import loopback
from benchmarks.failover.control import computed
from benchmarks.failover.site import Site
from benchmarks.load import Lengths, Workload
from benchmarks.result import FaultResult, SuiteResult
from benchmarks.running import inline_runner
from benchmarks.suites.failover import Conditions, Fault, failover

_talk = Console(stderr=True)
COLUMNS = (
    "fault", "of", "requests", "failed", "doubled", "altered", "in flight", "broken", "gap p50", "gap p99", "gap max",
    "ejected", "recovery", "texts",
)  # fmt: skip


class Place(StrEnum):
    """Where the suite breaks things."""

    loopback = "loopback"


def failover_command(
    *,
    out: Annotated[Path, typer.Option(help="directory for histories, logs and failover.json; must not exist")],
    site: Annotated[Place, typer.Option(help="loopback: one relay and fault engines, all on this machine")] = (
        Place.loopback
    ),
    faults: Annotated[list[str] | None, typer.Option("--fault", help="only faults whose name contains this")] = None,
    engines: Annotated[int, typer.Option(min=2, help="replicas")] = 2,
    repeats: Annotated[int, typer.Option(min=1, help="runs per fault; engines are broken in turn")] = 1,
    rate: Annotated[float, typer.Option(help="arrivals per second")] = 20.0,
    seconds: Annotated[float, typer.Option(help="arrivals go on for so long")] = 20.0,
    inject_at: Annotated[float, typer.Option(help="second at which the fault strikes")] = 8.0,
    heal_at: Annotated[float, typer.Option(help="second at which it is mended")] = 15.0,
    tokens: Annotated[int, typer.Option(help="tokens per answer")] = 60,
    itl_ms: Annotated[float, typer.Option(help="a fault engine's time per token")] = 50.0,
    unstreamed: Annotated[float, typer.Option(min=0, max=1, help="share of requests that want one whole answer")] = 0.2,
    stall_seconds: Annotated[float, typer.Option(help="the relay's stall timer")] = 2.0,
    json_output: Annotated[bool, typer.Option("--json", help="the result as JSON")] = False,
) -> None:
    """Break what can break under load, check every stream; exit 1 if a criterion failed, 7 if the run is invalid."""
    if out.exists():
        raise BadLoad(f"{out} exists; name a directory that does not")
    conditions = Conditions(
        workload=Workload(
            language="mixed",
            prompt=Lengths(mean_tokens=64, spread_ratio=0.5),
            output=Lengths(mean_tokens=tokens, spread_ratio=0.2),
            unstreamed_ratio=unstreamed,
        ),
        rate_per_second=rate,
        seconds=seconds,
        inject_at_seconds=inject_at,
        heal_at_seconds=heal_at,
    )
    with ExitStack() as stack:
        key = loopback.fresh_key()
        os.environ[loopback.KEY_VARIABLE] = key
        running = stack.enter_context(loopback.fault_engines(engines, key=key, pace={"itl_ms": itl_ms}))
        place = stack.enter_context(
            loopback.relay_site(out / site.value, running, key=key, stall_seconds=stall_seconds, repeats=repeats)
        )
        result = _carry_out(out, place, _chosen(place, faults or []), conditions)
    (out / "failover.json").write_text(result.to_json(), encoding="utf-8")
    if json_output:
        print(result.to_json())
    else:
        _show(result)
    sys.exit({"passed": 0, "invalid": 7}.get(result.verdict, 1))


def _carry_out(out: Path, site: Site, faults: Sequence[Fault], conditions: Conditions) -> SuiteResult:
    load = conditions.load(site.target, name="failover")
    control = computed(load, character=site.character) if site.character is not None else None
    result = failover(
        inline_runner(out / "histories"),
        site.target,
        faults=faults,
        conditions=conditions,
        control=control,
        books=site.books,
        arrangement=site.name,
        tell=lambda found: _talk.print(_line(found), highlight=False, soft_wrap=True),
    )
    return result.model_copy(update={"measurements": tuple(site.meters())})


def _chosen(site: Site, words: Sequence[str]) -> list[Fault]:
    chosen = [fault for fault in site.faults if not words or any(word in fault.name for word in words)]
    if not chosen:
        raise BadLoad(f"no fault is named like {', '.join(words)}; there are {', '.join(f.name for f in site.faults)}")
    return chosen


def _line(found: FaultResult) -> str:
    return (
        f"{found.arrangement}: {found.name}: {found.requests} requests, {found.failed} failed, "
        f"{found.in_flight} in flight of which {found.broken_in_flight} broken, longest silence "
        f"p99 {_seconds(found.gap_p99_seconds)} max {_seconds(found.gap_max_seconds)}, "
        f"ejected after {_seconds(found.ejected_seconds)}"
    )


def _show(result: SuiteResult) -> None:
    console = Console(width=None if sys.stdout.isatty() else 160)
    table = Table(title=f"failover: {result.verdict}")
    for title in COLUMNS:
        table.add_column(title, justify="left" if title in COLUMNS[:2] else "right")
    for found in result.faults:
        numbers = (found.requests, found.failed, found.duplicated, found.lost_or_altered, found.in_flight)
        gaps = (found.gap_p50_seconds, found.gap_p99_seconds, found.gap_max_seconds, found.ejected_seconds)
        table.add_row(
            found.name,
            found.arrangement,
            *map(str, numbers),
            str(found.broken_in_flight),
            *map(_seconds, gaps),
            _seconds(found.recovery_seconds),
            str(found.texts_compared),
        )
    console.print(table)
    for criterion in result.criteria:
        if not criterion.passed:
            console.print(f"FAILED {criterion.name}: agreed {criterion.agreed}, seen {criterion.seen}", markup=False)
    for objection in result.objections:
        console.print(f"INVALID {objection}", markup=False)
    for measured in result.measurements:
        console.print(f"{measured.name}: {measured.value:.1f} {measured.unit}", markup=False)
    for note in result.notes:
        console.print(note, markup=False)


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} s"

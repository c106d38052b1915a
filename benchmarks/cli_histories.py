"""The commands that need no site: calibrate this machine, and read recorded histories."""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmarks.calibrate import STEPS, Step, calibrate
from benchmarks.check_history import GAP_SECONDS, check, reference_of
from benchmarks.history import load_history
from benchmarks.metrics import summarize
from benchmarks.summary_table import summary_table
from benchmarks.validity import objections

_talk = Console(stderr=True)


def calibrate_command(
    json_output: Annotated[bool, typer.Option("--json", help="the answer as JSON")] = False,
    up_to: Annotated[int, typer.Option(help="streams of the last step")] = STEPS[-1],
) -> None:
    """How many streams and chunks per second one process here can hold."""

    def tell(step: Step) -> None:
        verdict = "held" if step.held else "did not hold"
        _talk.print(
            f"{step.streams} streams: {verdict}; {step.events_per_second:.0f} chunks/s, "
            f"{step.cpu_ratio:.0%} of a core, schedule delay p99 {step.schedule_delay_p99_ms:.1f} ms, "
            f"null server {step.server_cpu_ratio:.0%}",
            highlight=False,
            soft_wrap=True,
        )

    found = calibrate(steps=[step for step in STEPS if step <= up_to] or [up_to], tell=tell)
    if json_output:
        print(json.dumps(dataclasses.asdict(found), indent=2))
        return
    at_least = "at least " if found.lower_bound else ""
    print(
        f"one process holds {at_least}{found.capacity.streams} streams, "
        f"{found.capacity.events_per_second:.0f} chunks/s, {found.capacity.bytes_per_stream / 1024:.1f} KiB per stream "
        f"(load average {found.load_average:.1f})"
    )


def summarize_command(
    histories: Annotated[list[Path], typer.Argument(help="history files of one run, or their directory")],
    json_output: Annotated[bool, typer.Option("--json", help="the answer as JSON")] = False,
) -> None:
    """What a recorded run says; exit 7 if it says nothing because the client was overloaded."""
    history = load_history(histories)
    summary, against = summarize(history.records), objections(history)
    if json_output:
        print(json.dumps({**dataclasses.asdict(summary), "objections": against}, indent=2))
    else:
        Console(width=None if sys.stdout.isatty() else 110).print(summary_table(summary))
        for objection in against:
            _talk.print(f"INVALID: {objection}", style="bold red", markup=False)
    raise typer.Exit(7 if against else 0)


def check_history_command(
    histories: Annotated[list[Path], typer.Argument(help="history files of one run, or their directory")],
    reference: Annotated[Path | None, typer.Option(help="an undisturbed run of the same prompts, bodies kept")] = None,
    gap_seconds: Annotated[float, typer.Option(help="longest silence inside a stream")] = GAP_SECONDS,
    json_output: Annotated[bool, typer.Option("--json", help="the answer as JSON")] = False,
) -> None:
    """What no stream may ever do; exit 1 if one did."""
    known = reference_of(load_history([reference])) if reference else None
    verdict = check(load_history(histories), gap_seconds=gap_seconds, reference=known)
    if json_output:
        print(json.dumps(dataclasses.asdict(verdict), indent=2))
    else:
        for defect in verdict.defects:
            print(f"{defect.rule}: {defect.request_id}: {defect.sentence}")
        evidence = ", ".join(f"{count} {name}" for name, count in verdict.evidence.items())
        print(f"{len(verdict.defects)} defects in {verdict.streams} streams (evidence for the text: {evidence})")
    raise typer.Exit(1 if verdict.defects else 0)

"""Locust verdict: what a finished run prints, and the exit code it earns: 0 good, 1 requests failed, 7 the run is
invalid.
"""

import sys
from pathlib import Path

from rich.console import Console

from benchmarks.errors import BadLoad, FailedRun, InvalidRun
from benchmarks.history import SUFFIX, load_history
from benchmarks.metrics import Objective, summarize
from benchmarks.summary_table import summary_table
from benchmarks.validity import Capacity, objections


def conclude(directory: Path, *, run_id: str, capacity: Capacity | None, objective: Objective | None) -> int:
    """Reads the run's raw histories, prints the summary on stdout and objections on stderr."""
    talk, answer = Console(stderr=True), Console(file=sys.stdout, width=None if sys.stdout.isatty() else 110)
    try:
        history = load_history(directory.glob(f"*-{run_id}-*{SUFFIX}"))
    except BadLoad as error:
        talk.print(f"error: {error}", style="red", markup=False)
        return error.exit_code
    if not history.records:
        talk.print("error: no request was made", style="red")
        return InvalidRun.exit_code
    summary = summarize(history.records, objective=objective)
    answer.print(summary_table(summary))
    against = objections(history, capacity)
    for objection in against:
        talk.print(f"INVALID: {objection}", style="bold red", markup=False)
    if against:
        return InvalidRun.exit_code
    return FailedRun.exit_code if summary.failures else 0

"""Suite carry-out: what every suite on the command line has around it: calibration, progress, the directory with
result, pictures and raw histories, a summary on the terminal, and the exit code: 0 passed, 1 failed, 7 invalid.
"""

import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from benchmarks.calibration_process import calibrated
from benchmarks.errors import BadLoad, FailedRun, InvalidRun
from benchmarks.history import History
from benchmarks.load import Load
from benchmarks.record import OK
from benchmarks.result import SuiteResult
from benchmarks.running import Runner, inline_runner, locust_runner, retrying
from benchmarks.suite_options import Manner
from benchmarks.suite_summary import suite_summary
from benchmarks.validity import Capacity

EXIT_CODES = {"passed": 0, "failed": FailedRun.exit_code, "invalid": InvalidRun.exit_code}
HEARTBEAT_SECONDS = 60.0
Suite = Callable[[Runner, Capacity | None], SuiteResult]
_talk = Console(stderr=True)


def tell(sentence: str) -> None:
    """A line of progress."""
    _talk.print(sentence, highlight=False, markup=False, soft_wrap=True)


def carry_out(name: str, suite: Suite, *, manner: Manner, inline: bool = False) -> int:
    """Runs the suite, writes what it found, says it, and returns the exit code. Inline: load comes from this process,
    without the seconds that Locust takes to start."""
    directory = (manner.output or Path("results") / f"{name}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}").resolve()
    if (directory / "result.json").exists():
        raise BadLoad(f"{directory}: holds a result already; name another --output")
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadLoad(f"{directory}: cannot be made: {error.strerror}") from None
    capacity = _calibrated() if manner.calibrate else None
    discarded: list[str] = []
    histories = directory / "histories"
    run = talkative(inline_runner(histories) if inline else locust_runner(histories, processes=manner.processes))
    # A fault strikes once: a run of that suite cannot be made again by itself.
    result = suite(run if inline else retrying(run, times=manner.retries, discarded=discarded), capacity)
    left_out = tuple(f"run again, because this client was late: {reason}" for reason in discarded)
    result = result.model_copy(update={"notes": (*result.notes, *left_out)})
    (directory / "result.json").write_text(result.to_json(), encoding="utf-8")
    _draw(result, directory)
    if manner.json:
        print(result.to_json(), end="")
    else:
        Console(width=None if sys.stdout.isatty() else 110).print(suite_summary(result))
        print(f"result, pictures and raw histories: {directory}")
    return EXIT_CODES.get(result.verdict, FailedRun.exit_code)


def _draw(result: SuiteResult, directory: Path) -> None:
    from benchmarks.acceptance_page import charts_of  # noqa: PLC0415  matplotlib is slow to load and only needed now
    from benchmarks.charts import standalone  # noqa: PLC0415

    for number, chart in enumerate(charts_of(result), start=1):
        (directory / f"picture-{number}.svg").write_text(standalone(chart.svg), encoding="utf-8")


def talkative(run: Runner) -> Runner:
    """The runner, saying before each run what it does, now and then that it still does, and what came of it."""
    number = 0

    def told(load: Load) -> History:
        nonlocal number
        number += 1
        arrivals = load.arrivals
        tell(f"run {number}, {load.name}: {arrivals.duration_seconds:g} s at {arrivals.rate_per_second:.3g} requests/s")
        with _heartbeat(f"run {number}, {load.name}", arrivals.duration_seconds):
            history = run(load)
        classes = Counter(record.outcome for record in history.records if record.outcome != OK)
        failures = ", ".join(f"{count} {name}" for name, count in classes.most_common()) or "none failed"
        tell(f"run {number}, {load.name}: {len(history.records)} requests, {failures}")
        return history

    return told


@contextmanager
def _heartbeat(what: str, seconds: float) -> Iterator[None]:
    over, begun = threading.Event(), time.monotonic()

    def beat() -> None:
        while not over.wait(HEARTBEAT_SECONDS):
            tell(f"{what}: {time.monotonic() - begun:.0f} s gone; requests start during {seconds:g} s")

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _calibrated() -> Capacity:
    tell("calibrating against the null server (--no-calibrate leaves it out)")
    found = calibrated()
    tell(f"one process here holds {found.streams} streams and {found.events_per_second:.0f} chunks/s")
    return found

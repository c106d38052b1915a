"""Running: carries out one Load and returns its history. Suites are given a runner and do not know which.

`locust_runner` starts Locust headless, with as many processes as asked; `inline_runner` drives the streams in this
process, for the smoke suite, calibrations and tests.
"""

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from benchmarks.driver import Driver, Share
from benchmarks.errors import BadLoad, FailedRun, InvalidRun
from benchmarks.history import SUFFIX, History, HistoryWriter, load_history
from benchmarks.leaving import guardian
from benchmarks.load import Load
from benchmarks.null_process import ROOT
from benchmarks.schedule import schedule
from benchmarks.validity import objections
from benchmarks.workload import Workload

Runner = Callable[[Load], History]
_JUDGED_HERE = {0, FailedRun.exit_code, InvalidRun.exit_code}
GRACE_SECONDS = 60


def inline_runner(directory: Path) -> Runner:
    """Runs in this process; the history lands in `directory` all the same."""

    def run(load: Load) -> History:
        plan = schedule(load.arrivals, seed=load.seed)
        run_id = uuid.uuid4().hex[:8]
        with HistoryWriter(
            directory, load=load, run_id=run_id, process="000", started_at=time.time(), scheduled=len(plan.offsets_ns)
        ) as writer:
            workload = Workload(load, run_id=run_id, schedule=plan)
            driver = Driver(load, plan, workload, writer.write, share=Share())
            driver.begin()
            driver.run()
            writer.close(driver.effort)
        return load_history([writer.path])

    return run


def locust_runner(directory: Path, *, processes: int = 1) -> Runner:
    """Runs Locust as operators do."""

    def run(load: Load) -> History:
        directory.mkdir(parents=True, exist_ok=True)
        document = directory / f"{load.name}.load.json"
        document.write_text(load.to_json(), encoding="utf-8")
        before = set(directory.glob(f"*{SUFFIX}"))
        command = [sys.executable, "-m", "locust", "-f", str(ROOT / "benchmarks" / "locustfile.py"), "--headless"]
        command += ["--load", str(document), "--histories", str(directory), "--no-calibrate", "--only-summary"]
        command += ["--users", str(processes), "--spawn-rate", "100"]
        command += ["--processes", str(processes)] if processes > 1 else []
        limit = load.arrivals.duration_seconds + load.patience.total_seconds * load.workload.turns + GRACE_SECONDS
        try:
            returncode, said = _carried_out(command, limit)
        except subprocess.TimeoutExpired:
            raise InvalidRun(f"{load.name}: Locust did not end within {limit:.0f} s") from None
        if returncode not in _JUDGED_HERE:
            lines = [line for line in said.splitlines() if line.strip()]
            raise BadLoad(f"{load.name}: Locust ended with {returncode}: {lines[-1] if lines else 'no message'}")
        return load_history(set(directory.glob(f"*{SUFFIX}")) - before)

    return run


def _carried_out(command: Sequence[str], limit_seconds: float) -> tuple[int, str]:
    """(exit status, standard error) of a program; whatever it started ends with it, and with us."""
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        guardian.watch(process.pid)
        try:
            _, said = process.communicate(timeout=limit_seconds)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            guardian.release(process.pid)
    return process.returncode, said


def retrying(run: Runner, *, times: int, discarded: list[str]) -> Runner:
    """Runs a load again in which this client was late, for a neighbour's burst says nothing about the server. Only the
    client's own faults count, never what the server did; the names of runs left out are appended to `discarded`.
    """

    def again(load: Load) -> History:
        history = run(load)
        for _ in range(times):
            found = objections(history)
            if not found:
                break
            discarded.append(f"{load.name}-{history.run_id}: {found[0]}")
            history = run(load)
        return history

    return again

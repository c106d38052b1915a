"""Locust share: one process's part of a run, carried out inside gevent's hub and written to its own history file."""

import gc
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.driver import Driver, run_in_gevent
from benchmarks.driver import Share as DriverShare
from benchmarks.history import HistoryWriter
from benchmarks.load import Load
from benchmarks.metrics import token_times
from benchmarks.record import OK, Record
from benchmarks.schedule import schedule
from benchmarks.workload import Workload
from sizing.errors import SizingError

PART_BYTES = 1024 * 1024
Fire = Callable[[str, float, int, str], None]  # name, milliseconds, tokens, failure class or ""


@dataclass(frozen=True, kw_only=True)
class Share:
    """The message that starts a process."""

    load: str
    run_id: str
    start_at: float
    directory: str
    host: str
    index: int
    count: int


def carry_out(share: Share, *, fire: Fire, have: Callable[[Driver], None]) -> tuple[Path | None, str]:
    """(history file, "") or (None, what prevented it)."""
    try:
        load = Load.parse(json.loads(share.load), origin="the master's load")
        plan = schedule(load.arrivals, seed=load.seed)
        writer = HistoryWriter(
            Path(share.directory),
            load=load,
            run_id=share.run_id,
            process=f"{share.index:03d}",
            started_at=share.start_at,
            scheduled=len(range(share.index, len(plan.offsets_ns), share.count)),
        )
    except (SizingError, OSError) as error:
        return None, f"process {share.index}: {error}"

    def sink(record: Record) -> None:
        writer.write(record)
        failure = "" if record.outcome == OK else record.outcome
        times, _ = token_times(record)
        if len(times):
            fire("time to first token", (int(times[0]) - record.intended_ns) / 1e6, 0, "")
        fire("end to end", (record.ended_ns - record.intended_ns) / 1e6, len(times), failure)

    with writer:
        workload = Workload(load, run_id=share.run_id, schedule=plan)
        driver = Driver(load, plan, workload, sink, share=DriverShare(index=share.index, count=share.count))
        have(driver)
        gc.collect()
        gc.freeze()  # what exists now need not be looked at again while streams run
        driver.begin(origin_ns=time.monotonic_ns() + int((share.start_at - time.time()) * 1e9))
        run_in_gevent(driver)
        writer.close(driver.effort)
    return writer.path, ""

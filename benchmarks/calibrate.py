"""Calibrate: how many streams and chunks per second one process on this machine can hold, before it is asked to hold
any.

The null server paces 20 chunks/s per stream from another process; the number of streams doubles until the client's
schedule slips (p99 over 100 ms), its core is used up (over 90 %) or a stream fails. The last step that held is the
capacity. If it is the null server that ran out, the capacity is a lower bound, and says so.
"""

import gc
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy

from benchmarks.driver import Driver, Share
from benchmarks.load import Arrivals, Lengths, Load, Target
from benchmarks.load import Workload as WorkloadSpec
from benchmarks.metrics import samples_of
from benchmarks.null_process import null_process
from benchmarks.record import OK, Record
from benchmarks.schedule import schedule
from benchmarks.validity import CPU_RATIO, DELAY_P99_MS, Capacity
from benchmarks.workload import Workload

CHUNKS_PER_SECOND = 20
RAMP_SECONDS = 1.0
HOLD_SECONDS = 3.0
STEPS = (250, 500, 1000, 2000, 4000)
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, kw_only=True)
class Step:
    """One number of streams, held for three seconds."""

    streams: int
    events_per_second: float
    cpu_ratio: float
    server_cpu_ratio: float
    schedule_delay_p50_ms: float
    schedule_delay_p99_ms: float
    itl_p99_ms: float
    bytes_per_stream: int
    failures: int

    @property
    def held(self) -> bool:
        """Whether the client kept its promises."""
        return not self.failures and self.schedule_delay_p99_ms <= DELAY_P99_MS and self.cpu_ratio <= CPU_RATIO


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """All steps and what follows from them."""

    steps: Sequence[Step]
    capacity: Capacity
    lower_bound: bool  # the null server or the list of steps ended first
    load_average: float


def calibrate(*, steps: Sequence[int] = STEPS, tell: Callable[[Step], None] = lambda _: None) -> Calibration:
    """Climbs the steps until one does not hold; a step that does not is tried once more, for a neighbour's burst is
    no limit of this process.
    """
    taken: list[Step] = []
    gc.collect()
    empty_bytes = _resident_bytes()  # before any stream: later steps reuse the memory of earlier ones

    def take(streams: int) -> bool:
        with null_process("--ttft-ms", "1", "--itl-ms", str(1000 / CHUNKS_PER_SECOND)) as (port, server):
            taken.append(hold(streams, port=port, server=server, empty_bytes=empty_bytes))
        tell(taken[-1])
        return taken[-1].held

    for streams in steps:
        if not (take(streams) or take(streams)):
            break
    best = next((step for step in reversed(taken) if step.held), None)
    capacity = Capacity(
        streams=best.streams if best else 0,
        events_per_second=best.events_per_second if best else 0.0,
        bytes_per_stream=best.bytes_per_stream if best else 0,
    )
    server_spent = taken[-1].server_cpu_ratio > CPU_RATIO
    return Calibration(
        steps=taken, capacity=capacity, lower_bound=taken[-1].held or server_spent, load_average=os.getloadavg()[0]
    )


def hold(streams: int, *, port: int, server: int, empty_bytes: int, hold_seconds: float = HOLD_SECONDS) -> Step:
    """Opens `streams` streams over a second and reads them until they end."""
    tokens = round(CHUNKS_PER_SECOND * (RAMP_SECONDS + hold_seconds))
    load = Load(
        name="calibration",
        target=Target(base_url=f"http://127.0.0.1:{port}/v1", model="null", key_variable="LLM_NULL_KEY"),
        arrivals=Arrivals(kind="constant", rate_per_second=streams / RAMP_SECONDS, duration_seconds=RAMP_SECONDS),
        workload=WorkloadSpec(output=Lengths(mean_tokens=tokens)),
    )
    plan = schedule(load.arrivals, seed=1)
    records: list[Record] = []
    driver = Driver(load, plan, Workload(load, run_id="calibration"), records.append, share=Share())
    server_before = _cpu_seconds(server)
    driver.begin()
    driver.run()
    held = slice(int(RAMP_SECONDS), int(RAMP_SECONDS + hold_seconds))
    samples = samples_of(records)
    seconds = max(record.ended_ns for record in records) / 1e9
    return Step(
        streams=streams,
        events_per_second=float(numpy.mean(driver.effort.events[held])),
        cpu_ratio=float(numpy.mean(driver.effort.cpu_ratio[held])),
        server_cpu_ratio=(_cpu_seconds(server) - server_before) / seconds,
        schedule_delay_p50_ms=float(numpy.percentile(samples.schedule_delay_ms, 50)),
        schedule_delay_p99_ms=float(numpy.percentile(samples.schedule_delay_ms, 99)),
        itl_p99_ms=float(numpy.percentile(samples.itl_ms, 99)) if len(samples.itl_ms) else 0.0,
        bytes_per_stream=max(0, _resident_bytes() - empty_bytes) // streams,
        failures=sum(record.outcome != OK for record in records),
    )


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGESIZE")


def _cpu_seconds(process_id: int) -> float:
    fields = Path(f"/proc/{process_id}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / CLOCK_TICKS

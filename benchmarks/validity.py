"""Validity: whether a run says anything about the server, or only about the overloaded client that made it.

Bounds: schedule delay (start - intended start) p50 10 ms and p99 100 ms; 90 % of a core in any one process over 5
seconds; half of what this machine was calibrated to hold; every process alive to the end and every arrival made.
"""

from dataclasses import dataclass

import numpy

from benchmarks.driver import Effort
from benchmarks.history import History
from benchmarks.metrics import samples_of

DELAY_P50_MS = 10.0
DELAY_P99_MS = 100.0
CPU_RATIO = 0.90
CPU_WINDOW_SECONDS = 5
CAPACITY_RATIO = 0.5


@dataclass(frozen=True, kw_only=True)
class Capacity:
    """What one process of this machine holds, measured against the null server."""

    streams: int
    events_per_second: float
    bytes_per_stream: int


def objections(history: History, capacity: Capacity | None = None) -> list[str]:
    """Why the run is invalid; empty = it is valid."""
    found: list[str] = []
    if not history.complete:
        found.append("a load process died: its history has no trailer")
    first_turns = sum(record.turn == 0 for record in history.records)
    if first_turns < history.scheduled_count:
        found.append(f"{history.scheduled_count - first_turns} of {history.scheduled_count} arrivals were never made")
    delays = samples_of(history.records).schedule_delay_ms
    if len(delays):
        p50, p99 = (float(value) for value in numpy.percentile(delays, (50, 99)))
        if p50 > DELAY_P50_MS:
            found.append(f"schedule delay p50 {p50:.1f} ms passes {DELAY_P50_MS:g} ms")
        if p99 > DELAY_P99_MS:
            found.append(f"schedule delay p99 {p99:.1f} ms passes {DELAY_P99_MS:g} ms")
    for number, effort in enumerate(history.efforts):
        busiest = busiest_ratio(effort)
        if busiest > CPU_RATIO:
            found.append(f"load process {number} used {busiest:.0%} of a core for {CPU_WINDOW_SECONDS} s")
        if capacity is not None:
            found.extend(_beyond(effort, capacity, number))
    return found


def busiest_ratio(effort: Effort) -> float:
    """Share of a core in the busiest window of 5 s; of the whole run, if it was shorter."""
    if not effort.cpu_ratio:
        return 0.0
    width = min(CPU_WINDOW_SECONDS, len(effort.cpu_ratio))
    return float(numpy.convolve(effort.cpu_ratio, numpy.ones(width) / width, mode="valid").max())


def _beyond(effort: Effort, capacity: Capacity, number: int) -> list[str]:
    found = []
    if effort.in_flight_peak > capacity.streams * CAPACITY_RATIO:
        found.append(
            f"load process {number} had {effort.in_flight_peak} streams in flight, more than half of the "
            f"{capacity.streams} it holds; use more processes"
        )
    busiest = max(effort.events, default=0)
    if busiest > capacity.events_per_second * CAPACITY_RATIO:
        found.append(
            f"load process {number} read {busiest} chunks in a second, more than half of the "
            f"{capacity.events_per_second:.0f} it holds; use more processes"
        )
    return found

"""Soak: does anything grow while the load stays the same? Drift is a Theil-Sen slope over windows, per hour, with its
interval.
"""

import threading
import time

import numpy

from benchmarks.errors import BadLoad
from benchmarks.intervals import Interval, robust_slope
from benchmarks.load import Arrivals, Load, Target, Workload
from benchmarks.metrics import samples_of, summarize, window
from benchmarks.probes import MemoryOf
from benchmarks.record import Record
from benchmarks.result import Criterion, Series, SuiteResult
from benchmarks.running import Runner
from benchmarks.suites.outcome import Logbook, latency_measurements, measurement, no_failures
from benchmarks.validity import Capacity

QUESTION = "Does latency or memory grow while the load stays the same?"
WINDOWS = 20
HOUR = 3600.0
WATCHED_RATIO = 0.9
Points = list[tuple[float, float]]


def soak(
    run: Runner,
    target: Target,
    *,
    workload: Workload,
    rate_per_second: float,
    seconds: float,
    warmup_seconds: float = 60.0,
    memory: MemoryOf | None = None,
    memory_every_seconds: float = 10.0,
    agreed_latency_drift_ratio: float = 0.05,
    agreed_memory_drift_ratio: float = 0.05,
    capacity: Capacity | None = None,
) -> SuiteResult:
    """One long run at one rate. `memory` gives resident bytes per service."""
    book = Logbook(suite="soak", question=QUESTION, capacity=capacity)
    watched = _Watch(memory, memory_every_seconds)
    with watched:
        history = book.add(
            run(
                Load(
                    name="soak",
                    target=target,
                    arrivals=Arrivals(rate_per_second=rate_per_second, duration_seconds=seconds),
                    workload=workload,
                )
            )
        )
    if memory is None:
        book.notes.append("memory was not watched")
    if watched.failures:
        book.notes.append(f"memory could not be read {len(watched.failures)} times, last: {watched.failures[-1]}")
    records = window(history, warmup_seconds=warmup_seconds)
    criteria = [no_failures(summarize(records))]
    drifts, lines = [], []
    for name, attribute in (("TTFT p50", "ttft_ms"), ("ITL p50", "itl_ms")):
        points = _windows(records, attribute, begin=warmup_seconds, end=seconds)
        lines.append(Series(name=name, unit="ms", points=tuple(points)))
        drift = _drift(points)
        if drift is not None:
            drifts.append(measurement(f"{name} drift", "ms/h", drift))
            criteria.append(_steady(name, drift, points, agreed_latency_drift_ratio, seconds / HOUR))
    for service, points in watched.points.items():
        criteria.append(_watched(service, len(points), watched.looks))
        lines.append(Series(name=f"memory of {service}", unit="bytes", points=tuple(points)))
        drift = _drift([point for point in points if point[0] >= warmup_seconds])
        if drift is not None:
            drifts.append(measurement(f"memory drift of {service}", "bytes/h", drift))
            criteria.append(_steady(f"memory of {service}", drift, points, agreed_memory_drift_ratio, seconds / HOUR))
    return book.result(criteria, measurements=[*drifts, *latency_measurements(records)], series=lines)


class _Watch:
    """Samples memory beside the run. The first look, before it, says which services there are, and fails loudly."""

    def __init__(self, memory: MemoryOf | None, every_seconds: float) -> None:
        self.points: dict[str, Points] = {service: [] for service in memory()} if memory is not None else {}
        self.looks = 0
        self.failures: list[str] = []
        self._memory, self._every, self._over = memory, every_seconds, threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> None:
        if self._memory is not None:
            self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._memory is not None:
            self._thread.join()

    def _sample(self) -> None:
        begun = time.monotonic()
        while self._memory is not None:
            now = time.monotonic() - begun
            self.looks += 1
            try:
                seen = self._memory()
            except BadLoad as error:  # a look that fails is counted against every service: see `_watched`
                self.failures.append(str(error))
                seen = {}
            for service, resident_bytes in seen.items():
                if service in self.points:
                    self.points[service].append((now, float(resident_bytes)))
            if self._over.wait(self._every):
                return


def _windows(records: list[Record], attribute: str, *, begin: float, end: float) -> Points:
    width = (end - begin) / WINDOWS
    points: Points = []
    for number in range(WINDOWS):
        start = begin + number * width
        inside = [record for record in records if start * 1e9 <= record.intended_ns < (start + width) * 1e9]
        values = getattr(samples_of(inside), attribute)
        if len(values):
            points.append((start + width / 2, float(numpy.median(values))))
    return points


def _drift(points: Points) -> Interval | None:
    if len(points) < 5:  # noqa: PLR2004  fewer say nothing about a slope
        return None
    times, values = (numpy.asarray(column, dtype=numpy.float64) for column in zip(*points, strict=True))
    return robust_slope(times / HOUR, values)


def _watched(service: str, seen: int, looks: int) -> Criterion:
    return Criterion(
        name=f"memory of {service} was there to be read",
        agreed=f"at least {WATCHED_RATIO:.0%} of the time",
        seen=f"{seen} of {looks} looks",
        passed=seen >= WATCHED_RATIO * looks,
    )


def _steady(name: str, drift: Interval, points: Points, agreed_ratio: float, hours: float) -> Criterion:
    """Fails only if the whole interval lies beyond the agreed growth. In less than an hour caches still fill, so a
    shorter run is judged by what it grew from beginning to end.
    """
    level = float(numpy.median([value for _, value in points]))
    return Criterion(
        name=f"{name} does not grow",
        agreed=f"at most {agreed_ratio:.0%} of its level {'per hour' if hours >= 1 else 'over the run'}",
        seen=f"{drift.value / level:+.1%} per hour ({drift.low / level:+.1%} to {drift.high / level:+.1%})"
        if level
        else "0",
        passed=drift.low * min(hours, 1.0) <= agreed_ratio * level,
    )

"""Saturation: whether a server keeps up with what is offered, from the slope of its queue and not by eye.

In flight N(t) counts requests from their intended start to their end. If a share b of arrivals is never served, N
grows by b * rate per second; so b = slope(N) / rate, with a t interval over batch means. Saturated means all three:
the interval lies above 0, b passes 2 %, and the growth passes 3 * sqrt(mean N), which chance arrivals alone do not
reach. Only arrivals between warm-up and last arrival count: at the start N grows, at the end it falls, whatever the
server does.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy

from benchmarks.errors import BadLoad
from benchmarks.intervals import Interval, slope_interval
from benchmarks.record import OK, Record

BACKLOG_RATIO = 0.02
CHANCE_DEVIATIONS = 3.0
FAILED_RATIO = 0.01
BATCHES = 12
SAMPLES_PER_BATCH = 20


@dataclass(frozen=True, kw_only=True)
class Queueing:
    """One run's queue."""

    backlog: Interval  # share of arrivals that piles up
    failed_ratio: float
    in_flight_mean: float
    in_flight_growth: float  # over the window

    @property
    def saturated(self) -> bool:
        """Whether more is offered than can be served."""
        by_chance = CHANCE_DEVIATIONS * max(self.in_flight_mean, 1.0) ** 0.5
        grows = self.backlog.low > 0 and self.backlog.value > BACKLOG_RATIO and self.in_flight_growth > by_chance
        return grows or self.failed_ratio > FAILED_RATIO


def queueing(records: Sequence[Record], *, warmup_seconds: float) -> Queueing:
    """The queue of one run; raises BadLoad if nothing arrived after the warm-up."""
    begins = numpy.sort([record.intended_ns for record in records]) / 1e9
    ends = numpy.sort([record.ended_ns for record in records]) / 1e9
    last = float(begins[-1])
    counted = begins[begins >= warmup_seconds]
    if len(counted) < BATCHES or last <= warmup_seconds:
        raise BadLoad(f"{len(counted)} arrivals after {warmup_seconds:g} s of warm-up are too few; lengthen the run")
    times = numpy.linspace(warmup_seconds, last, BATCHES * SAMPLES_PER_BATCH, endpoint=False)
    in_flight = numpy.searchsorted(begins, times, "right") - numpy.searchsorted(ends, times, "right")
    means = in_flight.reshape(BATCHES, -1).mean(axis=1)
    slope = slope_interval(times.reshape(BATCHES, -1).mean(axis=1), means)
    rate = len(counted) / (last - warmup_seconds)
    late = [record for record in records if record.intended_ns >= warmup_seconds * 1e9]
    return Queueing(
        backlog=Interval(value=slope.value / rate, low=slope.low / rate, high=slope.high / rate, count=slope.count),
        failed_ratio=sum(record.outcome != OK for record in late) / len(late),
        in_flight_mean=float(in_flight.mean()),
        in_flight_growth=slope.value * (last - warmup_seconds),
    )

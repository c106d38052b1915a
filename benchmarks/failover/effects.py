"""Effects of a fault on streams: which ones ran when it struck, how long they were silent, when all was well again."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy

from benchmarks.metrics import token_times
from benchmarks.record import OK, Record

NANOSECONDS = 1e9


@dataclass(frozen=True, kw_only=True)
class Silence:
    """The longest silence of each stream that ran when the fault struck, in seconds."""

    streams: int
    p50: float | None
    p99: float | None
    maximum: float | None


def in_flight(records: Sequence[Record], *, at_seconds: float, until_seconds: float | None = None) -> list[Record]:
    """Requests that had been sent and were not over, at that instant or some time between the two."""
    at = at_seconds * NANOSECONDS
    until = at if until_seconds is None else until_seconds * NANOSECONDS
    return [record for record in records if 0 < record.sent_ns <= until and record.ended_ns > at]


def longest_silence(record: Record, *, since_seconds: float) -> float | None:
    """The longest time without a token that reaches beyond that instant, its beginning included; None = no token then.

    A stream that had no token yet waits from that instant on, not from its own start: its prefill is nobody's fault.
    One that was sent later (a fault may last) waits from its own sending.
    """
    since = max(int(since_seconds * NANOSECONDS), record.sent_ns)
    times = token_times(record)[0].tolist()
    if len(times) <= 1 and record.outcome == OK:
        return None  # one whole answer has no silence inside
    points = times if times and times[0] <= since else [since, *times]
    gaps = [later - earlier for earlier, later in pairwise(points) if later > since]
    if record.outcome != OK:
        gaps.append(record.ended_ns - max([*points, since]))
    return max(gaps) / NANOSECONDS if gaps else None


def silence_of(silences: Sequence[float]) -> Silence:
    """All of them in three numbers."""
    if not silences:
        return Silence(streams=0, p50=None, p99=None, maximum=None)
    p50, p99 = numpy.percentile(silences, [50, 99]).tolist()
    return Silence(streams=len(silences), p50=p50, p99=p99, maximum=max(silences))


def recovery_seconds(records: Sequence[Record], *, injected_seconds: float) -> float | None:
    """From the injection to the first success after the last failure; 0 = nobody noticed, None = not within the run."""
    ends = [record.ended_ns / NANOSECONDS for record in records if record.outcome != OK]
    noticed = [end for end in ends if end >= injected_seconds]
    if not noticed:
        return 0.0
    after = [record.intended_ns / NANOSECONDS for record in records if record.outcome == OK]
    healthy = [start for start in after if start >= max(noticed)]
    return min(healthy) - injected_seconds if healthy else None

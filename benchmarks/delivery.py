"""Delivery: what reached clients inside a window of time, whichever requests it belonged to. This is the rate of a
steady state; a run's own total also holds its start and its tail.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.metrics import token_count, token_times
from benchmarks.record import OK, Record


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """Rates inside the window."""

    offered_per_second: float
    completed_per_second: float
    output_tokens_per_second: float


def delivery(records: Sequence[Record], *, begin_seconds: float, end_seconds: float) -> Delivery:
    """Arrivals, completions and tokens between two instants; text events are scaled to the server's token count."""
    begin, end = begin_seconds * 1e9, end_seconds * 1e9
    span = end_seconds - begin_seconds
    inside = events = tokens = 0
    for record in records:
        times, _ = token_times(record)
        inside += int(((times >= begin) & (times < end)).sum())
        events += len(times)
        tokens += token_count(record) if record.outcome == OK else len(times)
    return Delivery(
        offered_per_second=sum(begin <= record.intended_ns < end for record in records) / span,
        completed_per_second=sum(record.outcome == OK and begin <= record.ended_ns < end for record in records) / span,
        output_tokens_per_second=inside * (tokens / events if events else 1.0) / span,
    )

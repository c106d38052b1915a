"""Metrics: what users felt, computed from raw records. Definitions and units stand in README.md and nowhere else
differ.

Every latency counts from the *intended* start, so waiting that the client itself caused is never hidden. Percentiles
are linear interpolations between raw samples; nothing is bucketed.
"""

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy
from numpy.typing import NDArray

from benchmarks.events import ANSWER, KIND_MASK, REASONING
from benchmarks.history import History
from benchmarks.record import OK, Record

FloatSamples = NDArray[numpy.float64]
PERCENTILES = (50, 90, 95, 99, 99.9)
_USAGE = re.compile(rb'"usage"\s*:\s*(\{)')


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Raw samples in milliseconds; one per successful request, ITL one per gap."""

    ttft_ms: FloatSamples
    answer_ms: FloatSamples  # time to first answer token; equals TTFT without reasoning
    tpot_ms: FloatSamples  # requests with two tokens or more
    ntpot_ms: FloatSamples
    e2e_ms: FloatSamples
    itl_ms: FloatSamples
    schedule_delay_ms: FloatSamples  # of all requests, failed ones too
    started_seconds: FloatSamples  # intended start of each successful request, beside the first five


@dataclass(frozen=True, kw_only=True)
class Spread:
    """A distribution in five numbers and its mean."""

    count: int
    mean: float
    p50: float
    p90: float
    p95: float
    p99: float
    p999: float
    maximum: float


@dataclass(frozen=True, kw_only=True)
class Objective:
    """What a request must achieve to count as good. None = no bound."""

    ttft_ms: float | None = None
    tpot_ms: float | None = None
    e2e_ms: float | None = None


@dataclass(frozen=True, kw_only=True)
class Summary:
    """One run (or one window of it) in numbers."""

    requests: int
    succeeded: int
    failures: dict[str, int]
    duration_seconds: float
    offered_per_second: float
    completed_per_second: float
    output_tokens_per_second: float
    total_tokens_per_second: float
    reasoning_tokens: int
    goodput_per_second: float | None
    good_ratio: float | None
    spreads: dict[str, Spread]


def usage_of(record: Record) -> dict[str, Any]:
    """The server's own token counts, or {}."""
    found = _USAGE.search(record.usage)
    if not found:
        return {}
    try:
        usage, _ = json.JSONDecoder().raw_decode(record.usage[found.start(1) :].decode())
    except ValueError:
        return {}
    return usage if isinstance(usage, dict) else {}


def token_times(record: Record) -> tuple[NDArray[numpy.int64], NDArray[numpy.bool_]]:
    """Arrival (ns from origin) of each event that said something, and whether it was reasoning."""
    kinds = numpy.frombuffer(record.event_kind, dtype=numpy.uint8) & KIND_MASK
    spoken = (kinds == ANSWER) | (kinds == REASONING)
    return numpy.frombuffer(record.event_ns, dtype=numpy.int64)[spoken], kinds[spoken] == REASONING


def token_count(record: Record) -> int:
    """Generated tokens: the server's count, or the number of events that said something."""
    counted = usage_of(record).get("completion_tokens")
    return int(counted) if counted is not None else len(token_times(record)[0])


def samples_of(records: Sequence[Record]) -> Samples:
    """Raw samples of a set of records."""
    ttft, answer, tpot, ntpot, e2e, started, gaps = [], [], [], [], [], [], []
    for record in records:
        if record.outcome != OK:
            continue
        times, reasoning = token_times(record)
        tokens = token_count(record)
        total = record.ended_ns - record.intended_ns
        first = int(times[0]) - record.intended_ns
        answers = times[~reasoning]
        ttft.append(first)
        answer.append(int(answers[0]) - record.intended_ns if len(answers) else total)
        e2e.append(total)
        started.append(record.intended_ns * 1e-3)
        ntpot.append(total / max(tokens, 1))
        tpot.append((int(times[-1]) - int(times[0])) / (tokens - 1) if tokens > 1 else numpy.nan)
        gaps.append(numpy.diff(times))
    tpot_ms = _milliseconds(tpot)
    return Samples(
        ttft_ms=_milliseconds(ttft),
        answer_ms=_milliseconds(answer),
        tpot_ms=tpot_ms[~numpy.isnan(tpot_ms)],
        ntpot_ms=_milliseconds(ntpot),
        e2e_ms=_milliseconds(e2e),
        itl_ms=_milliseconds(numpy.concatenate(gaps)) if gaps else _milliseconds([]),
        schedule_delay_ms=_milliseconds([record.started_ns - record.intended_ns for record in records]),
        started_seconds=_milliseconds(started),
    )


def _milliseconds(nanoseconds: Any) -> FloatSamples:
    return numpy.asarray(nanoseconds, dtype=numpy.float64) / 1e6


def spread(samples: FloatSamples) -> Spread:
    """Five percentiles, mean and maximum; zeros where there are no samples."""
    if not len(samples):
        return Spread(count=0, mean=0.0, p50=0.0, p90=0.0, p95=0.0, p99=0.0, p999=0.0, maximum=0.0)
    p50, p90, p95, p99, p999 = (float(value) for value in numpy.percentile(samples, PERCENTILES))
    return Spread(
        count=len(samples),
        mean=float(samples.mean()),
        p50=p50,
        p90=p90,
        p95=p95,
        p99=p99,
        p999=p999,
        maximum=float(samples.max()),
    )


def is_good(record: Record, objective: Objective) -> bool:
    """Whether a request succeeded within every bound."""
    if record.outcome != OK:
        return False
    one = samples_of([record])
    tpot = one.tpot_ms[0] if len(one.tpot_ms) else 0.0
    pairs = ((one.ttft_ms[0], objective.ttft_ms), (tpot, objective.tpot_ms), (one.e2e_ms[0], objective.e2e_ms))
    return all(bound is None or value <= bound for value, bound in pairs)


def window(history: History, *, warmup_seconds: float = 0.0) -> list[Record]:
    """Records intended to start after the warm-up."""
    return [record for record in history.records if record.intended_ns >= warmup_seconds * 1e9]


def summarize(records: Sequence[Record], *, objective: Objective | None = None) -> Summary:
    """A set of records in numbers. The duration runs from the first intended start to the last end."""
    if not records:
        raise ValueError("no records to summarize")
    good = [record for record in records if record.outcome == OK]
    begin = min(record.intended_ns for record in records)
    end = max(record.ended_ns for record in records)
    seconds = max(end - begin, 1) / 1e9
    arrival_span = max(max(record.intended_ns for record in records) - begin, 1) / 1e9
    output = sum(token_count(record) for record in good)
    usages = [usage_of(record) for record in good]
    prompt = sum(
        int(usage.get("prompt_tokens", record.prompt_tokens)) for usage, record in zip(usages, good, strict=True)
    )
    kept = sum(is_good(record, objective) for record in good) if objective is not None else None
    samples = samples_of(records)
    return Summary(
        requests=len(records),
        succeeded=len(good),
        failures=dict(Counter(record.outcome for record in records if record.outcome != OK).most_common()),
        duration_seconds=seconds,
        offered_per_second=(len(records) - 1) / arrival_span if len(records) > 1 else 0.0,
        completed_per_second=len(good) / seconds,
        output_tokens_per_second=output / seconds,
        total_tokens_per_second=(output + prompt) / seconds,
        reasoning_tokens=sum(reasoning_count(record) for record in good),
        goodput_per_second=kept / seconds if kept is not None else None,
        good_ratio=kept / len(records) if kept is not None else None,
        spreads={
            name: spread(getattr(samples, name))
            for name in ("ttft_ms", "answer_ms", "itl_ms", "tpot_ms", "ntpot_ms", "e2e_ms", "schedule_delay_ms")
        },
    )


def reasoning_count(record: Record) -> int:
    """Reasoning tokens: the server's count, or the number of reasoning events."""
    details = usage_of(record).get("completion_tokens_details") or {}
    counted = details.get("reasoning_tokens")
    return int(counted) if counted is not None else int(token_times(record)[1].sum())

"""Schedule: the intended start of every request, as a pure function of the load. Nothing that happens later moves it.

Formulas: Poisson arrivals are cumulated exponential gaps; a ramp from a to b requests/s over D seconds maps a unit
Poisson process through the inverse of L(t) = a*t + (b-a)*t^2/(2D). Share i of n takes arrivals i, i+n, i+2n, ..., so
that any number of worker processes together make exactly the arrivals of one.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy
from numpy.typing import NDArray

from benchmarks.errors import BadLoad
from benchmarks.load import Arrivals

NANOSECONDS = 1_000_000_000
ARRIVALS_MAXIMUM = 20_000_000


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Intended starts in ns from the run's origin, ascending; lengths only where a trace dictates them."""

    offsets_ns: NDArray[numpy.int64]
    prompt_tokens: NDArray[numpy.int64] | None = None
    output_tokens: NDArray[numpy.int64] | None = None


def schedule(arrivals: Arrivals, *, seed: int) -> Schedule:
    """All intended starts of one run."""
    if arrivals.trace is not None:
        return _replayed(arrivals.trace, duration_seconds=arrivals.duration_seconds)
    if arrivals.rate_per_second * arrivals.duration_seconds > ARRIVALS_MAXIMUM:
        raise BadLoad(
            f"{arrivals.rate_per_second:g} requests/s for {arrivals.duration_seconds:g} s are more than "
            f"{ARRIVALS_MAXIMUM:,} requests; shorten the run"
        )
    if arrivals.kind == "constant":
        count = int(numpy.ceil(arrivals.rate_per_second * arrivals.duration_seconds - 1e-9))
        seconds = numpy.arange(count) / arrivals.rate_per_second
    else:
        start = arrivals.ramp_from_per_second if arrivals.kind == "ramp" else arrivals.rate_per_second
        seconds = _poisson(start, arrivals.rate_per_second, arrivals.duration_seconds, seed=seed)
    return Schedule(offsets_ns=(seconds * NANOSECONDS).astype(numpy.int64))


def _poisson(start: float, end: float, duration: float, *, seed: int) -> NDArray[numpy.float64]:
    expected = (start + end) / 2 * duration
    generator = numpy.random.default_rng([seed, 0xA221])
    units = numpy.empty(0)
    while not len(units) or units[-1] < expected:
        gaps = generator.exponential(size=max(64, int(expected * 1.1)))
        units = numpy.concatenate([units, numpy.cumsum(gaps) + (units[-1] if len(units) else 0.0)])
    units = units[units < expected]
    if start == end:
        return numpy.asarray(units / start, dtype=numpy.float64)
    slope = (end - start) / duration
    root = numpy.sqrt(start * start + 2 * slope * units)
    return numpy.asarray(2 * units / (start + root), dtype=numpy.float64)


def _replayed(trace: Path, *, duration_seconds: float) -> Schedule:
    rows: list[tuple[int, int, int]] = []
    try:
        lines = trace.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise BadLoad(f"{trace}: cannot be read: {error.strerror}") from None
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            offset_ns = int(float(row["timestamp"]) * 1_000_000)
            rows.append((offset_ns, int(row.get("input_length", 0)), int(row.get("output_length", 0))))
        except (ValueError, KeyError, TypeError) as error:
            raise BadLoad(f"{trace}: line {number}: no usable `timestamp` in milliseconds ({error!r})") from None
    if not rows:
        raise BadLoad(f"{trace}: holds no arrivals")
    table = numpy.array(sorted(rows), dtype=numpy.int64)
    table[:, 0] -= table[0, 0]
    table = table[table[:, 0] < duration_seconds * NANOSECONDS]
    lengths_given = bool((table[:, 1:] > 0).all())
    return Schedule(
        offsets_ns=table[:, 0],
        prompt_tokens=table[:, 1] if lengths_given else None,
        output_tokens=table[:, 2] if lengths_given else None,
    )

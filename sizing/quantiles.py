"""Quantiles: a stream of positive values in constant memory.

Values fall into buckets whose width grows with the value, 1 % each, so a quantile is right within half a per cent
wherever it lies, and memory depends on the span of the values, not on their number. Mean and ends are exact.
(The idea is that of DDSketch, arXiv 1908.10693.)
"""

from dataclasses import dataclass, replace
from math import exp, log

BUCKET_WIDTH = 0.01
SMALLEST = 1e-9
"""Everything below counts as this: a nanosecond is no time for a person."""


@dataclass(frozen=True, kw_only=True)
class Distribution:
    """What is asked of a stream: count, mean, quantiles, largest."""

    count: int
    mean: float
    p50: float
    p90: float
    p95: float
    p99: float
    largest: float

    def at(self, percentile: float) -> float:
        """One of the quantiles that are kept."""
        kept = {50: self.p50, 90: self.p90, 95: self.p95, 99: self.p99}
        return kept[round(percentile)]

    def times(self, factor: float) -> "Distribution":
        """Every value that many times as large."""
        named = {name: getattr(self, name) * factor for name in ("mean", "p50", "p90", "p95", "p99", "largest")}
        return replace(self, **named)


class Quantiles:
    """The stream."""

    __slots__ = ("_buckets", "_count", "_largest", "_smallest", "_sum")

    def __init__(self) -> None:
        self._buckets: dict[int, float] = {}
        self._count = 0.0
        self._sum = 0.0
        self._smallest = float("inf")
        self._largest = 0.0

    def add(self, value: float, weight: float = 1.0) -> None:
        """A value, seen `weight` times."""
        value = max(value, SMALLEST)
        bucket = int(log(value) / BUCKET_WIDTH + 1e6)
        self._buckets[bucket] = self._buckets.get(bucket, 0.0) + weight
        self._count += weight
        self._sum += value * weight
        self._smallest = min(self._smallest, value)
        self._largest = max(self._largest, value)

    @property
    def count(self) -> float:
        return self._count

    @property
    def bucket_count(self) -> int:
        """How much memory it takes, in buckets."""
        return len(self._buckets)

    def quantile(self, ratio: float) -> float:
        """The value below which this share of the stream lies; 0 of an empty stream."""
        if self._count == 0:
            return 0.0
        wanted, seen = ratio * self._count, 0.0
        for bucket in sorted(self._buckets):
            seen += self._buckets[bucket]
            if seen >= wanted:
                middle = exp((bucket - 1e6 + 0.5) * BUCKET_WIDTH)
                return min(self._largest, max(self._smallest, middle))
        return self._largest

    def distribution(self) -> Distribution:
        """Everything at once."""
        return Distribution(
            count=round(self._count),
            mean=self._sum / self._count if self._count else 0.0,
            p50=self.quantile(0.5),
            p90=self.quantile(0.9),
            p95=self.quantile(0.95),
            p99=self.quantile(0.99),
            largest=self._largest,
        )

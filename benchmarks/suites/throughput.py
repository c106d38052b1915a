"""Throughput: how much can the site serve before its queue grows?

Rates climb by half until the queue grows in most repeats, then the last gap is halved a few times. Every rate runs in
several repeats with different seeds; the warm-up of each is dropped. The best sustained rate is the highest that was
not saturated.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Self

from benchmarks.delivery import delivery
from benchmarks.history import History
from benchmarks.intervals import mean_interval
from benchmarks.load import Arrivals, Load, Target, Workload
from benchmarks.metrics import Objective, samples_of, summarize, window
from benchmarks.record import Record
from benchmarks.result import Criterion, RatePoint, SuiteResult
from benchmarks.running import Runner
from benchmarks.saturation import queueing
from benchmarks.suites.outcome import Logbook, distributions, latency_measurements, measurement
from benchmarks.validity import Capacity

QUESTION = "How many requests and tokens per second does the site sustain, and when does its queue begin to grow?"
CLIMB = 1.5
STEPS_MAXIMUM = 14


def throughput(
    run: Runner,
    target: Target,
    *,
    workload: Workload,
    first_rate: float = 1.0,
    seconds: float = 60.0,
    warmup_seconds: float = 15.0,
    repeats: int = 3,
    halvings: int = 2,
    objective: Objective | None = None,
    agreed_tokens_per_second: float | None = None,
    capacity: Capacity | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> SuiteResult:
    """Sweeps the rate to saturation."""
    objective = objective or Objective()
    book = Logbook(suite="throughput", question=QUESTION, capacity=capacity)
    taken: dict[float, _Step] = {}

    def take(rate: float) -> bool:
        runs = []
        for repeat in range(repeats):
            load = Load(
                name=f"throughput-{rate:.3g}-{repeat}",
                target=target,
                arrivals=Arrivals(rate_per_second=rate, duration_seconds=seconds),
                workload=workload,
                seed=repeat + 1,
            )
            runs.append(book.add(run(load)))
        step = taken[rate] = _Step.of(runs, objective, warmup_seconds=warmup_seconds, seconds=seconds)
        point = step.point
        tell(
            f"{rate:.2f} requests/s: {point.output_tokens_per_second:.0f} tokens/s, "
            f"TTFT p50 {point.ttft_p50_ms:.0f} ms, "
            f"queue grows by {point.backlog_ratio:.1%} of arrivals{', saturated' if point.saturated else ''}"
        )
        return point.saturated

    good, bad = _climb(take, first_rate)
    for _ in range(halvings if good and bad else 0):
        middle = ((good or 0) + (bad or 0)) / 2
        good, bad = (good, middle) if take(middle) else (middle, bad)
    if bad is None:
        book.notes.append(f"not saturated at {max(taken):.3g} requests/s, the last rate tried")
    best = taken[good] if good else None
    measured = []
    if best is not None:
        measured = [
            measurement("best sustained output", "tokens/s", mean_interval(best.tokens_per_second)),
            *latency_measurements(best.records, prefix="at the best rate, "),
        ]
    return book.result(
        _criteria(best.point if best else None, agreed_tokens_per_second),
        rate_points=[taken[rate].point for rate in sorted(taken)],
        measurements=measured,
        distributions=distributions(samples_of(best.records)) if best else [],
    )


@dataclass(frozen=True, kw_only=True)
class _Step:
    """One rate: its point on the curve, its requests after warm-up, and each repeat's own rate of tokens."""

    point: RatePoint
    records: Sequence[Record]
    tokens_per_second: Sequence[float]

    @classmethod
    def of(cls, runs: Sequence[History], objective: Objective, *, warmup_seconds: float, seconds: float) -> Self:
        queues = [queueing(run.records, warmup_seconds=warmup_seconds) for run in runs]
        rates = [delivery(run.records, begin_seconds=warmup_seconds, end_seconds=seconds) for run in runs]
        records = [record for run in runs for record in window(run, warmup_seconds=warmup_seconds)]
        summary = summarize(records, objective=objective)
        middle = sorted(queues, key=lambda queue: queue.backlog.value)[len(queues) // 2]
        tokens = [rate.output_tokens_per_second for rate in rates]
        point = RatePoint(
            offered_per_second=fmean(rate.offered_per_second for rate in rates),
            completed_per_second=fmean(rate.completed_per_second for rate in rates),
            output_tokens_per_second=fmean(tokens),
            ttft_p50_ms=summary.spreads["ttft_ms"].p50,
            ttft_p99_ms=summary.spreads["ttft_ms"].p99,
            itl_p50_ms=summary.spreads["itl_ms"].p50,
            itl_p99_ms=summary.spreads["itl_ms"].p99,
            good_ratio=summary.good_ratio,
            failed_count=summary.requests - summary.succeeded,
            backlog_ratio=middle.backlog.value,
            backlog_low=middle.backlog.low,
            backlog_high=middle.backlog.high,
            saturated=sum(queue.saturated for queue in queues) * 2 > len(queues),
            repeats=len(queues),
        )
        return cls(point=point, records=records, tokens_per_second=tokens)


def _climb(saturated: Callable[[float], bool], rate: float) -> tuple[float | None, float | None]:
    """(highest sustained rate, lowest saturated rate); either may be None."""
    good = None
    for _ in range(STEPS_MAXIMUM):
        if saturated(rate):
            return good, rate
        good, rate = rate, rate * CLIMB
    return good, None


def _criteria(best: RatePoint | None, agreed: float | None) -> list[Criterion]:
    seen = f"{best.output_tokens_per_second:.0f} tokens/s" if best else "saturated at the first rate"
    if agreed is None:
        passed = best is not None
        return [Criterion(name="a sustained rate was found", agreed="yes", seen=seen, passed=passed)]
    passed = best is not None and best.output_tokens_per_second >= agreed
    return [Criterion(name="sustained output", agreed=f"at least {agreed:g} tokens/s", seen=seen, passed=passed)]

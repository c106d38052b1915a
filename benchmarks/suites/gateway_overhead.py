"""Gateway overhead: what does the way through the gateway add to the same request sent straight to the engine?

Short runs alternate in the order A B B A A B B A ..., so that a drift of the machine falls on both sides alike. Each
pair gives one difference; the interval is over pairs. Pairs of the same side (A A, B B) show how much of it is noise.
"""

from collections.abc import Sequence

import numpy

from benchmarks.delivery import delivery
from benchmarks.history import History
from benchmarks.intervals import mean_interval
from benchmarks.load import Arrivals, Load, Target, Workload
from benchmarks.metrics import Samples, samples_of, summarize, window
from benchmarks.result import Criterion, SuiteResult
from benchmarks.running import Runner
from benchmarks.suites.gateway_scaling import Scaling, scaling
from benchmarks.suites.outcome import Logbook, bound, distributions, measurement, no_failures
from benchmarks.validity import Capacity

QUESTION = "How much time does the gateway add, and what share of the engine's throughput passes through it?"


def gateway_overhead(
    run: Runner,
    *,
    gateway: Target,
    engine: Target,
    workload: Workload,
    rate_per_second: float,
    pairs: int = 6,
    seconds: float = 20.0,
    warmup_seconds: float = 2.0,
    agreed_ttft_ms: float | None = None,
    agreed_itl_ms: float | None = None,
    scaled: Scaling | None = None,
    capacity: Capacity | None = None,
) -> SuiteResult:
    """Interleaved A/B at one rate that both sides sustain; on request, what a full gateway delivers by workers."""
    book = Logbook(suite="gateway_overhead", question=QUESTION, capacity=capacity)
    sides: dict[str, list[History]] = {"gateway": [], "engine": []}
    for number in range(pairs):
        order = ("gateway", "engine") if number % 2 == 0 else ("engine", "gateway")
        for side in order:
            load = Load(
                name=f"overhead-{side}-{number}",
                target=gateway if side == "gateway" else engine,
                arrivals=Arrivals(rate_per_second=rate_per_second, duration_seconds=seconds),
                workload=workload,
                seed=number + 1,
            )
            sides[side].append(book.add(run(load)))
    through, straight = (
        [samples_of(window(history, warmup_seconds=warmup_seconds)) for history in sides[side]]
        for side in ("gateway", "engine")
    )
    rates = {
        side: [
            delivery(history.records, begin_seconds=warmup_seconds, end_seconds=seconds).output_tokens_per_second
            for history in histories
        ]
        for side, histories in sides.items()
    }
    added = {
        f"added {name} {point}": mean_interval(_differences(through, straight, attribute, quantile))
        for name, attribute in (("TTFT", "ttft_ms"), ("ITL", "itl_ms"), ("E2E", "e2e_ms"))
        for point, quantile in (("p50", 0.50), ("p99", 0.99))
    }
    ratio = mean_interval([a / b for a, b in zip(rates["gateway"], rates["engine"], strict=True) if b])
    everything = [record for histories in sides.values() for history in histories for record in history.records]
    criteria: list[Criterion] = [no_failures(summarize(everything))]
    criteria += bound("added TTFT p50, upper end of its interval", added["added TTFT p50"].high, agreed_ttft_ms)
    criteria += bound("added ITL p50, upper end of its interval", added["added ITL p50"].high, agreed_itl_ms)
    if scaled is None:
        book.notes.append("chunks/s per worker were not measured")
    return book.result(
        criteria,
        measurements=[
            *(measurement(name, "ms", interval) for name, interval in added.items()),
            measurement("throughput through the gateway / straight", "ratio", ratio),
            measurement("noise: TTFT p50 of one side against itself", "ms", mean_interval(_noise(through, straight))),
            *(scaling(run, book, scaled) if scaled is not None else []),
        ],
        distributions=[
            *distributions(_pooled(sides["gateway"], warmup_seconds), prefix="gateway "),
            *distributions(_pooled(sides["engine"], warmup_seconds), prefix="engine "),
        ],
    )


def _differences(one: Sequence[Samples], other: Sequence[Samples], attribute: str, quantile: float) -> list[float]:
    return [
        float(numpy.quantile(getattr(a, attribute), quantile) - numpy.quantile(getattr(b, attribute), quantile))
        for a, b in zip(one, other, strict=True)
        if len(getattr(a, attribute)) and len(getattr(b, attribute))
    ]


def _noise(*sides: Sequence[Samples]) -> list[float]:
    """Absolute differences of neighbouring runs of the same side."""
    return [abs(difference) for side in sides for difference in _differences(side[1:], side[:-1], "ttft_ms", 0.50)]


def _pooled(histories: Sequence[History], warmup_seconds: float) -> Samples:
    return samples_of([record for history in histories for record in window(history, warmup_seconds=warmup_seconds)])

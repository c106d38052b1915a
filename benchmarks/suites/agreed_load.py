"""Agreed load: at the load that was agreed before the run, do requests meet the agreed times? No search, no sweep."""

from benchmarks.load import Arrivals, Load, Target, Workload
from benchmarks.metrics import Objective, samples_of, summarize, window
from benchmarks.result import SuiteResult
from benchmarks.running import Runner
from benchmarks.suites.outcome import (
    Logbook,
    distributions,
    latency_measurements,
    no_failures,
    objective_criteria,
)
from benchmarks.validity import Capacity

QUESTION = "At the agreed load, does the agreed share of requests meet the agreed times?"


def agreed_load(
    run: Runner,
    target: Target,
    *,
    workload: Workload,
    rate_per_second: float,
    seconds: float,
    warmup_seconds: float,
    objective: Objective,
    share: float,
    allowed_failed_ratio: float = 0.0,
    capacity: Capacity | None = None,
) -> SuiteResult:
    """Poisson arrivals at one rate; the warm-up is left out."""
    book = Logbook(suite="agreed_load", question=QUESTION, capacity=capacity)
    arrivals = Arrivals(rate_per_second=rate_per_second, duration_seconds=seconds)
    history = book.add(run(Load(name="agreed-load", target=target, arrivals=arrivals, workload=workload)))
    records = window(history, warmup_seconds=warmup_seconds)
    if not records:
        book.objections.append(f"no request was due after the warm-up of {warmup_seconds:g} s")
        return book.result([])
    summary = summarize(records, objective=objective)
    criteria = [
        no_failures(summary, allowed_ratio=allowed_failed_ratio),
        *objective_criteria(summary, objective, share=share),
    ]
    return book.result(
        criteria,
        measurements=latency_measurements(records),
        distributions=distributions(samples_of(records)),
    )

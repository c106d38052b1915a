"""Smoke: does the site answer at all, in both languages, with whole texts? A minute."""

from benchmarks.check_history import check
from benchmarks.load import Arrivals, Lengths, Load, Target, Workload
from benchmarks.metrics import Objective, samples_of, summarize
from benchmarks.result import SuiteResult
from benchmarks.running import Runner
from benchmarks.suites.outcome import (
    Logbook,
    distributions,
    latency_measurements,
    no_defects,
    no_failures,
    objective_criteria,
)
from benchmarks.validity import Capacity

PROMPT = Lengths(mean_tokens=128, spread_ratio=0.3)
QUESTION = "Does the site answer every request, with whole and unmixed texts?"


def smoke(
    run: Runner,
    target: Target,
    *,
    seconds: float = 60.0,
    rate_per_second: float = 1.0,
    objective: Objective | None = None,
    share: float = 0.99,
    prompt: Lengths = PROMPT,
    capacity: Capacity | None = None,
) -> SuiteResult:
    """Poisson arrivals of short chats, half Korean, half English."""
    objective = objective or Objective()
    book = Logbook(suite="smoke", question=QUESTION, capacity=capacity)
    load = Load(
        name="smoke",
        target=target,
        arrivals=Arrivals(rate_per_second=rate_per_second, duration_seconds=seconds),
        workload=Workload(language="mixed", prompt=prompt, output=Lengths(mean_tokens=32, spread_ratio=0.3)),
        keep_bodies=True,
    )
    history = book.add(run(load))
    summary = summarize(history.records, objective=objective)
    criteria = [
        no_failures(summary),
        no_defects(check(history).defects),
        *objective_criteria(summary, objective, share=share),
    ]
    return book.result(
        criteria,
        measurements=latency_measurements(history.records),
        distributions=distributions(samples_of(history.records)),
    )

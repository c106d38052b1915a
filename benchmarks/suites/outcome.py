"""Outcome: the pieces that every suite's result is put together from."""

import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from benchmarks.check_history import Defect
from benchmarks.history import History
from benchmarks.intervals import Interval, cdf, percentile_interval
from benchmarks.metrics import Objective, Samples, Summary, samples_of, token_times
from benchmarks.record import OK, Record
from benchmarks.result import Criterion, Distribution, Measurement, SuiteResult, Verdict
from benchmarks.validity import Capacity, objections

DEFECTS_SHOWN = 5


@dataclass(kw_only=True)
class Logbook:
    """Gathers a suite's evidence while it runs."""

    suite: str
    question: str
    capacity: Capacity | None = None
    timed: bool = True  # False = nothing in it is a time, so that a late client changes no verdict
    started: float = field(default_factory=time.monotonic)
    load_before: float = field(default_factory=lambda: os.getloadavg()[0])
    started_at: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    objections: list[str] = field(default_factory=list)
    histories: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, history: History) -> History:
        """Notes a run and whatever speaks against it."""
        name = f"{history.load.name}-{history.run_id}"
        self.histories.append(name)
        found = [f"{name}: {objection}" for objection in objections(history, self.capacity)]
        (self.objections if self.timed else self.notes).extend(found)
        return history

    def result(self, criteria: Sequence[Criterion], **parts: object) -> SuiteResult:
        """The finished result: invalid if any run was, else passed if every criterion was."""
        verdict: Verdict = "passed" if all(criterion.passed for criterion in criteria) else "failed"
        return SuiteResult.model_validate(
            {
                "suite": self.suite,
                "question": self.question,
                "verdict": "invalid" if self.objections else verdict,
                "started_at": self.started_at,
                "duration_seconds": round(time.monotonic() - self.started, 1),
                "criteria": tuple(criteria),
                "objections": tuple(self.objections),
                "notes": (*self.notes, self._machine()),
                "histories": tuple(self.histories),
                **parts,
            }
        )

    def _machine(self) -> str:
        return (
            f"the machine that made the load has {os.cpu_count()} cores; load average {self.load_before:.1f} before, "
            f"{os.getloadavg()[0]:.1f} after"
        )


def measurement(name: str, unit: str, interval: Interval) -> Measurement:
    """An interval as a measurement."""
    return Measurement(
        name=name, unit=unit, value=interval.value, low=interval.low, high=interval.high, count=interval.count
    )


def latency_measurements(records: Sequence[Record], *, prefix: str = "") -> list[Measurement]:
    """p50, p95 and p99 of TTFT, E2E, TPOT and ITL, with intervals over requests."""
    good = [record for record in records if record.outcome == OK]
    samples = samples_of(good)
    gaps = [(times[1:] - times[:-1]) / 1e6 for times in (token_times(record)[0] for record in good)]
    rows = [
        ("TTFT", list(samples.ttft_ms)),
        ("TPOT", list(samples.tpot_ms)),
        ("E2E", list(samples.e2e_ms)),
        ("ITL", gaps),
    ]
    return [
        measurement(f"{prefix}{name} p{quantile * 100:g}", "ms", percentile_interval(groups, quantile))
        for name, groups in rows
        for quantile in (0.50, 0.95, 0.99)
    ]


def distributions(samples: Samples, *, prefix: str = "") -> list[Distribution]:
    """TTFT, ITL and E2E for drawing."""
    rows = (("TTFT", samples.ttft_ms), ("ITL", samples.itl_ms), ("E2E", samples.e2e_ms))
    return [
        Distribution(name=prefix + name, unit="ms", count=len(values), quantiles=cdf(values)) for name, values in rows
    ]


def no_failures(summary: Summary, *, allowed_ratio: float = 0.0) -> Criterion:
    """At most that share of requests failed."""
    failed = summary.requests - summary.succeeded
    classes = ", ".join(f"{count} {name}" for name, count in summary.failures.items())
    return Criterion(
        name="requests that failed",
        agreed=f"at most {allowed_ratio:.2%}",
        seen=f"{failed} of {summary.requests}" + (f" ({classes})" if classes else ""),
        passed=failed <= allowed_ratio * summary.requests,
    )


def no_defects(defects: Iterable[Defect]) -> Criterion:
    """The history checker found nothing."""
    found = list(defects)
    shown = "; ".join(f"{defect.rule} in {defect.request_id}: {defect.sentence}" for defect in found[:DEFECTS_SHOWN])
    return Criterion(
        name="streams as they must be (no text lost, doubled or strayed)",
        agreed="no defect",
        seen=f"{len(found)} defects: {shown}" if found else "no defect",
        passed=not found,
    )


def bound(name: str, value: float, limit: float | None, *, unit: str = "ms") -> list[Criterion]:
    """A criterion `value <= limit`, or none where no limit was agreed."""
    if limit is None:
        return []
    return [Criterion(name=name, agreed=f"at most {limit:g} {unit}", seen=f"{value:.1f} {unit}", passed=value <= limit)]


def objective_criteria(summary: Summary, objective: Objective, *, share: float) -> list[Criterion]:
    """At least that share of requests was good."""
    bounds = {"TTFT": objective.ttft_ms, "TPOT": objective.tpot_ms, "E2E": objective.e2e_ms}
    agreed = ", ".join(f"{name} within {value:g} ms" for name, value in bounds.items() if value is not None)
    if not agreed or summary.good_ratio is None:
        return []
    return [
        Criterion(
            name="requests within the objective",
            agreed=f"{share:.1%} with {agreed}",
            seen=f"{summary.good_ratio:.1%}",
            passed=summary.good_ratio >= share,
        )
    ]

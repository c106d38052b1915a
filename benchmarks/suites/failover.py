"""Failover: what do clients see while something breaks? Each fault is injected under a steady load whose texts are
kept and checked. The faults themselves come from outside, as pairs of actions: this module knows no hosts.
"""

import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from benchmarks.check_history import GAP_SECONDS, Defect, Reference, check
from benchmarks.load import Arrivals, Load, Target, Workload
from benchmarks.metrics import samples_of, summarize
from benchmarks.record import OK, Record
from benchmarks.result import Criterion, FaultResult, SuiteResult
from benchmarks.running import Runner
from benchmarks.suites.outcome import Logbook, distributions, no_failures

QUESTION = "What do clients see while something breaks, and how soon is it over?"
TEXT_RULES = {"missing", "foreign", "altered"}


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Something to break and to mend again."""

    name: str
    inject: Callable[[], None]
    heal: Callable[[], None] = lambda: None


def failover(
    run: Runner,
    target: Target,
    *,
    faults: Sequence[Fault],
    workload: Workload,
    rate_per_second: float,
    seconds: float = 60.0,
    inject_at_seconds: float = 15.0,
    heal_at_seconds: float = 40.0,
    gap_seconds: float = GAP_SECONDS,
    reference: Reference | None = None,
    allowed_failed_ratio: float = 0.0,
    agreed_recovery_seconds: float | None = None,
) -> SuiteResult:
    """One run per fault."""
    book = Logbook(suite="failover", question=QUESTION)
    criteria: list[Criterion] = []
    results: list[FaultResult] = []
    everything: list[Record] = []
    for fault in faults:
        load = Load(
            name="failover-" + re.sub(r"[^A-Za-z0-9._-]+", "-", fault.name),
            target=target,
            arrivals=Arrivals(rate_per_second=rate_per_second, duration_seconds=seconds),
            workload=workload,
            nonce="failover",
            keep_bodies=True,
        )
        broken = threading.Event()
        instants: list[datetime] = []

        def breaking(
            fault: Fault = fault, broken: threading.Event = broken, instants: list[datetime] = instants
        ) -> None:
            if not broken.wait(inject_at_seconds):
                instants.append(datetime.now(UTC))
                fault.inject()
                broken.wait(heal_at_seconds - inject_at_seconds)
                fault.heal()

        thread = threading.Thread(target=breaking, daemon=True)
        thread.start()
        history = book.add(run(load))
        broken.set()
        thread.join()
        defects = check(history, gap_seconds=gap_seconds, reference=reference).defects
        injected = instants[0].timestamp() - history.started_at if instants else inject_at_seconds
        result = _result(fault.name, history.records, defects, injected)
        results.append(result)
        everything.extend(history.records)
        criteria.append(_named(no_failures(summarize(history.records), allowed_ratio=allowed_failed_ratio), fault.name))
        criteria.append(_whole(result, defects))
        if agreed_recovery_seconds is not None:
            seen = "not within the run" if result.recovery_seconds is None else f"{result.recovery_seconds:.1f} s"
            in_time = result.recovery_seconds is not None and result.recovery_seconds <= agreed_recovery_seconds
            criteria.append(
                Criterion(
                    name=f"{fault.name}: recovery",
                    agreed=f"within {agreed_recovery_seconds:g} s",
                    seen=seen,
                    passed=in_time,
                )
            )
    return book.result(criteria, faults=results, distributions=distributions(samples_of(everything)))


def _result(name: str, records: Sequence[Record], defects: Sequence[Defect], injected: float) -> FaultResult:
    failed = [record for record in records if record.outcome != OK]
    return FaultResult(
        name=name,
        injected_seconds=injected,
        requests=len(records),
        failed=len(failed),
        duplicated=len({defect.request_id for defect in defects if defect.rule == "duplicate"}),
        lost_or_altered=len({defect.request_id for defect in defects if defect.rule in TEXT_RULES}),
        recovery_seconds=recovery_seconds(records, injected_seconds=injected),
    )


def recovery_seconds(records: Sequence[Record], *, injected_seconds: float) -> float | None:
    """From the injection to the first success after the last failure; 0 = nobody noticed, None = not within the run."""
    ends = [record.ended_ns / 1e9 for record in records if record.outcome != OK]
    noticed = [end for end in ends if end >= injected_seconds]
    if not noticed:
        return 0.0
    after = [record.intended_ns / 1e9 for record in records if record.outcome == OK]
    healthy = [start for start in after if start >= max(noticed)]
    return min(healthy) - injected_seconds if healthy else None


def _named(criterion: Criterion, fault: str) -> Criterion:
    return criterion.model_copy(update={"name": f"{fault}: {criterion.name}"})


def _whole(result: FaultResult, defects: Sequence[Defect]) -> Criterion:
    found = [defect for defect in defects if defect.rule in TEXT_RULES | {"duplicate", "gap", "done_after_error"}]
    return Criterion(
        name=f"{result.name}: texts whole and in order, no long silence",
        agreed="no defect",
        seen=f"{len(found)} defects" + (f", first: {found[0].sentence}" if found else ""),
        passed=not found,
    )

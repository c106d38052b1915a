"""Failover: what do clients see while something breaks? Each fault is injected under a steady load whose texts are
kept and checked. The faults themselves come from outside, as pairs of actions: this module knows no hosts.
"""

import re
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.check_history import Defect, check, reference_of
from benchmarks.failover.books import Audit, Book
from benchmarks.failover.control import Control
from benchmarks.failover.effects import in_flight, longest_silence, recovery_seconds
from benchmarks.failover.findings import Findings, Restart, criteria_of, none_of_the_new_failed, result_of
from benchmarks.history import History
from benchmarks.load import Arrivals, Load, Target, Workload
from benchmarks.metrics import samples_of
from benchmarks.record import OK, Record
from benchmarks.result import Criterion, FaultResult, SuiteResult
from benchmarks.running import Runner
from benchmarks.suites.outcome import Logbook, distributions
from benchmarks.validity import Capacity
from sizing.errors import SizingError

QUESTION = "What do clients see while something breaks, and how soon is it over?"
APPLIANCE = "appliance"
GAP_SECONDS = 5.0
THREAD_SECONDS = 600.0
BACK_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Something to break and to mend again, and what may be felt of it."""

    name: str
    inject: Callable[[], None]
    heal: Callable[[], None] = lambda: None
    prepare: Callable[[], None] = lambda: None  # before the first run, and what undoes it after the last
    clean: Callable[[], None] = lambda: None
    gap_seconds: float | None = None  # longest silence that a stream may show; None = the suite's
    streams_may_break: bool = False  # those that ran: with an error, never with a false end
    new_may_fail_seconds: float = 0.0  # from the injection on
    hits_running: bool = True  # it proves something only if requests were under way when it struck
    repeats: int = 1
    ejected: Callable[[], bool] | None = None  # asked from the injection on, until it has come back
    look_seconds: float = 0.1  # between two such questions


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """How each fault is tried."""

    workload: Workload
    rate_per_second: float
    seconds: float = 60.0
    inject_at_seconds: float = 15.0
    heal_at_seconds: float = 40.0
    gap_seconds: float = GAP_SECONDS
    allowed_failed_ratio: float = 0.0
    agreed_recovery_seconds: float | None = None
    agreed_new_requests: int | None = None  # so many over all faults, and none of them failed

    def load(self, target: Target, *, name: str) -> Load:
        """The load: the same prompts at the same instants whatever breaks."""
        return Load(
            name=name,
            target=target,
            arrivals=Arrivals(rate_per_second=self.rate_per_second, duration_seconds=self.seconds),
            workload=self.workload,
            nonce="failover",
            keep_bodies=True,
        )


@dataclass(frozen=True, kw_only=True)
class Strike:
    """When it was broken, in seconds of the run: the action begins, is over; somebody begins to mend it."""

    begun: float
    done: float
    mended: float


def failover(
    run: Runner,
    target: Target,
    *,
    faults: Sequence[Fault],
    conditions: Conditions,
    control: Control | None = None,
    books: Sequence[Book] = (),
    arrangement: str = APPLIANCE,
    capacity: Capacity | None = None,
    tell: Callable[[FaultResult], None] = lambda _: None,
) -> SuiteResult:
    """One run per fault and repeat. What stands beside the appliance is measured in the same way, but not judged."""
    book = Logbook(suite="failover", question=QUESTION, capacity=capacity)
    if control is not None:
        book.notes.append(
            f"texts: {len(control.texts)} held against ({control.how})"
            + (f"; {control.unstable} left out, because undisturbed runs differ in them" if control.unstable else "")
        )
    criteria: list[Criterion] = []
    results: list[FaultResult] = []
    everything: list[Record] = []
    for fault in faults:
        gap = conditions.gap_seconds if fault.gap_seconds is None else fault.gap_seconds
        found = Findings(name=fault.name, repeats=fault.repeats, gap_seconds=gap, hits_running=fault.hits_running)
        try:
            fault.prepare()
            for repeat in range(fault.repeats):
                name = "-".join(["failover", arrangement, fault.name, str(repeat)])
                load = conditions.load(target, name=re.sub(r"[^A-Za-z0-9._-]+", "-", name))
                audit = Audit(books)
                history, strike = _broken_run(run, load, fault, found, conditions)
                _note(found, book.add(history), strike, fault, conditions, control)
                found.accounts.extend(audit.close(history))
        except (SizingError, OSError) as error:  # of this fault: what the others show is not lost with it
            criteria.append(Criterion(name=f"{fault.name}: was staged", agreed="yes", seen=str(error), passed=False))
        finally:
            fault.clean()
        if not found.injected:
            continue
        result = result_of(found, arrangement)
        if arrangement == APPLIANCE:
            judged = criteria_of(
                found,
                result,
                allowed_failed_ratio=conditions.allowed_failed_ratio,
                agreed_recovery_seconds=conditions.agreed_recovery_seconds,
                compares=control is not None,
            )
            criteria.extend(judged)
            result = result.model_copy(update={"held": all(criterion.passed for criterion in judged)})
        results.append(result)
        tell(result)
        everything.extend(found.records)
    if arrangement == APPLIANCE and conditions.agreed_new_requests is not None:
        criteria.append(none_of_the_new_failed(results, at_least=conditions.agreed_new_requests))
    return book.result(criteria, faults=results, distributions=distributions(samples_of(everything)))


def _broken_run(
    run: Runner, load: Load, fault: Fault, found: Findings, conditions: Conditions
) -> tuple[History, Strike | None]:
    """The history and when the fault struck; None = the load was over before."""
    over = threading.Event()
    times: list[float] = []
    trouble: list[Exception] = []

    def breaking() -> None:
        if over.wait(conditions.inject_at_seconds):
            return
        begun = time.monotonic()
        back: float | None = None
        ejected = False
        try:
            times.append(time.time())
            fault.inject()
            times.append(time.time())
            until = time.monotonic() + conditions.heal_at_seconds - conditions.inject_at_seconds
            if fault.ejected is not None:
                ejected = _await(fault.ejected, over, until, pause=fault.look_seconds)
                found.ejections.append(time.monotonic() - begun if ejected else None)
                if ejected and _await(lambda: not _asked(fault), over, until, pause=fault.look_seconds):
                    back = time.monotonic() - begun
            over.wait(until - time.monotonic())
        except Exception as error:  # noqa: BLE001  raised again below, where somebody listens
            trouble.append(error)
        mending = time.monotonic()
        times.append(time.time())
        try:
            fault.heal()
            again = mending + BACK_SECONDS
            if ejected and back is None and _await(lambda: not _asked(fault), None, again, pause=fault.look_seconds):
                found.restarts.append(Restart(seconds=time.monotonic() - mending, by_itself=False))
        except Exception as error:  # noqa: BLE001
            trouble.append(error)
        if back is not None:
            found.restarts.append(Restart(seconds=back, by_itself=True))

    thread = threading.Thread(target=breaking, daemon=True)
    thread.start()
    try:
        history = run(load)
    finally:  # also when we are told to end: what is broken is mended first
        over.set()
        thread.join(THREAD_SECONDS)
    if trouble:
        raise trouble[0]
    if not times:
        return history, None
    # What is still at it when our patience ends, a long roll for example, has struck until then; the load was over.
    begun, done, mended = (at - history.started_at for at in [*times, *[time.time()] * 3][:3])
    return history, Strike(begun=begun, done=done, mended=mended)


def _asked(fault: Fault) -> bool:
    return fault.ejected is not None and fault.ejected()


def _await(check: Callable[[], bool], over: threading.Event | None, until: float, *, pause: float) -> bool:
    """Whether it became so in time, and before the load was over."""
    while not check():
        if time.monotonic() > until or (over is not None and over.is_set()):
            return False
        time.sleep(pause)
    return True


def _note(  # noqa: PLR0917  handed through
    found: Findings,
    history: History,
    strike: Strike | None,
    fault: Fault,
    conditions: Conditions,
    control: Control | None,
) -> None:
    """Adds one run to the findings."""
    records = list(history.records)
    planned = conditions.inject_at_seconds
    at = strike or Strike(begun=planned, done=planned, mended=planned)
    verdict = check(history, gap_seconds=found.gap_seconds, reference=None if control is None else control.texts)
    hit = in_flight(records, at_seconds=at.begun, until_seconds=at.done)
    fresh = _due(records, at.done, at.mended)
    may_fail = hit if fault.streams_may_break else []
    may_fail = [*may_fail, *_due(records, at.begun, at.begun + fault.new_may_fail_seconds)]
    excused = {record.request_id for record in may_fail if record.outcome != OK}
    afterwards = any(record.intended_ns / 1e9 >= at.begun for record in records)
    found.struck_count += strike is not None and bool(hit if fault.hits_running else afterwards)
    found.injected.append(at.begun)
    found.records += records
    found.hit += hit
    found.fresh += [record for record in fresh if record.request_id not in excused]
    silences = ((record.request_id, longest_silence(record, since_seconds=at.begun)) for record in hit)
    found.silences |= {name: seconds for name, seconds in silences if seconds is not None}
    found.defects += verdict.defects
    compared = verdict.evidence.get("reference", 0) + verdict.evidence.get("numbered", 0)
    found.compared += compared
    found.equal += _equal(history, control) if control is not None else compared - len(_wrong(verdict.defects))
    found.excused |= excused
    found.recoveries.append(recovery_seconds(records, injected_seconds=at.begun))


def _due(records: Sequence[Record], since: float, until: float) -> list[Record]:
    return [record for record in records if since <= record.intended_ns / 1e9 < until]


def _equal(history: History, control: Control) -> int:
    """Whole answers whose text is the expected one."""
    return sum(control.texts.get(key) == text for key, text in reference_of(history).items())


def _wrong(defects: Sequence[Defect]) -> set[str]:
    return {defect.request_id for defect in defects}

"""Failover: what do clients see while something breaks? Each fault is injected under a steady load whose texts are
kept and checked. The faults themselves come from outside, as pairs of actions: this module knows no hosts.
"""

import re
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from benchmarks.check_history import Defect, check
from benchmarks.failover.books import Account, Audit, Book
from benchmarks.failover.control import Control
from benchmarks.failover.effects import in_flight, longest_silence, recovery_seconds, silence_of
from benchmarks.history import History
from benchmarks.load import Arrivals, Load, Target, Workload
from benchmarks.metrics import samples_of, summarize
from benchmarks.record import OK, Record
from benchmarks.result import Criterion, FaultResult, SuiteResult
from benchmarks.running import Runner
from benchmarks.suites.outcome import Logbook, distributions, no_failures
from benchmarks.validity import Capacity

QUESTION = "What do clients see while something breaks, and how soon is it over?"
APPLIANCE = "appliance"
GAP_SECONDS = 5.0
TEXT_RULES = {"missing", "foreign", "altered"}
FALSE_ENDS = {"done_after_error", "unfinished", "false_success"}
THREAD_SECONDS = 600.0
POLL_SECONDS = 0.1


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
    ejected: Callable[[], bool] | None = None  # asked from the injection on


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


@dataclass(kw_only=True)
class Trial:
    """All repeats of one fault."""

    fault: Fault
    injected: list[float] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    hit: list[Record] = field(default_factory=list)
    silences: list[float] = field(default_factory=list)
    defects: list[Defect] = field(default_factory=list)
    recoveries: list[float | None] = field(default_factory=list)
    ejections: list[float | None] = field(default_factory=list)
    compared: int = 0
    struck_count: int = 0  # runs in which the fault met the requests that it is about
    excused: set[str] = field(default_factory=set)  # request ids whose failure was agreed to be possible
    accounts: list[Account] = field(default_factory=list)


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
        trial = Trial(fault=fault)
        fault.prepare()
        try:
            for repeat in range(fault.repeats):
                name = "-".join(["failover", arrangement, fault.name, str(repeat)])
                load = conditions.load(target, name=re.sub(r"[^A-Za-z0-9._-]+", "-", name))
                audit = Audit(books)
                history, injected = _broken_run(run, load, trial, conditions)
                _note(trial, book.add(history), injected, conditions, control)
                trial.accounts.extend(audit.close(history))
        finally:
            fault.clean()
        results.append(_result(trial, arrangement))
        tell(results[-1])
        everything.extend(trial.records)
        if arrangement == APPLIANCE:
            criteria.extend(_criteria(trial, results[-1], conditions, compares=control is not None))
    return book.result(criteria, faults=results, distributions=distributions(samples_of(everything)))


def _broken_run(run: Runner, load: Load, trial: Trial, conditions: Conditions) -> tuple[History, float | None]:
    """The history and the second at which the fault struck; None = the load was over before."""
    fault = trial.fault
    over = threading.Event()
    struck: list[float] = []
    trouble: list[Exception] = []

    def breaking() -> None:
        if over.wait(conditions.inject_at_seconds):
            return
        try:
            struck.append(time.time())
            fault.inject()
            until = time.monotonic() + conditions.heal_at_seconds - conditions.inject_at_seconds
            if fault.ejected is not None:
                trial.ejections.append(_seconds_until(fault.ejected, over, until))
            over.wait(until - time.monotonic())
        except Exception as error:  # noqa: BLE001  raised again below, where somebody listens
            trouble.append(error)
        try:
            fault.heal()
        except Exception as error:  # noqa: BLE001
            trouble.append(error)

    thread = threading.Thread(target=breaking, daemon=True)
    thread.start()
    history = run(load)
    over.set()
    thread.join(THREAD_SECONDS)
    if trouble:
        raise trouble[0]
    return history, struck[0] - history.started_at if struck else None


def _seconds_until(check: Callable[[], bool], over: threading.Event, until: float) -> float | None:
    """How long it took; None = not before the end."""
    started = time.monotonic()
    while not check():
        if time.monotonic() > until or over.wait(POLL_SECONDS):
            return None
    return time.monotonic() - started


def _note(
    trial: Trial, history: History, struck: float | None, conditions: Conditions, control: Control | None
) -> None:
    """Adds one run to the trial."""
    fault = trial.fault
    records = list(history.records)
    injected = conditions.inject_at_seconds if struck is None else struck
    verdict = check(
        history,
        gap_seconds=conditions.gap_seconds if fault.gap_seconds is None else fault.gap_seconds,
        reference=None if control is None else control.texts,
    )
    hit = in_flight(records, at_seconds=injected)
    excused = {record.request_id for record in hit} if fault.streams_may_break else set()
    afterwards = any(record.intended_ns / 1e9 >= injected for record in records)
    trial.struck_count += struck is not None and bool(hit if fault.hits_running else afterwards)
    until = injected + fault.new_may_fail_seconds
    excused |= {record.request_id for record in records if injected <= record.intended_ns / 1e9 < until}
    trial.injected.append(injected)
    trial.records += records
    trial.hit += hit
    silences = (longest_silence(record, since_seconds=injected) for record in hit)
    trial.silences += [seconds for seconds in silences if seconds is not None]
    trial.defects += verdict.defects
    trial.compared += verdict.evidence.get("reference", 0) + verdict.evidence.get("numbered", 0)
    trial.excused |= {record.request_id for record in records if record.outcome != OK} & excused
    trial.recoveries.append(recovery_seconds(records, injected_seconds=injected))


def _result(trial: Trial, arrangement: str) -> FaultResult:
    silence = silence_of(trial.silences)
    wrong = {defect.request_id for defect in trial.defects if defect.rule in TEXT_RULES | {"duplicate"} | FALSE_ENDS}
    failed = [record for record in trial.records if record.outcome != OK]
    ejections = [seconds for seconds in trial.ejections if seconds is not None]
    known = [seconds for seconds in trial.recoveries if seconds is not None]
    return FaultResult(
        name=trial.fault.name,
        arrangement=arrangement,
        injected_seconds=trial.injected[0],
        requests=len(trial.records),
        failed=len(failed),
        duplicated=len({defect.request_id for defect in trial.defects if defect.rule == "duplicate"}),
        lost_or_altered=len({defect.request_id for defect in trial.defects if defect.rule in TEXT_RULES}),
        recovery_seconds=max(known) if len(known) == len(trial.recoveries) else None,
        ejected_seconds=max(ejections) if ejections and len(ejections) == len(trial.ejections) else None,
        in_flight=len(trial.hit),
        broken_in_flight=sum(record.outcome != OK or record.request_id in wrong for record in trial.hit),
        gap_p50_seconds=silence.p50,
        gap_p99_seconds=silence.p99,
        gap_max_seconds=silence.maximum,
        texts_compared=trial.compared,
        used_tokens=_used(trial.accounts),
        repeats=trial.fault.repeats,
    )


def _used(accounts: Sequence[Account]) -> dict[str, int]:
    used: dict[str, int] = {}
    for account in accounts:
        used[account.book] = used.get(account.book, 0) + account.book_tokens
    if accounts:
        first = accounts[0].book
        used["clients"] = sum(account.clients_tokens for account in accounts if account.book == first)
    return used


def _criteria(trial: Trial, result: FaultResult, conditions: Conditions, *, compares: bool) -> list[Criterion]:
    fault = trial.fault
    judged = [record for record in trial.records if record.request_id not in trial.excused]
    found = [
        _struck(trial),
        no_failures(summarize(judged), allowed_ratio=conditions.allowed_failed_ratio),
        _whole(trial, compares=compares),
    ]
    if conditions.agreed_recovery_seconds is not None:
        limit, seconds = conditions.agreed_recovery_seconds, result.recovery_seconds
        seen = "not within the run" if seconds is None else f"{seconds:.1f} s"
        passed = seconds is not None and seconds <= limit
        found.append(Criterion(name="recovery", agreed=f"within {limit:g} s", seen=seen, passed=passed))
    for name in dict.fromkeys(account.book for account in trial.accounts):
        accounts = [account for account in trial.accounts if account.book == name]
        wrong = [account for account in accounts if not account.equal]
        seen = wrong[0].sentence if wrong else f"equal in {sum(account.requests for account in accounts)} requests"
        found.append(
            Criterion(name=f"{name} equals the clients' usage", agreed="to the token", seen=seen, passed=not wrong)
        )
    return [criterion.model_copy(update={"name": f"{fault.name}: {criterion.name}"}) for criterion in found]


def _struck(trial: Trial) -> Criterion:
    """A fault that hit nothing would prove nothing."""
    return Criterion(
        name="it struck while requests ran" if trial.fault.hits_running else "requests came after it struck",
        agreed=f"in each of {trial.fault.repeats} runs",
        seen=f"in {trial.struck_count}, {len(trial.hit)} requests under way",
        passed=trial.struck_count == trial.fault.repeats,
    )


def _whole(trial: Trial, *, compares: bool) -> Criterion:
    """Text, order, ends and silences of everything that was not agreed to break."""
    rules = TEXT_RULES | FALSE_ENDS | {"duplicate", "gap"}
    found = [
        defect
        for defect in trial.defects
        if defect.rule in rules and not (defect.rule == "gap" and defect.request_id in trial.excused)
    ]
    return Criterion(
        name="texts whole and in order, no false end, no long silence",
        agreed="no defect",
        seen=f"{len(found)} defects"
        + (f", first: {found[0].rule}, {found[0].sentence}" if found else "")
        + (f"; {trial.compared} texts compared" if compares else ""),
        passed=not found and (trial.compared > 0 or not compares),
    )

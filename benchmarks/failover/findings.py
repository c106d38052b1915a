"""Findings: all runs of one fault, put together into numbers and judged by what was agreed about it.

A fault that met none of the requests that it is about has shown nothing, and does not pass.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.check_history import Defect
from benchmarks.failover.books import Account
from benchmarks.failover.effects import silence_of
from benchmarks.metrics import summarize
from benchmarks.record import OK, Record
from benchmarks.result import Criterion, FaultResult
from benchmarks.suites.outcome import no_failures

TEXT_RULES = {"missing", "foreign", "altered"}
FALSE_ENDS = {"done_after_error", "unfinished", "false_success"}
WRONG = TEXT_RULES | FALSE_ENDS | {"duplicate"}
ACKNOWLEDGED = 200  # HTTP OK


@dataclass(frozen=True, kw_only=True)
class Restart:
    """How an engine came back."""

    seconds: float
    by_itself: bool  # before anybody mended it


@dataclass(kw_only=True)
class Findings:
    """All repeats of one fault."""

    name: str
    repeats: int
    gap_seconds: float
    hits_running: bool
    injected: list[float] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    hit: list[Record] = field(default_factory=list)
    fresh: list[Record] = field(default_factory=list)  # due while it was broken
    silences: dict[str, float] = field(default_factory=dict)  # by request id
    defects: list[Defect] = field(default_factory=list)
    recoveries: list[float | None] = field(default_factory=list)
    ejections: list[float | None] = field(default_factory=list)
    restarts: list[Restart] = field(default_factory=list)
    compared: int = 0
    equal: int = 0
    struck_count: int = 0  # runs in which the fault met the requests that it is about
    excused: set[str] = field(default_factory=set)  # request ids whose failure was agreed to be possible
    accounts: list[Account] = field(default_factory=list)


def result_of(found: Findings, arrangement: str) -> FaultResult:
    """The numbers."""
    silence = silence_of(list(found.silences.values()))
    wrong = _by_rule(found.defects, WRONG)
    failures = Counter(record.outcome for record in found.records if record.outcome != OK)
    ejections = [seconds for seconds in found.ejections if seconds is not None]
    known = [seconds for seconds in found.recoveries if seconds is not None]
    return FaultResult(
        name=found.name,
        arrangement=arrangement,
        injected_seconds=found.injected[0],
        struck_count=found.struck_count,
        requests=len(found.records),
        failed=failures.total(),
        agreed_failed=len(found.excused),
        failures=dict(failures.most_common()),
        new_requests=len(found.fresh),
        new_failed=sum(record.outcome != OK for record in found.fresh),
        duplicated=len(_by_rule(found.defects, {"duplicate"})),
        lost_or_altered=len(_by_rule(found.defects, TEXT_RULES)),
        wrong=sum(record.outcome == OK and record.request_id in wrong for record in found.records),
        truncated=sum(record.outcome != OK and record.status == ACKNOWLEDGED for record in found.records),
        false_ends=len(_by_rule(found.defects, FALSE_ENDS)),
        recovery_seconds=max(known) if len(known) == len(found.recoveries) else None,
        ejected_seconds=max(ejections) if ejections and len(ejections) == len(found.ejections) else None,
        restarted_seconds=max((one.seconds for one in found.restarts), default=None),
        restarted_by_itself=all(one.by_itself for one in found.restarts) if found.restarts else None,
        in_flight=len(found.hit),
        broken_in_flight=sum(record.outcome != OK or record.request_id in wrong for record in found.hit),
        gap_p50_seconds=silence.p50,
        gap_p99_seconds=silence.p99,
        gap_max_seconds=silence.maximum,
        gap_agreed_seconds=found.gap_seconds,
        texts_compared=found.compared,
        texts_equal=found.equal,
        used_tokens=_used(found.accounts),
        repeats=found.repeats,
    )


def criteria_of(
    found: Findings,
    result: FaultResult,
    *,
    allowed_failed_ratio: float,
    agreed_recovery_seconds: float | None,
    compares: bool,
) -> list[Criterion]:
    """What was agreed, beside what was seen."""
    judged = [record for record in found.records if record.request_id not in found.excused]
    criteria = [
        _struck(found),
        no_failures(summarize(judged), allowed_ratio=allowed_failed_ratio),
        _whole(found, compares=compares),
        _silence(found),
    ]
    if agreed_recovery_seconds is not None:
        limit, seconds = agreed_recovery_seconds, result.recovery_seconds
        seen = "not within the run" if seconds is None else f"{seconds:.1f} s"
        passed = seconds is not None and seconds <= limit
        criteria.append(Criterion(name="recovery", agreed=f"within {limit:g} s", seen=seen, passed=passed))
    for name in dict.fromkeys(account.book for account in found.accounts):
        accounts = [account for account in found.accounts if account.book == name]
        wrong = [account for account in accounts if not account.equal]
        seen = wrong[0].sentence if wrong else f"equal in {sum(account.requests for account in accounts)} requests"
        criteria.append(
            Criterion(name=f"{name} equals the clients' usage", agreed="to the token", seen=seen, passed=not wrong)
        )
    return [criterion.model_copy(update={"name": f"{found.name}: {criterion.name}"}) for criterion in criteria]


def none_of_the_new_failed(faults: Sequence[FaultResult], *, at_least: int) -> Criterion:
    """The sum over all faults: requests that were due while something was broken."""
    asked, failed = sum(fault.new_requests for fault in faults), sum(fault.new_failed for fault in faults)
    return Criterion(
        name="new requests while something was broken, all faults together",
        agreed=f"0 failed of at least {at_least:,}",
        seen=f"{failed:,} failed of {asked:,}",
        passed=not failed and asked >= at_least,
    )


def _by_rule(defects: Sequence[Defect], rules: set[str]) -> set[str]:
    return {defect.request_id for defect in defects if defect.rule in rules}


def _used(accounts: Sequence[Account]) -> Mapping[str, int]:
    used: dict[str, int] = {}
    for account in accounts:
        used[account.book] = used.get(account.book, 0) + account.book_tokens
    if accounts:
        first = accounts[0].book
        used["clients"] = sum(account.clients_tokens for account in accounts if account.book == first)
    return used


def _struck(found: Findings) -> Criterion:
    """A fault that hit nothing would prove nothing."""
    return Criterion(
        name="it struck while requests ran" if found.hits_running else "requests came after it struck",
        agreed=f"in each of {found.repeats} runs",
        seen=f"in {found.struck_count}, {len(found.hit)} requests under way",
        passed=found.struck_count == found.repeats,
    )


def _whole(found: Findings, *, compares: bool) -> Criterion:
    """Text, order and ends of everything, also of what was agreed to break."""
    wrong = [defect for defect in found.defects if defect.rule in WRONG]
    return Criterion(
        name="texts whole and in order, no false end",
        agreed="no defect",
        seen=f"{len(wrong)} defects"
        + (f", first: {wrong[0].rule}, {wrong[0].sentence}" if wrong else "")
        + (f"; {found.compared} texts compared, {found.equal} equal" if compares else ""),
        passed=not wrong and (found.compared > 0 or not compares),
    )


def _silence(found: Findings) -> Criterion:
    """Of the streams that ran when it struck and were not agreed to break."""
    silence = silence_of([seconds for one, seconds in found.silences.items() if one not in found.excused])
    seen = (
        "no stream ran"
        if silence.p99 is None
        else f"{silence.p99:.2f} s in {silence.streams} streams, longest {silence.maximum:.2f} s"
    )
    return Criterion(
        name="silence of running streams, p99",
        agreed=f"at most {found.gap_seconds:g} s",
        seen=seen,
        passed=silence.p99 is None or silence.p99 <= found.gap_seconds,
    )

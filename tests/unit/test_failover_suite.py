"""The failover suite sees what breaks on living engines: failures, silences, wrong texts, false ends, false books."""

import dataclasses
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.errors import BadLoad
from benchmarks.failover.books import Account, Book, compare
from benchmarks.failover.control import computed
from benchmarks.failover.effects import in_flight, longest_silence
from benchmarks.fault_engine.process import FaultProcess
from benchmarks.load import Lengths, Target, Workload
from benchmarks.result import Criterion, SuiteResult
from benchmarks.running import inline_runner
from benchmarks.suites.failover import Conditions, Fault, failover
from tests.fakes.forged_history import record

# Answers take a second and more, so that none of those under way is nearly over when the fault strikes, also where the
# strike waits for a core.
CONDITIONS = Conditions(
    workload=Workload(
        language="mixed",
        prompt=Lengths(mean_tokens=20),
        output=Lengths(mean_tokens=30, spread_ratio=0.3),
        unstreamed_ratio=0.3,
    ),
    rate_per_second=30,
    seconds=0.8,
    inject_at_seconds=0.4,
    heal_at_seconds=1.6,
    gap_seconds=0.2,
)


@pytest.fixture(scope="module")
def engine() -> Iterator[FaultProcess]:
    with FaultProcess.start("--itl-ms", "50", "--ttft-ms", "5") as process:
        yield process


def broken(engine: FaultProcess, directory: Path, name: str, *, books: tuple[Book, ...] = ()) -> SuiteResult:
    target = Target(base_url=f"{engine.address}/v1", model="fault")
    return failover(
        inline_runner(directory),
        target,
        faults=[Fault(name=name, inject=lambda: engine.control.inject(name), heal=engine.control.heal)],
        conditions=CONDITIONS,
        control=computed(CONDITIONS.load(target, name="control"), character={}),
        books=books,
    )


def _wait(over: threading.Event) -> None:
    over.wait(30)


def criterion(result: SuiteResult, ending: str) -> Criterion:
    return next(criterion for criterion in result.criteria if criterion.name.endswith(ending))


def test_what_an_engine_says_when_nothing_breaks_is_what_was_computed(engine: FaultProcess, tmp_path: Path) -> None:
    result = failover(
        inline_runner(tmp_path),
        target := Target(base_url=f"{engine.address}/v1", model="fault"),
        faults=[Fault(name="nothing", inject=lambda: None)],
        conditions=dataclasses.replace(CONDITIONS, gap_seconds=60.0),
        control=computed(CONDITIONS.load(target, name="control"), character={}),
    )

    assert all(criterion.passed for criterion in result.criteria), result.criteria
    assert result.faults[0].requests == result.faults[0].texts_compared
    assert result.faults[0].in_flight > 0


def test_a_cut_is_counted_as_failed_and_as_broken_in_flight(engine: FaultProcess, tmp_path: Path) -> None:
    result = broken(engine, tmp_path, "cut")

    assert result.faults[0].failed >= result.faults[0].in_flight
    assert result.faults[0].in_flight == result.faults[0].broken_in_flight
    assert not criterion(result, "requests that failed").passed


def test_a_stall_shows_as_a_silence_of_its_length(engine: FaultProcess, tmp_path: Path) -> None:
    result = broken(engine, tmp_path, "stall")

    assert 0 == result.faults[0].failed
    assert (result.faults[0].gap_p99_seconds or 0) > 1
    assert not criterion(result, "silence of running streams, p99").passed


def test_a_false_end_is_not_taken_for_an_answer(engine: FaultProcess, tmp_path: Path) -> None:
    result = broken(engine, tmp_path, "false_end")

    assert not criterion(result, "no false end").passed
    assert result.faults[0].broken_in_flight == result.faults[0].in_flight


def test_a_book_that_counts_otherwise_is_named_with_the_request(engine: FaultProcess, tmp_path: Path) -> None:
    def ledger() -> dict[str, tuple[int, int]]:
        return {
            entry["id"].partition("-")[2]: (entry["prompt_tokens"], entry["completion_tokens"])
            for entry in engine.control.requests()
            if entry["outcome"] == "success"
        }

    def doubling() -> dict[str, tuple[int, int]]:
        return {key: (2 * prompt, completion) for key, (prompt, completion) in ledger().items()}

    result = broken(
        engine,
        tmp_path,
        "slow",
        books=(Book(name="honest", read=ledger), Book(name="double", read=doubling, settle_seconds=0)),
    )

    assert criterion(result, "honest equals the clients' usage").passed
    assert not criterion(result, "double equals the clients' usage").passed
    assert result.faults[0].used_tokens["clients"] == result.faults[0].used_tokens["honest"]


def test_totals_are_compared_where_a_book_knows_no_request_of_ours() -> None:
    book = Book(name="spend", read=dict, ids_of_client=False)

    found = compare(book, {"a": (10, 5), "b": (7, 1)}, {"x": (10, 5), "y": (7, 2)})

    assert Account(book="spend", clients_tokens=23, book_tokens=24, requests=2, differing=("total",)) == found


def test_a_stream_is_in_flight_from_its_sending_to_its_end() -> None:
    early, running = record(0), record(10)  # sent at 2 ms and 1002 ms, over at 80 ms and 1080 ms

    assert [running] == in_flight([early, running], at_seconds=1.05)


def test_silence_counts_from_the_last_token_before_the_fault() -> None:
    late = record(times_ms=[20, 30, 2030, 2040, 2050, 2060, 2070])

    assert 2.0 == longest_silence(late, since_seconds=0.5)
    assert 0.01 == longest_silence(late, since_seconds=2.055) or longest_silence(late, since_seconds=2.055) is None


def test_a_stream_without_a_token_yet_waits_from_the_fault_on() -> None:
    waiting = record(times_ms=[3000, 3010, 3020, 3030, 3040, 3050, 3060])

    assert 2.5 == longest_silence(waiting, since_seconds=0.5)


def test_a_stream_that_was_sent_during_a_long_fault_waits_from_its_own_sending() -> None:
    later = dataclasses.replace(record(times_ms=[9100, 9110, 9120, 9130, 9140, 9150, 9160]), sent_ns=9_000_000_000)

    assert 0.1 == longest_silence(later, since_seconds=0.5)


def test_a_broken_stream_was_silent_until_its_end() -> None:
    cut = dataclasses.replace(record(times_ms=[20, 30, 40, 50, 60, 60, 60]), outcome="cut", ended_ns=4_060_000_000)

    assert 4.0 == longest_silence(cut, since_seconds=0.05)


def test_a_fault_that_comes_after_the_load_has_proved_nothing(engine: FaultProcess, tmp_path: Path) -> None:
    late = dataclasses.replace(CONDITIONS, inject_at_seconds=30.0, heal_at_seconds=31.0)
    target = Target(base_url=f"{engine.address}/v1", model="fault")

    result = failover(
        inline_runner(tmp_path), target, faults=[Fault(name="late", inject=lambda: None)], conditions=late
    )

    struck = criterion(result, "it struck while requests ran")
    assert not struck.passed
    assert "in 0, 0 requests under way" == struck.seen
    assert result.verdict in {"failed", "invalid"}


def test_a_fault_that_cannot_be_staged_counts_against_the_run_and_takes_no_other_with_it(
    engine: FaultProcess, tmp_path: Path
) -> None:
    def refuse() -> None:
        raise BadLoad("h1 has no such process")

    healed: list[str] = []
    result = failover(
        inline_runner(tmp_path),
        Target(base_url=f"{engine.address}/v1", model="fault"),
        faults=[
            Fault(name="impossible", inject=refuse, heal=lambda: healed.append("impossible")),
            Fault(name="nothing", inject=lambda: None),
        ],
        conditions=CONDITIONS,
    )

    assert (
        Criterion(name="impossible: was staged", agreed="yes", seen="h1 has no such process", passed=False),
    ) == tuple(criterion for criterion in result.criteria if criterion.name.startswith("impossible"))
    assert (healed, [fault.name for fault in result.faults]) == (["impossible"], ["nothing"])
    assert result.verdict == "failed"


def test_what_is_still_at_it_when_patience_ends_is_reported_for_as_long_as_the_load_lasted(
    engine: FaultProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.suites.failover.THREAD_SECONDS", 0.1)
    over = threading.Event()
    roll = Fault(name="roll", inject=lambda: _wait(over))

    try:
        result = failover(
            inline_runner(tmp_path),
            Target(base_url=f"{engine.address}/v1", model="fault"),
            faults=[roll],
            conditions=CONDITIONS,
        )
    finally:
        over.set()

    (found,) = result.faults
    assert 0 == found.failed
    assert found.in_flight > 0
    assert criterion(result, "it struck while requests ran").passed


def test_a_fault_about_later_requests_need_not_meet_one_under_way(engine: FaultProcess, tmp_path: Path) -> None:
    sparse = dataclasses.replace(CONDITIONS, rate_per_second=5, seconds=3.0, inject_at_seconds=0.05)
    target = Target(base_url=f"{engine.address}/v1", model="fault")
    fault = Fault(name="gone", inject=lambda: None, hits_running=False)

    result = failover(inline_runner(tmp_path), target, faults=[fault], conditions=sparse)

    assert criterion(result, "requests came after it struck").passed

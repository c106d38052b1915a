"""Crowd result: rounds, however many runs they come from, as one suite's result and one table."""

from collections.abc import Sequence

from rich.table import Table

from benchmarks.failover.crowd import Round
from benchmarks.failover.effects import silence_of
from benchmarks.result import Criterion, FaultResult, Measurement

HARMLESS = frozenset({"slow by 10x"})
"""Faults after which no leg fails: the answer comes later, and that is all."""


def by_fault(rounds: Sequence[Round]) -> dict[tuple[str, str], list[Round]]:
    """(subject, fault) -> its rounds, in the order in which they were first seen."""
    found: dict[tuple[str, str], list[Round]] = {}
    for one in rounds:
        found.setdefault((one.subject, one.fault), []).append(one)
    return found


def fault_results(rounds: Sequence[Round]) -> list[FaultResult]:
    """One for each fault and subject."""
    results = []
    for (subject, fault), own in by_fault(rounds).items():
        silence = silence_of([gap for one in own for gap in one.gaps])
        ejected = [one.ejected_seconds for one in own if one.ejected_seconds is not None]
        results.append(
            FaultResult(
                name=fault,
                arrangement=f"relay, {subject}",
                injected_seconds=own[0].struck_seconds,
                struck_count=sum(map(_proves, own)),
                requests=sum(one.requests for one in own),
                failed=sum(one.failed for one in own),
                new_requests=sum(one.new for one in own),
                new_failed=sum(one.new_failed for one in own),
                duplicated=0,  # a text is right or it is not
                lost_or_altered=sum(one.bad - one.failed for one in own),
                wrong=sum(one.bad - one.failed for one in own),
                texts_equal=sum(one.compared - one.bad for one in own),
                gap_agreed_seconds=max(one.gap_limit_seconds for one in own),
                recovery_seconds=None,
                ejected_seconds=max(ejected) if ejected else None,
                in_flight=sum(one.met for one in own),
                broken_in_flight=sum(one.bad_met for one in own),
                gap_p50_seconds=silence.p50,
                gap_p99_seconds=silence.p99,
                gap_max_seconds=silence.maximum,
                texts_compared=sum(one.compared for one in own),
                repeats=len(own),
            )
        )
    return results


def criteria(
    rounds: Sequence[Round], *, whole_ratio: float, books_differ: Sequence[str], booked: int
) -> list[Criterion]:
    """What was agreed for each fault, and for all of them together."""
    found: list[Criterion] = []
    for (subject, fault), own in by_fault(rounds).items():
        met, new = sum(one.met for one in own), sum(one.new for one in own)
        proved = sum(_proves(one) for one in own)
        bad, total = sum(one.bad for one in own), sum(one.requests for one in own)
        gap = silence_of([gap for one in own for gap in one.gaps]).p99
        limit = max(one.gap_limit_seconds for one in own)
        first = next((text for one in own for text in one.first_bad), "")
        rows = [
            (
                "it struck where requests ran",
                "in a round at least",
                f"in {proved} of {len(own)} rounds; {met} requests met it",
                proved > 0,
            ),
            ("new requests", "none failed", f"{sum(one.new_failed for one in own)} of {new}", not _failed(own)),
            (
                "whole, equal, one id, exact usage",
                f"at least {whole_ratio:.1%}",
                f"{total - bad} of {total}" + (f"; first: {first}" if first else ""),
                total - bad >= whole_ratio * total,
            ),
            (
                "silence of continued streams, p99",
                f"under {limit:g} s",
                "nobody was silent" if gap is None else f"{gap:.2f} s",
                gap is None or gap < limit,
            ),
        ]
        found += [
            Criterion(name=f"{subject}, {fault}: {name}", agreed=wish, seen=seen, passed=passed)
            for name, wish, seen, passed in rows
        ]
    seen = f"{len(books_differ)} of {booked} differ" + (f", first: {books_differ[0]}" if books_differ else "")
    wish = "equal to the token"
    found.append(
        Criterion(name="the relay's ledger and the usage told", agreed=wish, seen=seen, passed=not books_differ)
    )
    return found


def _proves(one: Round) -> bool:
    """Whether anybody met the fault: a round in which nobody did says nothing, and is not counted."""
    return bool(one.met or (one.fault in HARMLESS and one.in_flight))


def _failed(rounds: Sequence[Round]) -> int:
    return sum(one.new_failed for one in rounds)


def measurements(rounds: Sequence[Round]) -> list[Measurement]:
    """Sums, and what the relay took."""
    longest = max(one.mended_seconds for one in rounds)
    rows = [
        ("rounds", "", len(rounds)),
        ("requests", "", sum(one.requests for one in rounds)),
        ("requests that met a fault", "", sum(one.met for one in rounds)),
        ("new requests during a fault", "", sum(one.new for one in rounds)),
        ("answers that were not right", "", sum(one.bad for one in rounds)),
        ("relay CPU while a crowd was there, highest", "cores", max(one.relay_cpu_share for one in rounds)),
        ("relay memory, highest", "MiB", max(one.relay_memory_mib for one in rounds)),
        ("load average, highest", "", max(one.load_average for one in rounds)),
        ("until an engine served again, longest", "s", longest),
    ]
    return [Measurement(name=name, unit=unit, value=float(value)) for name, unit, value in rows]


def table_of(rounds: Sequence[Round]) -> Table:
    """One line for each fault."""
    table = Table(
        *("subject", "fault", "rounds", "requests", "met it", "new", "not right"),
        *("silence p50", "p99", "longest", "replayed, p50", "ejected after", "load"),
    )
    for (subject, fault), own in by_fault(rounds).items():
        silence = silence_of([gap for one in own for gap in one.gaps])
        ejected = [one.ejected_seconds for one in own if one.ejected_seconds is not None]
        loads = [one.load_average for one in own]
        table.add_row(
            *(
                subject,
                fault,
                str(sum(map(_proves, own))),
                str(sum(one.requests for one in own)),
                str(sum(one.met for one in own)),
            ),
            *(str(sum(one.new for one in own)), str(sum(one.bad for one in own))),
            *(_seconds(value) for value in (silence.p50, silence.p99, silence.maximum)),
            _seconds(silence_of([gap for one in own for gap in one.replayed_gaps]).p50),
            _seconds(max(ejected) if ejected else None),
            f"{min(loads):.0f}-{max(loads):.0f}",
        )
    return table


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} s"

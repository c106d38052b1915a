"""Fault view: the rows of the page's fault tables, in words that need no explanation, and their sums."""

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.fault_charts import spoiled
from benchmarks.result import FaultResult
from benchmarks.suites.failover import APPLIANCE

BOOKS_OF_CLIENTS = "clients"


@dataclass(frozen=True, kw_only=True)
class FaultGroup:
    """One fault, with every arrangement that it was done to; the first is the appliance's."""

    name: str
    rows: tuple[FaultResult, ...]

    @property
    def status(self) -> str:
        """A fault that struck nothing has shown nothing."""
        judged = [row for row in self.rows if row.held is not None]
        if not judged:
            return "shown"
        return "held" if all(row.held for row in judged) else "missed"


@dataclass(frozen=True, kw_only=True)
class FaultSum:
    """All faults of one arrangement."""

    arrangement: str
    faults: int
    requests: int
    spoiled: int
    agreed_failed: int
    new_requests: int
    new_failed: int
    in_flight: int
    broken_in_flight: int
    texts_compared: int
    texts_equal: int


def groups_of(faults: Sequence[FaultResult]) -> tuple[FaultGroup, ...]:
    """In the order in which they were done."""
    names = dict.fromkeys(fault.name for fault in faults)
    return tuple(FaultGroup(name=name, rows=tuple(fault for fault in faults if fault.name == name)) for name in names)


def sums_of(faults: Sequence[FaultResult]) -> tuple[FaultSum, ...]:
    """One line per arrangement, the appliance first."""
    found = []
    for side in sorted({fault.arrangement for fault in faults}, key=lambda one: (one != APPLIANCE, one)):
        own = [fault for fault in faults if fault.arrangement == side]
        found.append(
            FaultSum(
                arrangement=side,
                faults=len(own),
                requests=sum(fault.requests for fault in own),
                spoiled=sum(map(spoiled, own)),
                agreed_failed=sum(fault.agreed_failed for fault in own),
                new_requests=sum(fault.new_requests for fault in own),
                new_failed=sum(fault.new_failed for fault in own),
                in_flight=sum(fault.in_flight for fault in own),
                broken_in_flight=sum(fault.broken_in_flight for fault in own),
                texts_compared=sum(fault.texts_compared for fault in own),
                texts_equal=sum(fault.texts_equal for fault in own),
            )
        )
    return tuple(found)


def seconds(value: float | None) -> str:
    """As long as a reader can feel it."""
    if value is None:
        return "-"
    return f"{value:.2f} s" if value < 10 else f"{value:.0f} s"  # noqa: PLR2004  two digits are enough


def failures_of(fault: FaultResult) -> str:
    """How many failed, and how."""
    classes = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in fault.failures.items())
    agreed = f"; {fault.agreed_failed} as agreed" if fault.agreed_failed else ""
    return f"{fault.failed:,}" + (f" ({classes}{agreed})" if classes else "")


def spoilt_texts_of(fault: FaultResult) -> str:
    """What went wrong inside answers; a dash where nothing did."""
    counts = {
        "cut short": fault.truncated,
        "false end": fault.false_ends,
        "doubled": fault.duplicated,
        "lost or altered": fault.lost_or_altered,
    }
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count) or "none"


def back_of(fault: FaultResult) -> str:
    """How long until it served again, and since when."""
    if fault.restarted_seconds is None:
        return "-"
    return f"{seconds(fault.restarted_seconds)} {'by itself' if fault.restarted_by_itself else 'after mending'}"


def books_of(fault: FaultResult) -> str:
    """Tokens that clients were told, against each book."""
    used = fault.used_tokens.get(BOOKS_OF_CLIENTS)
    if used is None:
        return "not read"
    others = {name: count for name, count in fault.used_tokens.items() if name != BOOKS_OF_CLIENTS}
    return f"{used:,} told" + "".join(f", {count:,} {name}" for name, count in others.items())

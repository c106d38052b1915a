"""Figures: what this relay has counted, as Prometheus reads it."""

import resource
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from relay.ledger import Ledger
from relay.replicas import Group

BUCKETS_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
# Counted from zero: of a row that appears with its first count, Prometheus sees no increase.
OUTCOMES = ("completed", "client_left", "refused", "engines_failed", "no_replica", "too_long")
WAYS = ("continue", "replay")


class Histogram:
    """Counts below bounds."""

    def __init__(self) -> None:
        self._counts, self._sum, self._total = [0] * len(BUCKETS_SECONDS), 0.0, 0

    def add(self, seconds: float) -> None:
        """One value."""
        self._total += 1
        self._sum += seconds
        for place, bound in enumerate(BUCKETS_SECONDS):
            if seconds <= bound:
                self._counts[place] += 1

    def lines(self, name: str) -> Iterable[str]:
        """Prometheus text."""
        yield f"# TYPE {name} histogram"
        for bound, count in zip(BUCKETS_SECONDS, self._counts, strict=True):
            yield f'{name}_bucket{{le="{bound:g}"}} {count}'
        yield f'{name}_bucket{{le="+Inf"}} {self._total}'
        yield f"{name}_sum {self._sum:.6f}"
        yield f"{name}_count {self._total}"


class Figures:
    """All of them."""

    def __init__(self) -> None:
        self.requests = Counter(dict.fromkeys(OUTCOMES, 0))
        self.legs: Counter[tuple[str, str]] = Counter()  # by replica, outcome
        self.resumed = Counter(dict.fromkeys(WAYS, 0))
        self.tokens: Counter[str] = Counter()  # prompt, completion
        self.first_byte, self.gap = Histogram(), Histogram()
        self.running = 0

    def text(self, group: Group, ledger: Ledger) -> str:
        """The page."""
        lines = [
            *_rows("relay_requests_total", "counter", {(("outcome", key),): n for key, n in self.requests.items()}),
            *_rows(
                "relay_legs_total",
                "counter",
                {(("replica", replica), ("outcome", outcome)): n for (replica, outcome), n in self.legs.items()},
            ),
            *_rows("relay_resumed_total", "counter", {(("how", key),): n for key, n in self.resumed.items()}),
            *_rows("relay_tokens_total", "counter", {(("kind", key),): n for key, n in self.tokens.items()}),
            *_rows("relay_requests_running", "gauge", {(): self.running}),
            *_rows("relay_queue_requests", "gauge", {(): group.queued}),
        ]
        for name, value in {
            "relay_replica_serving": {r.id: int(r.state == "serving") for r in group.replicas.values()},
            "relay_replica_outstanding_requests": {r.id: r.outstanding_requests for r in group.replicas.values()},
            "relay_replica_outstanding_tokens": {r.id: r.outstanding_tokens for r in group.replicas.values()},
        }.items():
            lines += _rows(name, "gauge", {(("replica", replica),): n for replica, n in value.items()})
        booked = ledger.counters
        lines += _rows("relay_ledger_lines_total", "counter", {(): booked.lines})
        lines += _rows("relay_ledger_lost_lines_total", "counter", {(): booked.lost_lines})
        lines += _rows("relay_ledger_write_errors_total", "counter", {(): booked.write_errors})
        lines += _rows("relay_ledger_unwritten_lines", "gauge", {(): booked.unwritten_lines})
        lines += self.first_byte.lines("relay_first_byte_seconds")
        lines += self.gap.lines("relay_resume_gap_seconds")
        used = resource.getrusage(resource.RUSAGE_SELF)
        lines += _rows("process_cpu_seconds_total", "counter", {(): used.ru_utime + used.ru_stime})
        lines += _rows("process_resident_memory_bytes", "gauge", {(): resident_bytes()})
        return "\n".join(lines) + "\n"


def resident_bytes() -> int:
    """Memory of this process."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize()


def _rows(name: str, kind: str, values: Mapping[tuple[tuple[str, str], ...], float]) -> Iterable[str]:
    yield f"# TYPE {name} {kind}"
    for labels, value in values.items():
        inside = ",".join(f'{key}="{text}"' for key, text in labels)
        yield f"{name}{{{inside}}} {value}" if inside else f"{name} {value}"

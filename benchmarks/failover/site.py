"""Site: what the fault suite needs to know of the place it breaks: where to send load, what to break, who counts."""

import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from benchmarks.errors import BadLoad
from benchmarks.failover.books import Book
from benchmarks.load import Target
from benchmarks.result import Measurement
from benchmarks.suites.failover import Fault

POLL_SECONDS = 0.1


class Engine(Protocol):
    """An engine that can be broken from outside."""

    @property
    def name(self) -> str:
        """As the relay calls it."""

    @property
    def address(self) -> str:
        """http://HOST:PORT."""

    def pause(self) -> None:
        """SIGSTOP."""

    def proceed(self) -> None:
        """SIGCONT."""

    def restart(self) -> None:
        """Runs again, and serves."""


@dataclass(frozen=True, kw_only=True)
class Site:
    """One arrangement, ready to be loaded."""

    name: str
    target: Target
    faults: Sequence[Fault]
    books: Sequence[Book] = ()
    meters: Callable[[], Sequence[Measurement]] = field(default=lambda: ())


def eventually(what: str, check: Callable[[], bool], *, within_seconds: float) -> float:
    """Waits until it is so; returns how long that took."""
    started = time.monotonic()
    while not check():
        if time.monotonic() - started > within_seconds:
            raise BadLoad(f"{what}: not within {within_seconds:g} s")
        time.sleep(POLL_SECONDS)
    return time.monotonic() - started


def process_meters(name: str, process: Callable[[], "subprocess.Popen[bytes]"]) -> Sequence[Measurement]:
    """CPU seconds and peak memory of a process of this machine."""
    entry = Path("/proc") / str(process().pid)
    fields = (entry / "stat").read_text().rpartition(") ")[2].split()
    ticks = int(fields[11]) + int(fields[12])
    status = (entry / "status").read_text().splitlines()
    peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    return (
        Measurement(name=f"{name}: CPU since its start", unit="s", value=ticks / 100),
        Measurement(name=f"{name}: peak memory", unit="MiB", value=peak / 1024),
    )

"""Leaving: what a program of ours does when it is told to end, and who clears up after one that could not.

`leave_when_told` turns SIGTERM and SIGHUP into an orderly end: every context closes, what was broken is mended. A
program that is killed outright closes nothing; the guardian, a process that waits for exactly this, then kills what
was started.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from types import FrameType

from benchmarks.null_process import ROOT

SIGNALS = (signal.SIGTERM, signal.SIGHUP)
PROGRAM = "benchmarks.leaving"


def leave_when_told() -> None:
    """The main program's first act. A second signal does not disturb the clearing up."""
    for one in SIGNALS:
        signal.signal(one, _leave)


def _leave(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
    for one in SIGNALS:
        signal.signal(one, signal.SIG_IGN)
    sys.exit(128 + number)


class Guardian:
    """Knows which processes must not outlive this one, however it ends: its standard input closes with us."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def watch(self, pid: int) -> None:
        """This process, and its group if it leads one, until `release`."""
        if self._process is None or self._process.poll() is not None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", PROGRAM],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                start_new_session=True,  # what is sent to our group is not for it
                text=True,
            )
        self._say(f"+{pid} {born(pid)}")

    def release(self, pid: int) -> None:
        """It has ended."""
        self._say(f"-{pid}")

    def _say(self, line: str) -> None:
        if self._process is not None and self._process.stdin is not None:
            with suppress(BrokenPipeError):
                self._process.stdin.write(line + "\n")
                self._process.stdin.flush()


guardian = Guardian()


def born(pid: int) -> str:
    """When a process began, in ticks since the machine did: a number alone may be another process by now."""
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(") ")[2].split()[19]
    except OSError:
        return ""


def guard(lines: Iterable[str]) -> None:
    """Reads what to watch until nobody writes any more, then kills what is left of it."""
    watched: dict[int, str] = {}
    for line in lines:
        number, _, birth = line[1:].strip().partition(" ")
        if line.startswith("+"):
            watched[int(number)] = birth
        else:
            watched.pop(int(number), None)
    for pid, birth in watched.items():
        now = born(pid)
        if now not in {"", birth}:
            continue  # another process has that number
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    for one in SIGNALS:
        signal.signal(one, signal.SIG_IGN)
    guard(sys.stdin)

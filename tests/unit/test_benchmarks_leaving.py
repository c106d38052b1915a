"""A suite that is told to end, or is killed, leaves no process behind, and mends what it has broken."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks.leaving import born, guard
from benchmarks.null_process import ROOT

MARK = "LEFT_BEHIND_MARK"
GENEROUS_SECONDS = 60
NEVER = 1 << 22  # beyond the highest process id


def marked(mark: str) -> list[str]:
    """Command lines of living processes that were started with this in their environment, or by such a one."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if f"{MARK}={mark}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                found.append((entry / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    return [line for line in found if line]  # a zombie has none


def until(what: str, check: Callable[[], bool]) -> None:
    deadline = time.monotonic() + GENEROUS_SECONDS
    while not check():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


@pytest.fixture
def sleeper() -> Iterator["subprocess.Popen[bytes]"]:
    """A process that leads a group of its own."""
    with subprocess.Popen(["/bin/sleep", "300"], start_new_session=True) as process:
        yield process
        process.kill()


@pytest.mark.parametrize(("suite", "name"), [("failover", "SIGTERM"), ("failover", "SIGKILL"), ("crowd", "SIGHUP")])
def test_no_engine_and_no_relay_outlives_its_suite(suite: str, name: str, tmp_path: Path) -> None:
    mark = str(tmp_path)
    command = [
        sys.executable,
        "-m",
        "benchmarks",
        "suite",
        suite,
        "--fault",
        "SIGSTOP",
        "--output",
        str(tmp_path / "o"),
    ]
    process = subprocess.Popen(
        command, cwd=ROOT, env=os.environ | {MARK: mark}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    until("no relay was started", lambda: any("-m relay" in line for line in marked(mark)))

    process.send_signal(getattr(signal, name))
    ended = process.wait(GENEROUS_SECONDS)

    until("a process was left behind", lambda: not marked(mark))
    assert ended == {"SIGTERM": 143, "SIGHUP": 129, "SIGKILL": -9}[name]


def test_what_was_broken_is_mended_when_the_run_is_told_to_end(tmp_path: Path) -> None:
    mended = tmp_path / "mended"
    program = f"""
import pathlib
from benchmarks.leaving import leave_when_told
from benchmarks.load import Target, Workload
from benchmarks.running import inline_runner
from benchmarks.suites.failover import Conditions, Fault, failover
leave_when_told()
place = pathlib.Path({str(tmp_path)!r})
fault = Fault(name="one", inject=place.joinpath("broken").touch, heal=place.joinpath("mended").touch)
conditions = Conditions(
    workload=Workload(), rate_per_second=0.1, seconds=300, inject_at_seconds=0, heal_at_seconds=299
)
failover(inline_runner(place), Target(base_url="http://127.0.0.1:1/v1", model="none"), faults=[fault],
         conditions=conditions)
"""
    process = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT)
    until("nothing was broken", (tmp_path / "broken").exists)

    process.terminate()

    assert 143 == process.wait(GENEROUS_SECONDS)
    assert mended.exists()


def test_the_guardian_kills_what_was_not_released(sleeper: "subprocess.Popen[bytes]") -> None:
    guard([f"+{sleeper.pid} {born(sleeper.pid)}\n", f"+{NEVER} 5\n"])

    assert -9 == sleeper.wait(GENEROUS_SECONDS)


def test_the_guardian_leaves_alone_what_was_released_and_what_only_has_the_number(
    sleeper: "subprocess.Popen[bytes]",
) -> None:
    guard([f"+{sleeper.pid} 1\n"])
    guard([f"+{sleeper.pid} {born(sleeper.pid)}\n", f"-{sleeper.pid}\n"])

    assert sleeper.poll() is None


def test_an_engine_that_was_restarted_is_watched_as_the_new_process(tmp_path: Path) -> None:
    mark = str(tmp_path)
    program = """
import os, signal
from benchmarks.fault_engine.process import FaultProcess
engine = FaultProcess.start()
engine.restart()
engine.pause()
os.kill(os.getpid(), signal.SIGKILL)
"""
    ended = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=os.environ | {MARK: mark}, check=False)

    assert -9 == ended.returncode
    until("a frozen engine was left behind", lambda: not marked(mark))

"""How tests drive a lab: through its command line, as a person would."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

LAB = Path(__file__).resolve().parent / "lab"
WHY_NOT = (
    f"needs Linux, this is {sys.platform}"
    if sys.platform != "linux"
    else "needs root, to boot real hosts"
    if os.geteuid() != 0
    else ""
)
Lab = Callable[..., subprocess.CompletedProcess[str]]


def lab_in(state: Path, **environment: str) -> Lab:
    def run(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(LAB), *arguments],
            input=stdin,
            env={**os.environ, "LLM_APPLIANCE_LAB_STATE": str(state), **environment},
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )

    return run


def must(done: subprocess.CompletedProcess[str]) -> str:
    assert 0 == done.returncode, done.stderr
    return done.stdout.strip()


def eventually(check: Callable[[], bool], *, within_seconds: float = 10) -> bool:
    deadline = time.monotonic() + within_seconds
    while not check():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True

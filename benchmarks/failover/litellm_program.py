"""LiteLLM program: the locked gateway's `bin/litellm` for comparisons on this machine, where it is at hand.

Whoever deployed a site has its wheels in the cache (`make artifacts`); they are installed once for each lock.
Nothing is downloaded.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.errors import BadLoad
from benchmarks.null_process import ROOT
from tools.wheelhouse import cache_directory, wheelhouse_path

LOCK = ROOT / "roles" / "gateway" / "files" / "requirements-gateway.txt"
PROGRAM_VARIABLE = "LLM_APPLIANCE_LITELLM"
PYTHON = (3, 11)  # the lock is resolved for Debian's own
INSTALL_SECONDS = 600


def litellm_program(tell: Callable[[str], None] = lambda _: None) -> Path | None:
    """The program named in the environment, or the locked one; None = neither is at hand."""
    named = os.environ.get(PROGRAM_VARIABLE)
    if named:
        if not Path(named).is_file():
            raise BadLoad(f"{PROGRAM_VARIABLE}={named}: there is no such program")
        return Path(named)
    place = locked_venv(LOCK, "LiteLLM", tell)
    return place / "bin" / "litellm" if place is not None else None


def locked_venv(lock: Path, what: str, tell: Callable[[str], None]) -> Path | None:
    """A virtual environment with the packages of a lock, in the cache; None = its wheels are not at hand."""
    wheels = wheelhouse_path(lock)
    python = sys.executable if sys.version_info[:2] == PYTHON else shutil.which("python{}.{}".format(*PYTHON))
    if not wheels.is_dir() or python is None:
        return None
    place = cache_directory() / "benchmarks" / wheels.name
    if not (place / ".complete").exists():
        tell(f"installing {what} into {place}, once for this lock")
        shutil.rmtree(place, ignore_errors=True)
        _run([python, "-m", "venv", str(place)])
        offline = ["--quiet", "--no-index", "--find-links", str(wheels), "--no-deps", "--require-hashes"]
        _run([str(place / "bin" / "pip"), "install", *offline, "--requirement", str(lock)])
        (place / ".complete").touch()
    return place


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False)
    if done.returncode:
        raise BadLoad(f"{command[0]} ended with {done.returncode}: {(done.stderr or done.stdout).strip()[-300:]}")

#!/usr/bin/env python3
"""A folder with every wheel of one lock file, for hosts that install without a network.

`build LOCKFILE` fetches with pip, from wherever pip is configured to look, into
`<cache>/wheelhouse/<lock>-<first 12 digits of the lock's sha256>/`. pip verifies the hashes; so does this file, on
what is already there: an interrupted build goes on where it stopped, a changed lock gets a new folder, and the
marker `.complete` is written last. The wheels fit the hosts (Debian 12: Python 3.11, x86_64, glibc 2.36),
whichever Python runs this.

A pin without a wheel is refused: one built here would not have the hash that the lock promises to the hosts.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

COMPLETE_MARKER = ".complete"
PINS_PER_PIP_RUN = 12  # small enough that an interruption loses little, large enough to start pip rarely
TARGET = [
    "--only-binary=:all:", "--python-version=3.11", "--implementation=cp",
    "--abi=cp311", "--abi=abi3", "--abi=none",
    *(f"--platform=manylinux_2_{minor}_x86_64" for minor in range(36, 4, -1)),
    "--platform=manylinux2014_x86_64", "--platform=manylinux2010_x86_64", "--platform=manylinux1_x86_64",
    "--platform=linux_x86_64",
]  # fmt: skip
PIN = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)(?:\[[^]]*])?==(?P<version>[^\s;\\]+)")
HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")


class WheelhouseError(Exception):
    """The wheelhouse cannot be built; the message is the one line to print."""


@dataclass(frozen=True, kw_only=True)
class Pin:
    """One locked package: what may be downloaded for it, and nothing else."""

    name: str
    version: str
    hashes: frozenset[str]

    @property
    def requirement(self) -> str:
        return " ".join((f"{self.name}=={self.version}", *(f"--hash=sha256:{h}" for h in sorted(self.hashes))))

    @property
    def wheel_prefix(self) -> str:
        return f"{re.sub(r'[-_.]+', '_', self.name).lower()}-"


def read_lock(lock: Path) -> tuple[Pin, ...]:
    """The pins of a hash-locked requirements file, in its order."""
    if not lock.is_file():
        raise WheelhouseError(f"there is no lock file {lock}")
    pins = []
    for entry in lock.read_text(encoding="utf-8").replace("\\\n", " ").splitlines():
        pin = PIN.match(entry)
        if pin is None:
            continue
        hashes = frozenset(HASH.findall(entry))
        if not hashes:
            raise WheelhouseError(f"{lock}: {pin['name']} has no hash; make the lock with `make lock`")
        pins.append(Pin(name=pin["name"], version=pin["version"], hashes=hashes))
    if not pins:
        raise WheelhouseError(f"{lock} holds no pinned package")
    return tuple(pins)


def cache_directory() -> Path:
    """Where downloads survive a fresh clone."""
    chosen = os.environ.get("LLM_APPLIANCE_CACHE")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "llm-appliance"


def wheelhouse_path(lock: Path) -> Path:
    """The folder for this very content of the lock file."""
    if not lock.is_file():
        raise WheelhouseError(f"there is no lock file {lock}")
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()[:12]
    return cache_directory() / "wheelhouse" / f"{lock.stem.removeprefix('requirements-')}-{digest}"


def file_sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def present_wheel(pin: Pin, folder: Path) -> Path | None:
    """The pin's wheel if it lies in the folder with a locked hash."""
    for path in folder.glob("*.whl"):
        distribution = re.sub(r"[-_.]+", "_", path.name.split("-", 1)[0]).lower()
        if f"{distribution}-" == pin.wheel_prefix and file_sha256(path) in pin.hashes:
            return path
    return None


def pip_command() -> list[str]:
    """pip of this interpreter, or the one on PATH (a venv made by uv has none)."""
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"]
    pip = shutil.which("pip3") or shutil.which("pip")
    if pip is None:
        raise WheelhouseError("pip is not on PATH; install python3-pip")
    return [pip]


def download(pins: tuple[Pin, ...], folder: Path) -> None:
    """One pip run for some pins; pip checks every file against the locked hashes."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt", prefix="pins-") as requirements:
        requirements.write("".join(f"{pin.requirement}\n" for pin in pins))
        requirements.flush()
        command = [*pip_command(), "download", "--no-deps", "--require-hashes", "--disable-pip-version-check"]
        command += [*TARGET, "--requirement", requirements.name, "--dest", str(folder), "--progress-bar=off"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        reasons = [line for line in (done.stdout + done.stderr).splitlines() if "ERROR" in line]
        raise WheelhouseError(reasons[-1] if reasons else f"pip ended with status {done.returncode}: {done.stderr}")


def batches(pins: list[Pin]) -> Iterator[tuple[Pin, ...]]:
    for start in range(0, len(pins), PINS_PER_PIP_RUN):
        yield tuple(pins[start : start + PINS_PER_PIP_RUN])


def build(lock: Path) -> Path:
    """Fill the lock's wheelhouse and return it; a complete one is returned as it is. One build at a time."""
    folder = wheelhouse_path(lock)
    if (folder / COMPLETE_MARKER).is_file():
        return folder
    pins = read_lock(lock)
    folder.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{folder.name}.lock").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        if not (folder / COMPLETE_MARKER).is_file():
            fill(folder, pins)
    return folder


def fill(folder: Path, pins: tuple[Pin, ...]) -> None:
    """Fetch what is missing, drop what does not belong, and mark the folder as complete."""
    missing = [pin for pin in pins if present_wheel(pin, folder) is None]
    say(f"{folder.name}: {len(pins) - len(missing)} of {len(pins)} wheels are here, fetching {len(missing)}")
    done_count = len(pins) - len(missing)
    for batch in batches(missing):
        download(batch, folder)
        done_count += len(batch)
        size_mib = sum(path.stat().st_size for path in folder.glob("*.whl")) // 2**20
        say(f"{folder.name}: {done_count} of {len(pins)} wheels, {size_mib} MiB, last {batch[-1].name}")
    kept = {present_wheel(pin, folder) for pin in pins}
    if None in kept:
        lost = ", ".join(pin.name for pin in pins if present_wheel(pin, folder) is None)
        raise WheelhouseError(f"{folder}: pip reported success, but there is no file with a locked hash for {lost}")
    for path in set(folder.iterdir()) - kept:
        path.unlink()
    (folder / COMPLETE_MARKER).touch()


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Parse, build or look up, print the folder, and return the exit code."""
    parser = argparse.ArgumentParser(description="Collect every wheel of a lock file in one folder of the cache.")
    actions = parser.add_subparsers(dest="action", required=True)
    for action, text in (
        ("build", "fetch what is missing, then print the folder"),
        ("path", "print the folder, fetch nothing; exit 1 while it is incomplete"),
    ):
        actions.add_parser(action, help=text, description=text).add_argument("lock", type=Path, metavar="LOCKFILE")
    options = parser.parse_args(arguments)
    try:
        folder = build(options.lock) if options.action == "build" else wheelhouse_path(options.lock)
    except WheelhouseError as error:
        say(f"wheelhouse: {error}")
        return 1
    print(folder)
    return 0 if (folder / COMPLETE_MARKER).is_file() else 1


if __name__ == "__main__":
    sys.exit(main())

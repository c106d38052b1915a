"""The service of the guardrails as on a host: `python -m guard serve` with the packages of its lock."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tools.wheelhouse import WheelhouseError, build, cache_directory

ROOT = Path(__file__).resolve().parents[2]
LOCK = ROOT / "roles" / "guard" / "files" / "requirements-guard.txt"
START_SECONDS = 120.0


@dataclass(frozen=True, kw_only=True)
class LivingGuard:
    """Its socket, the file with its rules, and its own words."""

    config: Path
    socket: Path
    log: Path
    process: subprocess.Popen[bytes]


def guard_venv() -> Path:
    """The packages of the lock, installed once."""
    try:
        wheels = build(LOCK)
    except WheelhouseError as error:
        pytest.skip(f"the wheels of the guardrails are not here: {error}")
    place = cache_directory() / "tests" / wheels.name
    if not (place / ".complete").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", "--without-pip", str(place)], check=True)
        install = ["install", "--quiet", "--no-index", "--find-links", str(wheels), "--no-deps", "--require-hashes"]
        pip = [sys.executable, "-m", "pip", "--python", str(place / "bin" / "python")]
        subprocess.run([*pip, *install, "--requirement", str(LOCK)], check=True)
        (place / ".complete").touch()
    return place


def write_rules(directory: Path, rules: Sequence[Mapping[str, Any]], **more: Any) -> Path:
    """The file that service and hook read."""
    path = directory / "guardrails.json"
    content = {
        "socket": str(directory / "guard.socket"),
        "processes": 2,
        "unreadable": "refuse",
        "rules": list(rules),
        **more,
    }
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


@contextmanager
def running_guard(
    directory: Path, rules: Sequence[Mapping[str, Any]], *, python: Path | None = None, **more: Any
) -> Iterator[LivingGuard]:
    """The service while the block runs; `python` is another interpreter than that of the lock."""
    config, log = write_rules(directory, rules, **more), directory / "guard.log"
    command = [str(python or guard_venv() / "bin" / "python"), "-m", "guard", "serve", "--config", str(config)]
    environment = {"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"}
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, cwd=directory, env=environment, stdout=file, stderr=file, start_new_session=True
        )
    guard = LivingGuard(config=config, socket=directory / "guard.socket", log=log, process=process)
    try:
        _await(guard)
        yield guard
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=120)


def _await(guard: LivingGuard) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        assert guard.process.poll() is None, guard.log.read_text()
        with suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
            probe.connect(str(guard.socket))
            return
        time.sleep(0.1)
    raise AssertionError(f"the guardrails did not start: {guard.log.read_text()}")

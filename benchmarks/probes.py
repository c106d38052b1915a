"""Probes: what a suite asks of the services themselves while it loads them: is this request in an engine's log, how
much memory does each service hold. Suites take any callable of these shapes; here are those for files and processes of
this machine, and those that hand the question to a command, which may go wherever it likes.
"""

import json
import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks.errors import BadLoad

EngineLogContains = Callable[[str], bool]  # request id -> whether any engine logged it
MemoryOf = Callable[[], Mapping[str, int]]  # resident bytes per service; one that is gone is left out

PROC = Path("/proc")
COMMAND_SECONDS = 60


def log_files_contain(paths: Sequence[Path]) -> EngineLogContains:
    """Looks at what the files have gained since now."""
    try:
        begins = {path: path.stat().st_size for path in paths}
    except OSError as error:
        raise BadLoad(f"{error.filename}: an engine's log that cannot be read: {error.strerror}") from None

    def contains(request_id: str) -> bool:
        wanted = request_id.encode()
        for path, begin in begins.items():
            with path.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(begin if begin <= size else 0)  # a shorter file was rotated: all of it is new
                if any(wanted in line for line in file):
                    return True
        return False

    return contains


def command_finds(command: Sequence[str]) -> EngineLogContains:
    """Runs the command with the request id as its last argument; like grep, it exits 0 = found, 1 = absent."""

    def contains(request_id: str) -> bool:
        done = _run([*command, request_id], allowed=(0, 1))
        return done.returncode == 0

    return contains


def memory_of(processes: Mapping[str, int]) -> MemoryOf:
    """Memory of each process and all its descendants: shared pages are shared out (PSS) where we may read that."""

    def look() -> dict[str, int]:
        parents = _parents()
        return {name: sum(map(_bytes_of, _tree(root, parents))) for name, root in processes.items() if root in parents}

    missing = [f"{name} ({root})" for name, root in processes.items() if root not in _parents()]
    if missing:
        raise BadLoad(f"no such process: {', '.join(missing)}")
    return look


def command_tells_memory(command: Sequence[str]) -> MemoryOf:
    """Runs the command; it prints a JSON object of bytes per service."""

    def look() -> dict[str, int]:
        said = _run(command, allowed=(0,)).stdout
        try:
            return {str(name): int(count) for name, count in json.loads(said).items()}
        except (ValueError, AttributeError, TypeError):
            raise BadLoad(f"{command[0]}: printed {said[:80]!r}, not a JSON object of bytes per service") from None

    return look


def _run(command: Sequence[str], *, allowed: tuple[int, ...]) -> "subprocess.CompletedProcess[str]":
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=COMMAND_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BadLoad(f"{command[0]}: a probe that could not be run: {error}") from None
    if done.returncode not in allowed:
        raise BadLoad(f"{command[0]}: the probe ended with {done.returncode}: {done.stderr.strip()[-200:]}")
    return done


def _parents() -> dict[int, int]:
    """Process id -> parent's, of everything that lives."""
    found = {}
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            try:
                status = (entry / "stat").read_text(encoding="ascii", errors="replace")
            except (FileNotFoundError, ProcessLookupError):
                continue  # ended meanwhile
            state, parent = status.rpartition(")")[2].split()[:2]
            if state not in {"Z", "X"}:
                found[int(entry.name)] = int(parent)
    return found


def _tree(root: int, parents: Mapping[int, int]) -> set[int]:
    tree = {root}
    while children := {child for child, parent in parents.items() if parent in tree and child not in tree}:
        tree |= children
    return tree


def _bytes_of(process: int) -> int:
    for name, key in (("smaps_rollup", "Pss:"), ("status", "VmRSS:")):
        try:
            lines = (PROC / str(process) / name).read_text(encoding="utf-8").splitlines()
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        for line in lines:
            if line.startswith(key):
                return int(line.split()[1]) * 1024
    return 0

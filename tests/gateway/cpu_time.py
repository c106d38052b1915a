"""CPU time of processes, as the kernel counts it."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


def _stat(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(") ", 1)[1].split()
    except OSError:
        return []


def trees(roots: Sequence[int]) -> Iterator[int]:
    """These processes and all below them."""
    parents = {int(path.name): _stat(int(path.name)) for path in Path("/proc").glob("[0-9]*")}
    wanted = list(roots)
    while wanted:
        pid = wanted.pop()
        yield pid
        wanted += [child for child, fields in parents.items() if fields and int(fields[1]) == pid]


def cpu_seconds(pid: int) -> float:
    """By the kernel's count, of all its threads."""
    fields = _stat(pid)
    return (int(fields[11]) + int(fields[12])) / TICKS if fields else 0.0

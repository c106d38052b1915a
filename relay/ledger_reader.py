"""Reads segments that others write or wrote: line by line, from any offset, torn tails tolerated.

What a killed writer left is found here too: its last segment has no closing line and nobody holds its lock.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relay.ledger_lines import SEGMENT_SUFFIX, encode, whole_lines

READ_BYTES = 8 * 1024**2


@dataclass(frozen=True, kw_only=True)
class Reading:
    """A stretch of a segment: the records in it, where the next stretch begins, how many lines were damaged."""

    records: list[dict[str, Any]]
    next_offset: int
    damaged_lines: int


def segments(directory: Path, *, name: str | None = None) -> list[Path]:
    """Every segment below a directory, or those under one name, in the order of their names and times."""
    found = sorted(directory.rglob(f"*{SEGMENT_SUFFIX}"), key=lambda path: (path.name, path))
    return [path for path in found if name is None or name_of(path) == name]


def name_of(segment: Path) -> str:
    """`chat` of `chat.20260101T000000Z-9f86d081884c7d65-000001.ledger.jsonl`."""
    return segment.name.removesuffix(SEGMENT_SUFFIX).rsplit("-", 2)[0].rpartition(".")[0]


def process_of(segment: Path) -> tuple[str, int]:
    """Who wrote it, and which of its segments it is: `chat.20260101T000000Z-9f86d081884c7d65-000001.ledger.jsonl`."""
    _, process, sequence = segment.name.removesuffix(SEGMENT_SUFFIX).rsplit("-", 2)
    return process, int(sequence)


def read(segment: Path, *, offset: int = 0, limit_bytes: int = READ_BYTES) -> Reading:
    """Whole lines from an offset on, about `limit_bytes` of them. A segment shorter than the offset begins anew."""
    with segment.open("rb") as file:
        if offset > os.fstat(file.fileno()).st_size:
            offset = 0
        file.seek(offset)
        content = file.read(limit_bytes)
        while content and b"\n" not in content and (more := file.read(limit_bytes)):
            content += more
    records, damaged, end = [], 0, 0
    for next_start, record in whole_lines(content):
        end = next_start
        if record is None:
            damaged += 1
        else:
            records.append(record)
    return Reading(records=records, next_offset=offset + end, damaged_lines=damaged)


def read_all(segment: Path) -> Iterator[dict[str, Any]]:
    """Every good record of a segment."""
    offset = 0
    while True:
        reading = read(segment, offset=offset)
        yield from reading.records
        if reading.next_offset == offset:
            return
        offset = reading.next_offset


class AbandonedSegment:
    """The last segment of a writer that was killed, locked so that only one successor closes it."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor

    @classmethod
    def find(cls, directory: Path, *, name: str) -> Iterator[AbandonedSegment]:
        """Those of dead writers under one name, oldest first. Each must be released or closed."""
        last: dict[str, Path] = {}
        for path in segments(directory, name=name):
            process, sequence = process_of(path)
            if process not in last or process_of(last[process])[1] < sequence:
                last[process] = path
        for path in sorted(last.values()):
            if path.stat().st_size and not _is_closed(path) and (descriptor := _lock(path)) is not None:
                yield cls(path, descriptor)

    def close(self, *, at: float) -> bool:
        """Cuts off a torn tail, says that nothing in it is open any more, and lets go. False: the disk refuses."""
        try:
            size = os.fstat(self._descriptor).st_size
            tail_start = max(0, size - READ_BYTES)
            content = os.pread(self._descriptor, READ_BYTES, tail_start)
            os.ftruncate(self._descriptor, tail_start + content.rfind(b"\n") + 1)
            os.write(self._descriptor, encode({"kind": "close", "at": at, "by": "successor"}))
            os.fsync(self._descriptor)
        except OSError:
            return False
        finally:
            self.release()
        return True

    def release(self) -> None:
        """Lets go of it as it is."""
        os.close(self._descriptor)


def is_in_use(segment: Path) -> bool:
    """Whether its writer lives."""
    descriptor = _lock(segment)
    if descriptor is None:
        return True
    os.close(descriptor)
    return False


def _lock(path: Path) -> int | None:
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _is_closed(path: Path) -> bool:
    size = path.stat().st_size
    last: dict[str, Any] | None = None
    for _, record in whole_lines(_tail(path, size)):
        last = record
    return last is not None and last.get("kind") == "close"


def _tail(path: Path, size: int) -> bytes:
    with path.open("rb") as file:
        file.seek(max(0, size - 4096))
        return file.read()

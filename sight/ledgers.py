"""Ledgers: what is new in the segments of a directory since the last look.

The exporter begins at the end of what is there: Prometheus keeps the past, and the bill is `appliance.usage`, not this.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from relay.ledger_reader import read, segments

READ_BYTES = 4 * 1024**2
ROUNDS_MAXIMUM = 8
"""A look reads at most so many stretches of READ_BYTES; what a long pause has left is read by the next ones."""


class Follower:
    """The segments below one directory."""

    def __init__(self, directory: Path, *, tail_bytes: int = 0) -> None:
        self._directory = directory
        self._offsets = {path: max(0, _size(path) - tail_bytes) for path in segments(directory)}
        self.damaged_lines = 0
        # The first line after a place in the middle of a file is no damage.
        self._begun_inside = {path for path, offset in self._offsets.items() if tail_bytes and offset}

    def new_records(self) -> Iterator[dict[str, Any]]:
        """Whole lines that were added, in the order of the segments."""
        found = segments(self._directory)
        self._offsets = {path: self._offsets.get(path, 0) for path in found}
        rounds = 0
        for path in found:
            while _size(path) > self._offsets[path] and rounds < ROUNDS_MAXIMUM:
                reading = read(path, offset=self._offsets[path], limit_bytes=READ_BYTES)
                if reading.next_offset == self._offsets[path]:
                    break  # half a line
                rounds += 1
                self.damaged_lines += max(0, reading.damaged_lines - (path in self._begun_inside))
                self._begun_inside.discard(path)
                self._offsets[path] = reading.next_offset
                yield from reading.records


def _size(path: Path) -> int:
    """Nothing, when it was taken away meanwhile."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0

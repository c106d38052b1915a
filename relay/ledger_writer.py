"""Appends lines to segment files so that what was acknowledged survives `kill -9` and loss of power.

A writer has one open segment and holds a lock on it, so others know whether it lives. `append` hands a line to the
kernel at once (survives the death of the process). `commit` returns when everything appended so far is on the disk:
one `fdatasync` in a thread serves all who wait (group commit). A segment that is full or a day old is closed and the
next one begun, with the lines that the owner wants repeated at its head.

**When the disk refuses** (full, broken), requests go on being served: `append` keeps the lines in memory, `commit`
answers False at once, each line that should have been committed goes to the log in full, so that it can be replayed
from the journal, and `unwritten_lines` counts what waits. Every second the lines are offered to a new segment; once it
takes them they are as safe as ever. Beyond `memory_bytes` the oldest are dropped and counted in `lost_lines`.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import logging
import os
import secrets
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relay.ledger_lines import SEGMENT_SUFFIX, encode

SEGMENT_BYTES = 64 * 1024**2
SEGMENT_SECONDS = 86400.0
# How long a line may stay in the kernel's memory only when nobody waits for it; between two offers to a sick disk.
IDLE_COMMIT_SECONDS = 1.0
RETRY_SECONDS = 1.0
MEMORY_BYTES = 64 * 1024**2
# A process that starts on such a disk serves; whatever else is wrong with its directory, somebody has to mend it first.
REFUSALS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO})
_LOG = logging.getLogger("ledger")


@dataclass(kw_only=True)
class LedgerCounters:
    """What an operator should see; cumulative but for `unwritten_lines`."""

    lines: int = 0
    commits: int = 0
    write_errors: int = 0
    unwritten_lines: int = 0
    lost_lines: int = 0


class SegmentWriter:
    """The one writer of its segments. Appending is synchronous; `commit` needs a running event loop."""

    def __init__(
        self,
        directory: Path,
        *,
        name: str,
        head: Mapping[str, Any],
        repeated: Callable[[], list[bytes]] = list,
        segment_bytes: int = SEGMENT_BYTES,
        segment_seconds: float = SEGMENT_SECONDS,
        memory_bytes: int = MEMORY_BYTES,
    ) -> None:
        self.directory = directory
        self.process = secrets.token_hex(8)
        self.counters = LedgerCounters()
        self._name, self._head, self._repeated = name, dict(head), repeated
        self._segment_bytes = segment_bytes
        self._segment_seconds = segment_seconds
        self._memory_bytes = memory_bytes
        self._sequence, self._descriptor = 0, -1
        self._size, self._begun = 0, 0.0
        # Lines since the last successful commit: they are written again elsewhere when the disk fails to keep them.
        self._unsafe: deque[bytes] = deque()
        self._unsafe_bytes = 0
        self._sick = False
        self._waiting: asyncio.Future[bool] | None = None
        self._in_flight: asyncio.Future[bool] | None = None
        self._committing: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ledger")
        try:
            self._open_segment()
        except OSError as error:
            if error.errno not in REFUSALS:
                raise
            self._discard_segment()
            self._fall_sick(error)

    @property
    def path(self) -> Path:
        """The segment that is being written."""
        return self.directory / f"{self._name}.{self._stamp}-{self.process}-{self._sequence:06d}{SEGMENT_SUFFIX}"

    @property
    def is_sick(self) -> bool:
        """Whether the disk refuses lines at present."""
        return self._sick

    def append(self, line: bytes) -> None:
        """Hands one line to the kernel; keeps it in memory when the disk refuses."""
        self._remember(line)
        if not self._sick:
            try:
                self._write(line)
            except OSError as error:
                self._fall_sick(error)
        self._commit_soon()

    async def commit(self, *, line: bytes = b"") -> bool:
        """True when everything appended before the call is on the disk. `line` goes to the log when it is not."""
        if self._sick:
            self._log_unwritten(line)
            return False
        if self._waiting is None:
            self._waiting = asyncio.get_running_loop().create_future()
        promise = self._waiting
        self._start_committing()
        # Shared by all who wait: the cancellation of one must not reach the others.
        kept = await asyncio.shield(promise)
        if not kept:
            self._log_unwritten(line)
        return kept

    def commit_soon(self, *, line: bytes = b"") -> None:
        """Starts a commit that nobody waits for. `line` goes to the log when the disk refuses."""
        if self._sick:
            self._log_unwritten(line)
        else:
            self._start_committing()

    def commit_now(self) -> bool:
        """`commit` for those without an event loop: blocks, so only before serving begins."""
        try:
            if not self._sick:
                os.fdatasync(self._descriptor)
                self._forget(len(self._unsafe))
        except OSError as error:
            self._fall_sick(error)
        return not self._sick

    def close(self) -> None:
        """Commits what was appended and says that nothing is open. To be called when nobody waits any more."""
        if self._timer is not None:
            self._timer.cancel()
        if self._committing is not None:
            self._committing.cancel()
        self._thread.shutdown(wait=True)
        if self._sick:
            self._recover()
        if self._sick:
            for line in self._unsafe:
                self._log_unwritten(line)
            self.counters.lost_lines += len(self._unsafe)
        else:
            self._end_segment(by="writer")
        for promise in (self._waiting, self._in_flight):
            if promise is not None and not promise.done():
                promise.set_result(not self._sick)

    def _open_segment(self) -> None:
        self._sequence += 1
        self._stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        self.directory.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o640)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._descriptor, self._size, self._begun = descriptor, 0, time.time()
        head = {"kind": "open", "at": self._begun, "process": self.process, "pid": os.getpid(), **self._head}
        for line in [encode(head), *self._repeated()]:
            self._write(line)
        os.fdatasync(descriptor)
        place = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(place)
        finally:
            os.close(place)

    def _discard_segment(self) -> None:
        """A beginning with torn lines is of no use, and would fill the directory."""
        if self._descriptor >= 0:
            self.path.unlink(missing_ok=True)

    def _end_segment(self, *, by: str) -> None:
        self._write(encode({"kind": "close", "at": time.time(), "by": by}))
        os.fdatasync(self._descriptor)
        os.close(self._descriptor)
        self._descriptor = -1
        self._forget(len(self._unsafe))

    def _write(self, line: bytes) -> None:
        written = os.write(self._descriptor, line)
        if written != len(line):  # a full disk takes a part; the rest fails, and the torn line is cut off again
            os.ftruncate(self._descriptor, self._size)
            raise OSError(errno.ENOSPC, "the disk took a part of a line only")
        self._size += written
        self.counters.lines += 1

    def _remember(self, line: bytes) -> None:
        self._unsafe.append(line)
        self._unsafe_bytes += len(line)
        if self._sick:
            while self._unsafe_bytes > self._memory_bytes:
                self._forget(1)
                self.counters.lost_lines += 1
            self.counters.unwritten_lines = len(self._unsafe)

    def _forget(self, count: int) -> None:
        for _ in range(count):
            self._unsafe_bytes -= len(self._unsafe.popleft())

    def _start_committing(self) -> None:
        if self._committing is None or self._committing.done():
            self._committing = asyncio.get_running_loop().create_task(self._commit_all())

    async def _commit_all(self) -> None:
        loop = asyncio.get_running_loop()
        while self._unsafe or self._waiting is not None:
            self._in_flight, self._waiting = self._waiting, None
            count = len(self._unsafe)
            try:
                await loop.run_in_executor(self._thread, os.fdatasync, self._descriptor)
                if not self._sick:
                    self._forget(count)
                    self.counters.commits += 1
                    self._rotate_if_due()
            except OSError as error:
                self._fall_sick(error)
            for promise in (self._in_flight, self._waiting if self._sick else None):
                if promise is not None and not promise.done():
                    promise.set_result(not self._sick)
            self._in_flight = None
            if self._sick:
                self._waiting = None
                return

    def _rotate_if_due(self) -> None:
        """Begins the next segment when this one is full or old, at a moment when no thread works on it."""
        if self._size >= self._segment_bytes or time.time() - self._begun >= self._segment_seconds:
            self._end_segment(by="rotation")
            self._open_segment()

    def _commit_soon(self) -> None:
        if self._timer is not None:
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # no loop yet: the next line with one commits this one too
            return
        self._timer = loop.call_later(RETRY_SECONDS if self._sick else IDLE_COMMIT_SECONDS, self._commit_idle)

    def _commit_idle(self) -> None:
        self._timer = None
        if self._sick:
            self._recover()
        if self._sick:
            self._commit_soon()
        elif self._unsafe:
            self._start_committing()

    def _fall_sick(self, error: OSError) -> None:
        self.counters.write_errors += 1
        self.counters.unwritten_lines = len(self._unsafe)
        self._sick = True
        _LOG.error("%s: %s; requests go on, their records wait in memory and in this log", self.directory, error)
        self._commit_soon()

    def _recover(self) -> None:
        """Offers everything unsafe to a new segment. Lines may then stand twice; their entry ids say so to readers."""
        if self._committing is not None and not self._committing.done():
            return  # a thread still works on the segment that failed
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        repeated, self._repeated = self._repeated, list
        try:
            self._open_segment()
            for line in [*repeated(), *self._unsafe]:
                self._write(line)
            os.fdatasync(self._descriptor)
        except OSError as error:
            self.counters.write_errors += 1
            _LOG.error("%s: still refused: %s; %d lines wait", self.directory, error, len(self._unsafe))
            self._discard_segment()
            return
        finally:
            self._repeated = repeated
        _LOG.warning("%s: takes lines again; %d that waited are on the disk", self.directory, len(self._unsafe))
        self._forget(len(self._unsafe))
        self._sick = False
        self.counters.unwritten_lines = 0

    def _log_unwritten(self, line: bytes) -> None:
        if line:
            _LOG.error("not on the disk yet: %s", line.decode("utf-8", "replace").rstrip("\n"))

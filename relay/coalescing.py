"""Coalescing: pieces of text that come in quick succession leave as one chunk.

Whoever reads the stream pays for each chunk, LiteLLM most of all (0.2 to 0.4 ms of a core), and nobody sees two pieces
apart that come within a few hundredths of a second. The first piece leaves at once, and so does every piece after a
pause: a slow engine's stream is not touched. How long the pause is, `relay/pace.py` says anew each time.
"""

import asyncio
from collections.abc import Callable


class Coalescing:
    """Writes what comes, in order; `text` may wait for one pause, everything else pushes it out before itself."""

    def __init__(self, write: Callable[[bytes], None], *, pause: Callable[[], float]) -> None:
        self._write_now, self._pause = write, pause
        self._loop = asyncio.get_running_loop()
        self._head, self._tail, self._pieces = b"", b"", list[bytes]()
        self._due_at = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def text(self, head: bytes, piece: bytes, tail: bytes) -> None:
        """One chunk of text: `piece` is the inside of a JSON string, head and tail what stands around it."""
        if self._timer is not None:
            if head == self._head and tail == self._tail:
                self._pieces.append(piece)
                return
            self.flush()
        now = self._loop.time()
        if now >= self._due_at:
            self._write_now(head + piece + tail)
            self._due_at = now + self._pause()
            return
        self._head, self._tail, self._pieces = head, tail, [piece]
        self._timer = self._loop.call_at(self._due_at, self.flush)

    def write(self, data: bytes) -> None:
        """Anything else."""
        self.flush()
        self._write_now(data)

    def flush(self) -> None:
        """What waits leaves."""
        if self._timer is None:
            return
        self._timer.cancel()
        self._timer = None
        pieces, self._pieces = self._pieces, []
        self._due_at = self._loop.time() + self._pause()
        self._write_now(self._head + b"".join(pieces) + self._tail)

    def close(self) -> None:
        """Nobody listens any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

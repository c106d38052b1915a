"""A text that comes in pieces, masked as if it had come whole.

What was sent stays in sight (`SIGHT` characters, never sent again) so that words before a number count; what may still
become part of something is held back (tail.py).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from guard.spans import Span, masked, without_overlaps
from guard.tail import Hold

SIGHT = 96
# Rules that hold a fixed number of characters look at everything; asked for each token, that would be all they do.
LOOK_CHARACTERS = 40
# Something found that has no end is masked as far as it has come.
ENDLESS_CHARACTERS = 4096

Find = Callable[[str], Awaitable[Sequence[Span]]]


class StreamMask:
    """One text of one stream, by one guardrail."""

    def __init__(self, find: Find, hold: Hold) -> None:
        self._find = find
        self._hold = hold
        self._sent = ""
        self._pending = ""

    async def feed(self, piece: str) -> str:
        """What may go out now that this piece has come."""
        self._pending += piece
        cut = self._hold.cut(self._pending)
        if cut <= 0 or (self._hold.characters and cut < LOOK_CHARACTERS):
            return ""
        return await self._release(cut)

    async def finish(self) -> str:
        """The rest."""
        return await self._release(len(self._pending)) if self._pending else ""

    async def _release(self, cut: int) -> str:
        if not self._hold.worth_a_look(self._pending[:cut]):
            return self._sent_now(cut, self._pending[:cut])
        window, before = self._sent + self._pending, len(self._sent)
        found = without_overlaps(await self._find(window))
        for span in found:
            if span.start < before + cut < span.end:
                cut = max(span.start - before, 0)  # its end may still grow
        if cut == 0 and len(self._pending) > ENDLESS_CHARACTERS:
            cut = len(self._pending)
        inside = [
            Span(start=max(span.start - before, 0), end=span.end - before, label=span.label, instead=span.instead)
            for span in found
            if before < span.end <= before + cut
        ]
        return self._sent_now(cut, masked(self._pending[:cut], inside))

    def _sent_now(self, cut: int, text: str) -> str:
        self._sent = (self._sent + self._pending[:cut])[-SIGHT:]
        self._pending = self._pending[cut:]
        return text

"""Event log: what one event stream said and when, told apart on its bytes. This is the hot path; every line here is
paid per chunk.

Per chunk: one split, one regular expression, one CRC. No JSON, no tokenizer, no object per chunk: times, checksums
and kinds go to flat arrays.
"""

from array import array
from zlib import crc32

from benchmarks import events

ERROR_BYTES_KEPT = 2048


class Tally:
    """Events read by all streams of a process."""

    __slots__ = ("events",)

    def __init__(self) -> None:
        self.events = 0


class EventLog:
    """Takes the body of a response piece by piece, as it comes out of the HTTP parser."""

    __slots__ = (
        "_identity", "_keep_body", "_kept", "_tally", "crcs", "done_ns", "error", "kinds", "tail", "times", "tokens",
        "usage",
    )  # fmt: skip

    def __init__(self, *, keep_body: bool, tally: Tally) -> None:
        self._keep_body, self._tally = keep_body, tally
        self._kept: list[bytes] = []
        self._identity: bytes | None = None
        self.times, self.crcs, self.kinds = array("q"), array("I"), bytearray()
        self.tail = self.error = self.usage = b""
        self.tokens = self.done_ns = 0

    def take(self, body: bytes, now: int) -> None:
        """A piece of the stream, read at that instant."""
        if self._keep_body:
            self._kept.append(body)
        if self.tail:
            body = self.tail + body
        if b"\r" in body:
            body = body.replace(b"\r\n", b"\n")
        pieces = body.split(b"\n\n")
        self.tail = pieces.pop()
        self._tally.events += len(pieces)
        for event in pieces:
            self.times.append(now)
            self.crcs.append(crc32(event))
            kind = events.kind_of(event)
            if kind == events.ANSWER or kind == events.REASONING:  # noqa: PLR1714  twice as fast as `in`
                self.tokens += 1
            elif kind == events.DONE:
                self.done_ns = now
            elif kind == events.ERROR:
                self.error = event[:ERROR_BYTES_KEPT]
            elif b'"usage"' in event:
                self.usage = event
            identity = self._identity
            if identity is None:
                self._identity = events.id_of(event)
            elif identity not in event and kind < events.ERROR and events.id_of(event):
                kind |= events.FOREIGN
            self.kinds.append(kind)

    def hold(self, body: bytes) -> None:
        """A piece of an answer that comes whole: nothing is said before all of it is here."""
        self.tail += body

    def release(self, now: int) -> None:
        """A held answer is complete: it is logged as a stream of one event and [DONE]."""
        if self.tail.startswith(b"{"):
            answer, self.tail = self.tail.replace(b"\n", b" "), b""
            self.usage = answer if b'"usage"' in answer else b""
            self.take(b"data: %s\n\ndata: [DONE]\n\n" % answer, now)

    @property
    def body(self) -> bytes:
        """The whole stream, if it is kept."""
        return b"".join(self._kept)

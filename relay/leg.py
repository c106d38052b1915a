"""Leg: one exchange with one engine. It ends as finished, refused or faulty, and never without an end.

Faults: no connection, a cut, an error status or event, an end without a finish reason, no first byte or no further
byte in time. A timer does not run while the client itself is too slow to take what there is.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from relay.http_client import EngineConnection
from relay.lateness import LATE_SECONDS
from relay.replica import Replica

Kind = Literal["finished", "refused", "busy", "fault"]
BODY_BYTES_MAX = 64 * 1024 * 1024
BUSY_STATUS = 429
SERVER_ERROR = 500
LONG_FACTOR = 4.0
"""A first byte may take so many times longer while the same engine serves others: it queues, it does not hang."""


@dataclass(frozen=True, kw_only=True)
class LegEnd:
    """How it ended."""

    kind: Kind
    reason: str = ""
    eject: bool = False  # whether the fault says something about the engine
    hung: bool = False  # whether it is silent, for all that is known for everybody: who waits for it waits in vain
    suspect: bool = False  # whether it may: the engine answers, but badly, and the request may be why
    status: int = 0
    body: bytes = b""
    headers: dict[bytes, bytes] = field(default_factory=dict)


class Leg:
    """Listens to one answer. `sink` takes each event and says None to go on, "" for done, or what is wrong."""

    def __init__(
        self,
        replica: Replica,
        *,
        sink: Callable[[bytes], str | None] | None,
        first_byte_seconds: float,
        stall_seconds: float,
        whole_too: bool = False,
        probe: bool = False,
        counts: bool = True,
    ) -> None:
        self._whole_too = whole_too or sink is None
        self._probe = probe  # not called off by the fault that it is to judge
        self._counts = counts  # whether an answer says that the engine works, not only that its server does
        self._loop = asyncio.get_running_loop()
        self.over: asyncio.Future[LegEnd] = self._loop.create_future()
        self.replica = replica
        self._sink = sink  # None: a whole answer is wanted
        self._limit_seconds, self._stall_seconds = first_byte_seconds, stall_seconds
        self._connection: EngineConnection | None = None
        self._status, self._headers, self._events = 0, dict[bytes, bytes](), False
        self._rest, self._pieces, self._bytes = b"", list[bytes](), 0
        self._begun = self._last = self._loop.time()
        self._first = True
        self._paused = False
        self.again: Callable[[], None] | None = None  # sends once more, for a kept connection that was dead already
        self._timer: asyncio.TimerHandle | None = None
        self._due, self._excused_since = 0.0, -1.0  # when the timer was to come; a silence that was excused once

    @property
    def finished(self) -> bool:
        """Whether it ended well. A future whose waiter was cancelled is cancelled itself."""
        return self.over.done() and not self.over.cancelled() and self.over.result().kind == "finished"

    def start(self, connection: EngineConnection, request: bytes) -> None:
        """Sends the request."""
        self._connection = connection
        self._begun = self._last = self._loop.time()
        if not self._probe:
            self.replica.legs.add(self)
        connection.send(request, self)
        if self._timer is None:
            self._rearm(self._limit_seconds)

    def pause(self, paused: bool) -> None:
        """The client is too slow, or no longer."""
        if self._connection is not None and paused != self._paused and not self.over.done():
            self._paused = paused
            self._last = self._loop.time()
            (self._connection.pause if paused else self._connection.resume)()

    def end(self, end: LegEnd) -> None:
        """The verdict; whatever still comes is not wanted."""
        if not self.over.done():
            self.over.set_result(end)
        self.close()

    def close(self) -> None:
        """Cancels the engine's work, if there is any left."""
        self.replica.legs.discard(self)
        if self._timer is not None:
            self._timer.cancel()
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abandon()

    def fault(self, reason: str, *, eject: bool = True, suspect: bool = False, hung: bool = False) -> None:
        """Something is wrong."""
        self.end(LegEnd(kind="fault", reason=reason, eject=eject and not suspect, suspect=suspect, hung=hung))

    def replica_out(self, reason: str) -> None:
        """Others found the engine faulty. Who still gets bytes from it goes on."""
        unheard = self._first and not self._bytes
        if unheard or self._loop.time() - self._last >= self._stall_seconds / 2:
            self.fault(f"its engine is out: {reason}")

    # Listener
    def head(self, status: int, headers: dict[bytes, bytes]) -> None:
        """The status."""
        self._status, self._headers = status, headers
        self._events = status == 200 and headers.get(b"content-type", b"").startswith(b"text/event-stream")  # noqa: PLR2004

    def body(self, data: bytes) -> None:
        """Events, or a piece of a whole answer."""
        self._last = self._loop.time()
        if self._counts:
            self.replica.progress_at = self._last
        if not self._events:
            self._bytes += len(data)
            self._pieces.append(data)
            if self._bytes > BODY_BYTES_MAX:
                self.fault(f"an answer of more than {BODY_BYTES_MAX} bytes", eject=False)
            return
        if self._first:
            self._first, self._limit_seconds = False, self._stall_seconds
            self._rearm(self._stall_seconds)
        if self._rest:
            data = self._rest + data
            self._rest = b""
        sink = self._sink
        if sink is None:
            self.fault("events where a whole answer was asked for", eject=False)
            return
        end = data.find(b"\n\n")
        if end == len(data) - 2:  # by far the most frequent: exactly one event
            self._verdict(sink(data[:end]))
            return
        start = 0
        while end >= 0:
            if self._verdict(sink(data[start:end])):
                return
            start = end + 2
            end = data.find(b"\n\n", start)
        self._rest = data[start:]
        if len(self._rest) > BODY_BYTES_MAX:
            self.fault(f"an event of more than {BODY_BYTES_MAX} bytes", eject=False)

    def complete(self) -> None:
        """The answer is over."""
        self._connection = None  # kept for others
        if self._events:
            self.fault("the stream ended without [DONE]")
            return
        status, body = self._status, b"".join(self._pieces)
        if status < 400:  # noqa: PLR2004
            if self._whole_too:
                self.end(LegEnd(kind="finished", status=status, body=body, headers=self._headers))
            else:
                self.fault(f"HTTP {status} without an event stream", eject=False)
        elif status == BUSY_STATUS:
            self.end(LegEnd(kind="busy", reason="HTTP 429", status=status, body=body, headers=self._headers))
        elif status < SERVER_ERROR:
            self.end(LegEnd(kind="refused", status=status, body=body, headers=self._headers))
        else:
            reason = f"HTTP {status}"
            self.end(LegEnd(kind="fault", reason=reason, suspect=True, status=status, body=body, headers=self._headers))

    def lost(self, reason: str) -> None:
        """The connection broke."""
        connection, self._connection = self._connection, None
        again, self.again = self.again, None
        if again is not None and connection is not None and not connection.answered and not self.over.done():
            again()
        else:
            self.fault(reason)

    def _verdict(self, said: str | None) -> bool:
        if said is None:
            return False
        if said:
            self.fault(said, suspect=True)
        elif not self.over.done():
            # The end mark of the chunked body follows; the connection goes back to the pool by itself.
            self.pause(False)  # the client may be slow; who uses the connection next is another one
            self.over.set_result(LegEnd(kind="finished", status=200))
            self._finish()
        return True

    def _finish(self) -> None:
        self.replica.legs.discard(self)
        if self._timer is not None:
            self._timer.cancel()
        self._sink = _ignore

    def _rearm(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if not self.over.done():
            self._due = self._loop.time() + seconds
            self._timer = self._loop.call_at(self._due, self._look)

    def _look(self) -> None:
        """Whether it has taken too long. Looks again when it could have, at the earliest."""
        now = self._loop.time()
        since = self._begun if self._first else self._last
        left, late = since + self._limit_seconds - now, now - self._due
        if late > LATE_SECONDS and self._excused_since != since:
            self._excused_since = since
            self._rearm(min(late, self._limit_seconds))
        elif self._paused:
            self._rearm(self._limit_seconds)
        elif left > 0:
            self._rearm(left)
        elif not self._first:
            alone = self.replica.progress_at <= self._last
            self.fault(f"no byte for {self._limit_seconds:g} s", eject=alone, hung=alone)
        elif self.replica.progress_at > now - self._stall_seconds and now < since + LONG_FACTOR * self._limit_seconds:
            self._rearm(self._stall_seconds)
        else:
            alone = self.replica.progress_at <= now - self._stall_seconds
            self.fault(f"no first byte for {now - since:.1f} s", eject=alone, hung=alone)


def _ignore(_: bytes) -> str | None:
    return None

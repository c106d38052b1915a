"""Listening: one answer over a socket of its own, with the time of each piece; cheap enough for thousands at once."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from time import perf_counter
from typing import Any, cast

from benchmarks import told

SECONDS_MAX = 180.0


@dataclass(kw_only=True)
class Heard(asyncio.Protocol):
    """All bytes of one answer, and when they came."""

    request: bytes
    over: "asyncio.Future[None]"
    begun: float = 0.0
    ended: float = 0.0
    times: list[float] = field(default_factory=list)
    pieces: list[bytes] = field(default_factory=list)
    _transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.begun, self._transport = perf_counter(), cast(asyncio.Transport, transport)  # uvloop's are none by class
        self._transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        if b"data: " in data:
            self.times.append(perf_counter())
        self.pieces.append(data)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  asyncio's signature
        self.ended = perf_counter()
        if not self.over.done():
            self.over.set_result(None)

    def leave(self) -> None:
        """Hangs up."""
        if self._transport is not None:
            self._transport.abort()

    @property
    def status(self) -> int:
        """Of HTTP; 0 = no answer."""
        first = self._raw.partition(b"\r\n")[0].split()
        return int(first[1]) if len(first) > 1 else 0

    @property
    def _raw(self) -> bytes:
        return b"".join(self.pieces)

    @property
    def _streamed(self) -> bool:
        return b"text/event-stream" in self._raw.partition(b"\r\n\r\n")[0]

    @cached_property
    def events(self) -> list[Any]:
        """JSON of each event, or the one document of a whole answer; to be asked for when it is over."""
        if self._streamed:
            return [json.loads(line[6:]) for line in self._raw.split(b"\n") if line.startswith(b"data: {")]
        body = self._raw.partition(b"\r\n\r\n")[2]
        return [json.loads(body)] if body.startswith(b"{") else []

    @property
    def done(self) -> bool:
        """Whether it ended as a good answer does: an end mark or a whole document, a finish reason, no error."""
        events = self.events
        if self.status != 200 or not events or any("error" in event for event in events):  # noqa: PLR2004  HTTP OK
            return False
        finished = any(choice.get("finish_reason") for event in events for choice in event.get("choices", ()))
        return finished and (not self._streamed or b"data: [DONE]" in self._raw.split(b"\n"))

    @property
    def text(self) -> str:
        """Of all choices, thoughts and tool calls."""
        return told.text_of(self.events)

    @property
    def ends(self) -> list[tuple[int, str, Any]]:
        """(choice, finish reason, stop reason) of each."""
        return told.ends_of(self.events)

    @property
    def token_ids(self) -> list[int]:
        """Ids, where they were asked for."""
        return [
            token
            for event in self.events
            for choice in event.get("choices", ())
            for token in choice.get("token_ids") or ()
        ]

    @property
    def usage(self) -> dict[str, Any] | None:
        """The last usage record."""
        return next((event["usage"] for event in reversed(self.events) if event.get("usage")), None)

    @property
    def identities(self) -> int:
        """How many ids the answer carries; one is right."""
        return len({event.get("id") for event in self.events if "error" not in event})

    @property
    def gap(self) -> float:
        """The longest silence after the first byte."""
        return max((later - earlier for earlier, later in pairwise(self.times)), default=0.0)

    def silence(self, since: float) -> float:
        """The longest silence that reaches beyond an instant, its own end included."""
        points = [time for time in (*self.times, self.ended) if time]
        before = [time for time in points if time <= since]
        after = [time for time in points if time > since]
        return max((later - earlier for earlier, later in pairwise([*(before[-1:] or [since]), *after])), default=0.0)


async def ask(
    port: int, path: str, body: Mapping[str, Any], *, key: str = "", seconds: float = SECONDS_MAX, **headers: str
) -> Heard:
    """One request, to its end; one that has none in time is hung up, and has none."""
    content = json.dumps(body).encode()
    more = headers | ({"authorization": f"Bearer {key}"} if key else {})
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in more.items())
    head = (
        f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n{lines}"
        f"connection: close\r\ncontent-length: {len(content)}\r\n\r\n"
    )
    loop = asyncio.get_running_loop()
    heard = Heard(request=head.encode() + content, over=loop.create_future())
    await loop.create_connection(lambda: heard, "127.0.0.1", port)
    try:
        async with asyncio.timeout(seconds):
            await heard.over
    except TimeoutError:
        heard.ended = perf_counter()
    finally:
        heard.leave()
    return heard

"""HTTP to engines: kept connections, a parser in C, callbacks instead of streams, because every chunk passes here."""

import asyncio
from collections import deque
from time import monotonic
from typing import Protocol, cast

import httptools

from relay.lateness import within

IDLE_SECONDS_MAX = 4.0
"""uvicorn closes an idle connection after 5 s; using it just then would look like a fault."""


class Listener(Protocol):
    """Who wants the answer."""

    def head(self, status: int, headers: dict[bytes, bytes]) -> None: ...
    def body(self, data: bytes) -> None: ...
    def complete(self) -> None: ...
    def lost(self, reason: str) -> None: ...


class EngineConnection(asyncio.Protocol):
    """One connection to an engine, for one exchange after the other."""

    def __init__(self, pool: "Pool") -> None:
        self._pool = pool
        self._transport: asyncio.Transport | None = None
        self._listener: Listener | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._headers: dict[bytes, bytes] = {}
        self._complete = False
        self.answered = False  # whether any byte of the present exchange's answer has come
        self.idle_since = 0.0

    @property
    def usable(self) -> bool:
        """Whether another exchange may be sent."""
        return self._transport is not None and not self._transport.is_closing()

    def send(self, request: bytes, listener: Listener) -> None:
        """Sends one request; its answer goes to the listener."""
        assert self._transport is not None  # noqa: S101  narrows: only connected ones are handed out
        self._listener, self._complete, self.answered = listener, False, False
        self._parser = httptools.HttpResponseParser(self)
        self._transport.write(request)

    def abandon(self) -> None:
        """Nobody wants the rest: the engine sees a closed connection and stops its work."""
        self._listener = None
        if self._transport is not None:
            self._transport.abort()

    def pause(self) -> None:
        """Reads no further until resume()."""
        if self.usable and self._transport is not None:
            self._transport.pause_reading()

    def resume(self) -> None:
        """Reads on."""
        if self.usable and self._transport is not None:
            self._transport.resume_reading()

    # asyncio.Protocol
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are none by class

    def data_received(self, data: bytes) -> None:
        if self._listener is None:  # an idle engine has nothing to say
            self.abandon()
            return
        self.answered = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._lose(f"bad HTTP: {error}")
            return
        if self._complete:
            self._release()

    def connection_lost(self, exc: Exception | None) -> None:
        self._pool.forget(self)
        self._lose(f"connection lost: {exc}" if exc else "connection closed")

    def _lose(self, reason: str) -> None:
        listener, self._listener = self._listener, None
        if self._transport is not None:
            self._transport.abort()
        if listener is not None:
            listener.lost(reason)

    def _release(self) -> None:
        listener, self._listener = self._listener, None
        if self._parser.should_keep_alive():
            self._pool.keep(self)
        elif self._transport is not None:
            self._transport.close()
        if listener is not None:
            listener.complete()

    # httptools
    def on_message_begin(self) -> None:
        """Another head starts."""
        self._headers = {}

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header line."""
        self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        """The whole head is there."""
        if self._listener is not None:
            self._listener.head(self._parser.get_status_code(), self._headers)

    def on_body(self, body: bytes) -> None:
        """A piece of the body, without the marks of its chunks."""
        if self._listener is not None:
            self._listener.body(body)

    def on_message_complete(self) -> None:
        """The answer is over."""
        self._complete = True


class Pool:
    """Connections to one engine."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._address = address
        self._idle: deque[EngineConnection] = deque()

    def idle(self) -> EngineConnection | None:
        """A kept connection, the one used last."""
        while self._idle:
            connection = self._idle.pop()
            if connection.usable and monotonic() - connection.idle_since < IDLE_SECONDS_MAX:
                return connection
            connection.abandon()
        return None

    async def connect(self, seconds: float) -> EngineConnection:
        """A new connection. Raises OSError or TimeoutError."""
        loop = asyncio.get_running_loop()
        _, connection = await within(seconds, loop.create_connection(lambda: EngineConnection(self), *self._address))
        return connection

    def keep(self, connection: EngineConnection) -> None:
        """Takes back a connection whose exchange is over."""
        connection.idle_since = monotonic()
        self._idle.append(connection)

    def forget(self, connection: EngineConnection) -> None:
        """A connection is gone."""
        if connection in self._idle:
            self._idle.remove(connection)

    def close(self) -> None:
        """Closes what is idle; after a fault nothing kept is trusted."""
        while self._idle:
            self._idle.pop().abandon()

"""HTTP to the gateway: one request a connection, parsed in C, answered with bytes.

A connection carries one request only. On loopback another one costs a tenth of a millisecond, and a relay that stops
can never race with a request on a kept connection.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import httptools

HEAD_BYTES_MAX = 64 * 1024
BODY_BYTES_MAX = 64 * 1024 * 1024
REQUEST_SECONDS_MAX = 60.0
REASONS = {
    100: "Continue",
    200: "OK",
    400: "Bad Request",
    401: "Unauthorized",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    413: "Content Too Large",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}


@dataclass(frozen=True, kw_only=True)
class HttpRequest:
    """One request, complete."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


Handler = Callable[[HttpRequest, "ClientConnection"], Awaitable[None]]


def error_body(status: int, message: str, kind: str) -> bytes:
    """An error in vLLM's words."""
    return json.dumps({"error": {"message": message, "type": kind, "param": None, "code": status}}).encode()


class ClientConnection(asyncio.Protocol):
    """One client, one request."""

    def __init__(self, handler: Handler, open_connections: set["ClientConnection"]) -> None:
        self._handler, self._open = handler, open_connections
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport
        self._url, self._pieces, self._received = b"", list[bytes](), 0
        self._headers: dict[str, str] = {}
        self._task: asyncio.Task[None] | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._over = self._head_received = False
        self.head_sent, self._unsent_head = False, b""
        self.paused = False
        self.on_paused: Callable[[bool], None] | None = None

    @property
    def begun(self) -> bool:
        """Whether a request has begun to arrive."""
        return self._received > 0

    # asyncio.Protocol
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are none by class
        self._open.add(self)
        self._deadline = asyncio.get_running_loop().call_later(REQUEST_SECONDS_MAX, self._too_slow)

    def data_received(self, data: bytes) -> None:
        if self._task is not None or self._over:
            return  # one request a connection: whatever follows is not read
        self._received += len(data)
        if self._received > BODY_BYTES_MAX:
            self._refuse(413, f"the request has more than {BODY_BYTES_MAX} bytes")
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._refuse(400, "no upgrade of the protocol is offered here")
        except httptools.HttpParserError as error:
            self._refuse(400, f"the request is not valid HTTP: {error}")
        else:
            if not self._head_received and self._received > HEAD_BYTES_MAX:
                self._refuse(431, f"the head of the request has more than {HEAD_BYTES_MAX} bytes")

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  asyncio's signature
        left, self._over = not self._over, True
        self._open.discard(self)
        if self._deadline is not None:
            self._deadline.cancel()
        if left and self._task is not None:
            self._task.cancel()

    def eof_received(self) -> bool:
        return False  # a client that closes its half has gone: its work is cancelled

    def pause_writing(self) -> None:
        self.paused = True
        if self.on_paused is not None:
            self.on_paused(True)

    def resume_writing(self) -> None:
        self.paused = False
        if self.on_paused is not None:
            self.on_paused(False)

    # httptools
    def on_url(self, url: bytes) -> None:
        """A piece of the request line."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header line."""
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """The whole head is there."""
        self._head_received = True
        if self._headers.get("expect", "").lower() == "100-continue":
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self._pieces.append(body)

    def on_message_complete(self) -> None:
        """The request is there."""
        if self._task is not None:
            return
        if self._deadline is not None:
            self._deadline.cancel()
        try:
            path = httptools.parse_url(self._url).path.decode("ascii")
        except (httptools.HttpParserInvalidURLError, UnicodeDecodeError):
            self._refuse(400, "the address is not valid")
            return
        request = HttpRequest(
            method=self._parser.get_method().decode("ascii"),
            path=path,
            headers=self._headers,
            body=b"".join(self._pieces),
        )
        self._pieces = []
        self._task = asyncio.get_running_loop().create_task(self._answer(request))

    async def _answer(self, request: HttpRequest) -> None:
        await self._handler(request, self)
        self.end()

    # answers
    def send(self, status: int, body: bytes, *, kind: str = "application/json", **headers: str) -> None:
        """A whole answer."""
        if self._over or self.head_sent:
            return
        head = self._head(status, kind, headers) + f"content-length: {len(body)}\r\n\r\n"
        self.head_sent = True
        self._transport.write(head.encode("latin-1") + body)
        self.end()

    def send_json(self, status: int, content: Any, **headers: str) -> None:
        """A whole answer from an object."""
        self.send(status, json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode(), **headers)

    def start_stream(self, **headers: str) -> None:
        """The head of an event stream."""
        if not self._over and not self.head_sent:
            head = self._head(200, "text/event-stream; charset=utf-8", headers) + "transfer-encoding: chunked\r\n\r\n"
            self.head_sent = True
            self._unsent_head = head.encode("latin-1")  # goes with the first piece, in one packet

    def write(self, data: bytes) -> None:
        """A piece of a stream."""
        if not self._over:
            head, self._unsent_head = self._unsent_head, b""
            self._transport.write(b"%b%x\r\n%b\r\n" % (head, len(data), data))

    def end_stream(self) -> None:
        """The end of a stream that ended well, or with its error said."""
        if not self._over:
            self._transport.write(self._unsent_head + b"0\r\n\r\n")
            self.end()

    def end(self) -> None:
        """Nothing more is sent."""
        if not self._over:
            self._over = True
            self._transport.close()

    def drop(self) -> None:
        """Cuts the connection: the client must not take what it has for a whole answer."""
        self._over = True
        self._transport.abort()

    def _head(self, status: int, kind: str, headers: Mapping[str, str]) -> str:
        lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        return (
            f"HTTP/1.1 {status} {REASONS.get(status, 'Status')}\r\ncontent-type: {kind}\r\nconnection: close\r\n{lines}"
        )

    def _refuse(self, status: int, message: str) -> None:
        self.send(status, error_body(status, message, "BadRequestError"))

    def _too_slow(self) -> None:
        self._refuse(408, f"the request was not complete after {REQUEST_SECONDS_MAX:.0f} s")

"""Null connection: the HTTP side of the null server. One connection parses requests, one exchange sends one answer;
when each piece is due is the server's business.
"""

import asyncio
import json
from typing import TYPE_CHECKING, Any

import httptools

from benchmarks.null_behaviour import Behaviour
from benchmarks.null_replies import EVENT_STREAM_HEAD, Reply, frame, http_error, json_reply, plain_reply

if TYPE_CHECKING:
    from benchmarks.null_server import NullServer

FAULTS_BEFORE = ("unauthorized", "missing", "rate_limited", "server_error", "html", "garbage", "reset", "mute")
TICK_SECONDS = 0.001
BURST_CHUNKS = 32


class Exchange:
    """One streamed answer."""

    __slots__ = ("_body", "_connection", "_index", "_itl", "_reply", "_silent", "behaviour", "due")

    def __init__(self, connection: "Connection", reply: Reply, behaviour: Behaviour) -> None:
        self._connection, self._reply, self.behaviour = connection, reply, behaviour
        self._index, self._itl, self._silent = 0, behaviour.itl_ms / 1000, False
        self.due = 0.0

    def begin(self, now: float) -> None:
        """The slot is ours: the first token is due after the TTFT."""
        self.due = now + self.behaviour.ttft_ms / 1000
        if self._reply.streamed:
            self._connection.write(EVENT_STREAM_HEAD)
        else:
            self.due += self._itl * self._reply.tokens

    def advance(self) -> bool:
        """Sends what is due; False once the answer is over."""
        connection = self._connection
        if connection.gone:
            return False
        if not self._reply.streamed:
            connection.write(json_reply(self._reply.whole()))
            connection.done()
            return False
        if connection.congested:
            self.due += TICK_SECONDS
            return True
        for _ in range(1 if self._itl else BURST_CHUNKS):
            piece = self._reply.piece(self._index)
            if piece is None:
                return self._finish()
            self._index += 1
            connection.traffic.chunks += 1
            connection.write(piece)
        self.due += self._itl
        return True

    def _finish(self) -> bool:
        fault = self._reply.fault
        if fault in {"silent", "endless"}:
            if fault == "endless":
                self._connection.write(frame(b": still here\n\n"))
            self.due += 0.2
            return True
        if fault == "cut":
            self._connection.drop()
            return False
        self._connection.write(self._reply.ending())
        self._connection.done()
        return False


class Connection(asyncio.Protocol):
    """One client connection: parses requests, hands them to the server."""

    def __init__(self, server: "NullServer") -> None:
        self._server = server
        self._parser = httptools.HttpRequestParser(self)
        self._body, self._url, self._headers = b"", b"", {}  # type: tuple[bytes, bytes, dict[bytes, bytes]]
        self._exchange: Exchange | None = None
        self.traffic = server.traffic
        self.gone = self.congested = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101  narrows for the type checker
        self._transport = transport
        self.write = transport.write

    def connection_lost(self, _: Exception | None) -> None:
        self.gone = True
        if self._exchange is not None:
            self._server.forget(self._exchange)

    def pause_writing(self) -> None:
        self.congested = True

    def resume_writing(self) -> None:
        self.congested = False

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.abort()

    def on_url(self, url: bytes) -> None:
        self._url, self._body, self._headers = url, b"", {}

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.lower()] = value

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        if self._parser.get_method() == b"GET":
            models = {"object": "list", "data": [{"id": "null", "object": "model", "owned_by": "nobody"}]}
            seen = {"requests": self.traffic.requests, "chunks": self.traffic.chunks}
            self.write(json_reply(seen if self._url == b"/traffic" else models))
            self.done()
            return
        try:
            asked: dict[str, Any] = json.loads(self._body)
            behaviour = self._server.behaviour.told_by(str(asked.get("model", "")))
        except ValueError as error:
            self._refuse(400, str(error))
            return
        self._server.traffic.requests += 1
        request_id = self._headers.get(b"x-request-id", b"").decode() or f"r{self._server.traffic.requests}"
        self._server.traffic.request_ids.append(request_id)
        key = self._server.key
        if key and self._headers.get(b"authorization", b"").decode() != f"Bearer {key}":
            behaviour = Behaviour(fault="unauthorized")
        if behaviour.fault in FAULTS_BEFORE:
            self._misbehave(behaviour.fault)
            return
        reply = Reply.to(asked, request_id=request_id, chat=b"chat" in self._url, behaviour=behaviour)
        self._exchange = Exchange(self, reply, behaviour)
        self._server.admit(self._exchange)

    def done(self) -> None:
        """The answer is complete."""
        self._exchange = None
        if self._headers.get(b"connection", b"").lower() == b"close":
            self._transport.close()

    def drop(self) -> None:
        """Closes in mid-answer."""
        self._transport.close()

    def _refuse(self, status: int, message: str) -> None:
        self.write(http_error(status, message))
        self.done()

    def _misbehave(self, fault: str) -> None:
        statuses = {"unauthorized": 401, "missing": 404, "rate_limited": 429, "server_error": 500}
        if fault in statuses:
            self._refuse(statuses[fault], f"this model answers {statuses[fault]}")
        elif fault == "html":
            self.write(plain_reply("text/html", b"<html><body>Welcome to the proxy</body></html>"))
            self.done()
        elif fault == "garbage":
            self.write(b"220 mail.example ESMTP ready\r\n")
            self._transport.close()
        elif fault == "reset":
            self._transport.abort()

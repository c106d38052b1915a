"""Null server: an OpenAI-compatible endpoint that computes nothing, so that what is measured against it is the
client.

Paced streams keep their rhythm by the clock (chunk k is due at start + TTFT + k * ITL, never later because the one
before was late). Every token says which stream it belongs to and its number, so that a lost, doubled or strayed one
is visible. It binds to loopback only. Behaviour comes from the model's name, so one server plays all parts:
`null?ttft_ms=50&itl_ms=20&tokens=100&reasoning=10&fault=cut`; `benchmarks/README.md` lists the faults.
"""

import argparse
import asyncio
import heapq
import ipaddress
import json
import signal
import ssl
import sys
from collections import deque
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import httptools

from benchmarks.errors import BadLoad
from benchmarks.null_replies import EVENT_STREAM_HEAD, Reply, frame, http_error, json_reply, plain_reply

FAULTS_BEFORE = ("unauthorized", "missing", "rate_limited", "server_error", "html", "garbage", "reset", "mute")
TICK_SECONDS = 0.001
BURST_CHUNKS = 32


@dataclass(frozen=True, kw_only=True)
class Behaviour:
    """How one stream goes."""

    ttft_ms: float = 10.0
    itl_ms: float = 50.0
    tokens: int = 0  # 0 = the request's max_tokens
    reasoning: int = 0
    fault: str = ""

    def told_by(self, model: str) -> "Behaviour":
        """This behaviour with what the model's name asks for."""
        asked = dict(parse_qsl(model.partition("?")[2]))
        kinds = {item.name: type(getattr(self, item.name)) for item in fields(self)}
        return replace(self, **{key: kinds[key](value) for key, value in asked.items() if key in kinds})


@dataclass(kw_only=True)
class Traffic:
    """What the server has seen, for tests and calibration."""

    requests: int = 0
    chunks: int = 0
    request_ids: list[str] = field(default_factory=list)


class NullServer:
    """Paces all streams from one timer."""

    def __init__(self, behaviour: Behaviour, *, slots: int = 0, key: str = "") -> None:
        self.behaviour, self.key, self.traffic = behaviour, key, Traffic()
        self._slots, self._busy, self._waiting = slots, 0, deque["Exchange"]()
        self._due: list[tuple[float, int, Exchange]] = []
        self._order = 0
        self._timer: asyncio.TimerHandle | None = None

    def admit(self, exchange: "Exchange") -> None:
        """Starts an exchange, or queues it while all slots are busy."""
        if self._slots and self._busy >= self._slots:
            self._waiting.append(exchange)
            return
        self._busy += 1
        exchange.begin(asyncio.get_running_loop().time())
        self.at(exchange.due, exchange)

    def release(self) -> None:
        """A slot has become free."""
        self._busy -= 1
        while self._waiting and (not self._slots or self._busy < self._slots):
            self.admit(self._waiting.popleft())

    def forget(self, exchange: "Exchange") -> None:
        """A queued client has gone away."""
        if exchange in self._waiting:
            self._waiting.remove(exchange)

    def at(self, due: float, exchange: "Exchange") -> None:
        """Lets the exchange continue at that loop time."""
        self._order += 1
        heapq.heappush(self._due, (due, self._order, exchange))
        if self._timer is None or due < self._timer.when() - TICK_SECONDS:
            self._arm()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(self._due[0][0], self._tick) if self._due else None

    def _tick(self) -> None:
        due, now = self._due, asyncio.get_running_loop().time()
        self._timer = None
        while due and due[0][0] <= now:
            exchange = due[0][2]
            if exchange.advance():
                self._order += 1
                heapq.heapreplace(due, (exchange.due, self._order, exchange))
            else:
                heapq.heappop(due)
                self.release()
        self._arm()


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
            self._connection.write(frame(self._reply.role_event()))
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

    def __init__(self, server: NullServer) -> None:
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


async def serve(server: NullServer, *, port: int, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> int:
    """Starts listening; returns the port."""
    if not ipaddress.ip_address(host).is_loopback:
        raise BadLoad(f"{host}: the null server listens on loopback addresses only")
    loop = asyncio.get_running_loop()
    listener = await loop.create_server(lambda: Connection(server), host, port, ssl=tls, backlog=4096)
    return int(listener.sockets[0].getsockname()[1])


def main() -> None:
    """Runs until SIGTERM or until standard input closes; prints the port as its only line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.null_server", description=__doc__.partition("\n")[0])
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 = any free one")
    parser.add_argument("--ttft-ms", type=float, default=10.0)
    parser.add_argument("--itl-ms", type=float, default=50.0, help="0 = as fast as the client reads")
    parser.add_argument("--tokens", type=int, default=0, help="0 = what max_tokens asks for")
    parser.add_argument("--slots", type=int, default=0, help="answers at a time; later ones queue; 0 = no limit")
    parser.add_argument("--certificate", type=Path, help="PEM with certificate and key: speak TLS")
    parser.add_argument("--follow-stdin", action="store_true", help="end when standard input closes")
    options = parser.parse_args()
    behaviour = Behaviour(ttft_ms=options.ttft_ms, itl_ms=options.itl_ms, tokens=options.tokens)
    tls = None
    if options.certificate:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(options.certificate)

    async def forever() -> None:
        over = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, over.set)
        loop.add_signal_handler(signal.SIGINT, over.set)
        if options.follow_stdin:
            loop.add_reader(sys.stdin, over.set)
        port = await serve(NullServer(behaviour, slots=options.slots), port=options.port, host=options.host, tls=tls)
        print(port, flush=True)
        await over.wait()

    try:
        asyncio.run(forever())
    except BadLoad as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()

"""Stream: one request from connect to [DONE] on a non-blocking socket. This is the hot path; every line here is paid
per chunk.

Per chunk: one recv, one HTTP-parser call (C), one clock reading, one split, one regular expression, one CRC. No JSON,
no tokenizer, no object per chunk: times, checksums and kinds go to flat arrays.
"""

import errno
import socket
import ssl
from _socket import socket as CSocket  # noqa: N812  the C class itself: faster, and gevent leaves it alone
from array import array
from select import EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT
from time import monotonic_ns
from zlib import crc32

from httptools import HttpParserError, HttpResponseParser

from benchmarks import events
from benchmarks.endpoint import Endpoint
from benchmarks.record import OK, Record
from benchmarks.workload import Call

RECEIVE_BYTES = 65536
DETAIL_BYTES = 2048
EVENT_BYTES_MAXIMUM = 8 * 1024 * 1024
CONNECTING, SHAKING, SENDING, READING = range(4)
_STATUS_CLASS = {401: "unauthorized", 403: "unauthorized", 404: "not_found", 429: "rate_limited"}
_NO_SOCKETS = {errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL, errno.ENOBUFS, errno.ENOMEM}


class Tally:
    """Events read by all streams of a process."""

    __slots__ = ("events",)

    def __init__(self) -> None:
        self.events = 0


class Stream:
    """Feeds itself from its socket; `outcome` is set once it is over. Times inside are absolute monotonic ns."""

    __slots__ = (
        "_crcs", "_detail", "_done", "_encrypted", "_endpoint", "_error_seen", "_first_byte_ns", "_identity",
        "_incoming", "_keep_body", "_kept", "_kinds", "_outbox", "_outgoing", "_parser", "_sent_ns",
        "_started_ns", "_status", "_streaming", "_tail", "_tally", "_times", "_tokens", "_usage", "call",
        "ended_ns", "heard_ns", "intended_ns", "outcome", "socket", "stage", "wants",
    )  # fmt: skip

    def __init__(self, call: Call, endpoint: Endpoint, *, intended_ns: int, keep_body: bool, tally: Tally) -> None:
        self.call, self.intended_ns, self._tally = call, intended_ns, tally
        self._endpoint, self._keep_body = endpoint, keep_body
        self._parser = HttpResponseParser(self)
        self._times, self._crcs, self._kinds = array("q"), array("I"), bytearray()
        self._tail = self._detail = self._usage = b""
        self._kept: list[bytes] = []
        self._identity: bytes | None = None
        self._encrypted: ssl.SSLObject | None = None
        self._status = self._sent_ns = self._first_byte_ns = self._tokens = self.ended_ns = 0
        self._streaming = self._done = self._error_seen = False
        self.outcome, self.stage, self.wants = "", CONNECTING, EPOLLIN
        self.socket: CSocket | None = None
        self._outbox: memoryview = memoryview(b"")
        self._started_ns = self.heard_ns = monotonic_ns()

    @property
    def heard(self) -> bool:
        """Whether the server has said anything yet."""
        return self._first_byte_ns > 0

    def open(self) -> None:
        """Begins to connect."""
        if self._endpoint.failure:
            self._end("dns", self._endpoint.failure)
            return
        try:
            self.socket = _new_socket(self._endpoint.family)
            code = self.socket.connect_ex(self._endpoint.address)
        except OSError as error:
            self._end("client" if error.errno in _NO_SOCKETS else "refused", str(error))
            return
        if code == 0:
            self._connected()
        elif code == errno.EINPROGRESS:
            self.wants = EPOLLOUT
        else:
            self._end("client" if code in _NO_SOCKETS else "refused", errno.errorcode.get(code, str(code)))

    def on_ready(self, mask: int) -> None:
        """The socket is ready for what was wanted."""
        if self.stage == READING:
            self._receive()
        elif self.stage == CONNECTING:
            assert self.socket is not None  # noqa: S101  narrows for the type checker
            code = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                self._end("client" if code in _NO_SOCKETS else "refused", errno.errorcode.get(code, str(code)))
            else:
                self._connected()
        else:
            if mask & EPOLLOUT:
                self._flush()
            if mask & (EPOLLIN | EPOLLERR | EPOLLHUP) and not self.outcome:
                self._receive()

    def give_up(self, outcome: str, detail: str = "") -> None:
        """Ends the stream from outside: patience is over or the run is."""
        self._end(outcome, detail)

    def record(self, *, origin_ns: int) -> Record:
        """The stream's life, relative to the origin. The last thing asked of a stream: it lets go of its parser."""
        del self._parser  # parser and stream hold each other
        for index, instant in enumerate(self._times):
            self._times[index] = instant - origin_ns
        return Record(
            request_id=self.call.request_id,
            sequence=self.call.sequence,
            turn=self.call.turn,
            outcome=self.outcome,
            detail=self._detail.decode("utf-8", "replace"),
            status=self._status,
            intended_ns=self.intended_ns - origin_ns,
            started_ns=self._started_ns - origin_ns,
            sent_ns=self._sent_ns - origin_ns if self._sent_ns else 0,
            first_byte_ns=self._first_byte_ns - origin_ns if self._first_byte_ns else 0,
            ended_ns=self.ended_ns - origin_ns,
            prompt_tokens=self.call.prompt_tokens,
            output_tokens=self.call.output_tokens,
            event_ns=self._times.tobytes(),
            event_crc=self._crcs.tobytes(),
            event_kind=bytes(self._kinds),
            usage=self._usage,
            body=b"".join(self._kept),
        )

    # --- httptools calls these ---

    def on_headers_complete(self) -> None:
        self._status = self._parser.get_status_code()

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"content-type":
            self._streaming = value.lower().startswith(b"text/event-stream")

    def on_body(self, body: bytes) -> None:
        if not self._streaming or self._status != 200:  # noqa: PLR2004  HTTP OK
            if len(self._detail) < DETAIL_BYTES:
                self._detail += body[:DETAIL_BYTES]
            return
        if self._keep_body:
            self._kept.append(body)
        if self._tail:
            body = self._tail + body
        if b"\r" in body:
            body = body.replace(b"\r\n", b"\n")
        pieces = body.split(b"\n\n")
        self._tail = pieces.pop()
        now = self.heard_ns
        self._tally.events += len(pieces)
        for event in pieces:
            self._times.append(now)
            self._crcs.append(crc32(event))
            kind = events.kind_of(event)
            if kind == events.ANSWER or kind == events.REASONING:  # noqa: PLR1714  twice as fast as `in`
                self._tokens += 1
            else:
                self._note(kind, event)
            identity = self._identity
            if identity is None:
                self._identity = events.id_of(event)
            elif identity not in event and kind < events.ERROR and events.id_of(event):
                kind |= events.FOREIGN
            self._kinds.append(kind)

    def on_message_complete(self) -> None:
        self._judge()

    # --- inside ---

    def _note(self, kind: int, event: bytes) -> None:
        if kind == events.DONE:
            self._done = True
            self.ended_ns = self.heard_ns
        elif kind == events.ERROR:
            self._error_seen = True
            self._detail = event[:DETAIL_BYTES]
        elif b'"usage"' in event:
            self._usage = event

    def _connected(self) -> None:
        self.stage = SENDING
        if self._endpoint.context is None:
            self._outbox = memoryview(self._request())
        else:
            self.stage = SHAKING
            self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            self._encrypted = self._endpoint.context.wrap_bio(
                self._incoming, self._outgoing, server_hostname=self._endpoint.server_name
            )
            self._shake()
        self._flush()

    def _request(self) -> bytes:
        return self._endpoint.request(request_id=self.call.request_id, body=self.call.body)

    def _shake(self) -> None:
        assert self._encrypted is not None  # noqa: S101  narrows for the type checker
        try:
            self._encrypted.do_handshake()
        except ssl.SSLWantReadError:
            pass
        except (ssl.SSLError, ssl.CertificateError) as error:
            self._end("tls", str(error))
        else:
            rest = memoryview(self._request())
            while rest:
                rest = rest[self._encrypted.write(rest) :]
            self.stage = SENDING
        self._outbox = memoryview(bytes(self._outbox) + self._outgoing.read())

    def _flush(self) -> None:
        if self.outcome or self.socket is None:
            return
        try:
            sent = self.socket.send(self._outbox) if self._outbox else 0
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self._end("no_response", str(error))
            return
        self._outbox = self._outbox[sent:]
        if self._outbox:
            self.wants = EPOLLIN | EPOLLOUT
            return
        self.wants = EPOLLIN
        if self.stage == SENDING:
            self._sent_ns, self.stage = monotonic_ns(), READING

    def _receive(self) -> None:
        assert self.socket is not None  # noqa: S101  narrows for the type checker
        try:
            data = self.socket.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self._eof(str(error))
            return
        if not data:
            self._eof("")
            return
        self.heard_ns = monotonic_ns()
        if self._encrypted is not None:
            data = self._decrypted(data)
            if not data:
                return
        if not self._first_byte_ns:
            self._first_byte_ns = self.heard_ns
        try:
            self._parser.feed_data(data)
        except HttpParserError as error:
            self._end("protocol", str(error))
        if len(self._tail) > EVENT_BYTES_MAXIMUM:
            self._end("protocol", f"an event of more than {EVENT_BYTES_MAXIMUM} bytes")

    def _decrypted(self, data: bytes) -> bytes:
        assert self._encrypted is not None  # noqa: S101  narrows for the type checker
        self._incoming.write(data)
        if self.stage == SHAKING:
            self._shake()
            self._flush()
            if self.stage == SHAKING or self.outcome:
                return b""
        plain = b""
        try:
            while piece := self._encrypted.read(RECEIVE_BYTES):
                plain += piece
        except (ssl.SSLWantReadError, ssl.SSLZeroReturnError):
            pass
        except ssl.SSLError as error:
            self._end("tls", str(error))
            return b""
        return plain

    def _eof(self, detail: str) -> None:
        if self.stage == SHAKING:
            self._end("tls", detail or "closed during the handshake")
        elif not self._status:
            self._end("no_response", detail)
        else:
            self._judge(detail)

    def _judge(self, detail: str = "") -> None:
        """Names the outcome of a finished response."""
        status = self._status
        if status != 200:  # noqa: PLR2004  HTTP OK
            family = {4: "rejected", 5: "server_error"}.get(status // 100, "unexpected_status")
            self._end(_STATUS_CLASS.get(status, family), detail)
        elif not self._streaming:
            self._end("not_a_stream", detail)
        elif self._error_seen:
            self._end("error_event", detail)
        elif not self._done:
            self._end("cut", detail)
        else:
            self._end(OK if self._tokens else "empty", detail)

    def _end(self, outcome: str, detail: str) -> None:
        if self.outcome:
            return
        self.outcome = outcome
        self._detail = self._detail or detail.encode()[:DETAIL_BYTES]
        self.ended_ns = self.ended_ns or monotonic_ns()
        if self.socket is not None:
            self.socket.close()


def _new_socket(family: int) -> CSocket:
    made = CSocket(family, socket.SOCK_STREAM)
    made.setblocking(False)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return made

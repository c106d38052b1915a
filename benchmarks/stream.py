"""Stream: one request from connect to [DONE] on a non-blocking socket. Per chunk: one recv, one HTTP-parser call (C),
one clock reading; what the chunk says goes to the event log.
"""

import errno
import socket
import ssl
from _socket import socket as CSocket  # noqa: N812  the C class itself: faster, and gevent leaves it alone
from select import EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT
from time import monotonic_ns

from httptools import HttpParserError, HttpResponseParser

from benchmarks.endpoint import Endpoint
from benchmarks.event_log import EventLog, Tally
from benchmarks.record import OK, Record, class_of_status
from benchmarks.tunnel import Tunnel
from benchmarks.workload import Call

RECEIVE_BYTES = 65536
DETAIL_BYTES = 2048
EVENT_BYTES_MAXIMUM = 8 * 1024 * 1024
CONNECTING, SHAKING, SENDING, READING = range(4)
_NO_SOCKETS = {errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL, errno.ENOBUFS, errno.ENOMEM}


class Stream:
    """Feeds itself from its socket; `outcome` is set once it is over. Times inside are absolute monotonic ns."""

    __slots__ = (
        "_detail", "_endpoint", "_first_byte_ns", "_log", "_outbox", "_parser", "_sent_ns", "_started_ns", "_status",
        "_streaming", "_tunnel", "call", "ended_ns", "heard_ns", "intended_ns", "outcome", "socket", "stage", "wants",
    )  # fmt: skip

    def __init__(self, call: Call, endpoint: Endpoint, *, intended_ns: int, keep_body: bool, tally: Tally) -> None:
        self.call, self.intended_ns, self._endpoint = call, intended_ns, endpoint
        self._log = EventLog(keep_body=keep_body, tally=tally)
        self._parser = HttpResponseParser(self)
        self._detail = b""
        self._tunnel: Tunnel | None = None
        self._status = self._sent_ns = self._first_byte_ns = self.ended_ns = 0
        self._streaming = False
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
            self._unconnected(error.errno or 0)
            return
        if code == 0:
            self._connected()
        elif code == errno.EINPROGRESS:
            self.wants = EPOLLOUT
        else:
            self._unconnected(code)

    def on_ready(self, mask: int) -> None:
        """The socket is ready for what was wanted."""
        if self.stage == READING:
            self._receive()
        elif self.stage == CONNECTING:
            assert self.socket is not None  # noqa: S101  narrows for the type checker
            code = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                self._unconnected(code)
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

    def close(self) -> None:
        """Lets go of the socket, which nobody may be waiting for any more."""
        if self.socket is not None:
            self.socket.close()

    def record(self, *, origin_ns: int) -> Record:
        """The stream's life, relative to the origin. The last thing asked of a stream: it lets go of its parser."""
        del self._parser  # parser and stream hold each other
        log = self._log
        for index, instant in enumerate(log.times):
            log.times[index] = instant - origin_ns
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
            event_ns=log.times.tobytes(),
            event_crc=log.crcs.tobytes(),
            event_kind=bytes(log.kinds),
            usage=log.usage,
            body=log.body,
        )

    # --- httptools calls these ---

    def on_headers_complete(self) -> None:
        self._status = self._parser.get_status_code()

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"content-type":
            self._streaming = value.lower().startswith(b"text/event-stream")

    def on_body(self, body: bytes) -> None:
        if self._status == 200 and not self.call.streamed:  # noqa: PLR2004  HTTP OK
            self._log.hold(body)
            return
        if not self._streaming or self._status != 200:  # noqa: PLR2004  HTTP OK
            if len(self._detail) < DETAIL_BYTES:
                self._detail += body[:DETAIL_BYTES]
            return
        self._log.take(body, self.heard_ns)

    def on_message_complete(self) -> None:
        self._log.release(self.heard_ns)
        self._judge()

    # --- inside ---

    def _unconnected(self, code: int) -> None:
        self._end("client" if code in _NO_SOCKETS else "refused", errno.errorcode.get(code, str(code)))

    def _connected(self) -> None:
        self.stage = SENDING
        if self._endpoint.context is None:
            self._outbox = memoryview(self._request())
        else:
            self.stage = SHAKING
            self._tunnel = Tunnel(self._endpoint.context, server_name=self._endpoint.server_name)
            self._shake(self._tunnel)
        self._flush()

    def _request(self) -> bytes:
        return self._endpoint.request(request_id=self.call.request_id, body=self.call.body)

    def _shake(self, tunnel: Tunnel) -> None:
        try:
            if tunnel.shake():
                tunnel.encrypt(self._request())
                self.stage = SENDING
        except ssl.SSLError as error:
            self._end("tls", str(error))
        self._outbox = memoryview(bytes(self._outbox) + tunnel.to_send())

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
        if self._tunnel is not None:
            data = self._decrypted(self._tunnel, data)
            if not data:
                return
        if not self._first_byte_ns:
            self._first_byte_ns = self.heard_ns
        try:
            self._parser.feed_data(data)
        except HttpParserError as error:
            self._end("protocol", str(error))
        if len(self._log.tail) > EVENT_BYTES_MAXIMUM:
            self._end("protocol", f"an event of more than {EVENT_BYTES_MAXIMUM} bytes")

    def _decrypted(self, tunnel: Tunnel, data: bytes) -> bytes:
        tunnel.heard(data)
        if self.stage == SHAKING:
            self._shake(tunnel)
            self._flush()
            if self.stage == SHAKING or self.outcome:
                return b""
        try:
            return tunnel.plain()
        except ssl.SSLError as error:
            self._end("tls", str(error))
            return b""

    def _eof(self, detail: str) -> None:
        if self.stage == SHAKING:
            self._end("tls", detail or "closed during the handshake")
        elif not self._status:
            self._end("no_response", detail)
        else:
            self._judge(detail)

    def _judge(self, detail: str = "") -> None:
        """Names the outcome of a finished response."""
        log = self._log
        if self._status != 200:  # noqa: PLR2004  HTTP OK
            self._end(class_of_status(self._status), detail)
        elif not self._streaming and self.call.streamed:
            self._end("not_a_stream", detail)
        elif log.error:
            self._end("error_event", detail)
        elif not log.done_ns:
            self._end("cut", detail)
        else:
            self._end(OK if log.tokens else "empty", detail)

    def _end(self, outcome: str, detail: str) -> None:
        if self.outcome:
            return
        self.outcome = outcome
        self._detail = (self._detail or self._log.error or detail.encode())[:DETAIL_BYTES]
        self.ended_ns = self._log.done_ns or monotonic_ns()


def _new_socket(family: int) -> CSocket:
    made = CSocket(family, socket.SOCK_STREAM)
    made.setblocking(False)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return made

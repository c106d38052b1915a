"""Record: the life of one request, raw. Times are ns from the run's origin, so records of many processes merge.

Failure classes are exact words (`FAILURES`); every count in a report is a count of one of them.
"""

from array import array
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

OK = "ok"
FAILURES: Mapping[str, str] = {
    "dns": "the host name does not resolve",
    "refused": "nothing listens there, or the network is unreachable",
    "connect_timeout": "no connection in time",
    "tls": "the TLS handshake or certificate failed",
    "no_response": "connection closed before any answer",
    "first_byte_timeout": "no answer in time",
    "unauthorized": "HTTP 401 or 403",
    "not_found": "HTTP 404: no such model or path",
    "rate_limited": "HTTP 429",
    "rejected": "another HTTP 4xx",
    "server_error": "HTTP 5xx",
    "unexpected_status": "a redirect or another status",
    "not_a_stream": "HTTP 200 with HTML, JSON or anything but an event stream",
    "protocol": "bytes that are no HTTP",
    "error_event": "an error inside the stream",
    "cut": "the stream ended without [DONE]",
    "empty": "[DONE] without a single token",
    "silent": "nothing for longer than the client waits",
    "endless": "not over after the longest time a client waits",
    "client": "this machine ran out of sockets or ports",
    "abandoned": "still open when the run was stopped",
}

_OF_STATUS = {401: "unauthorized", 403: "unauthorized", 404: "not_found", 429: "rate_limited"}


def class_of_status(status: int) -> str:
    """The failure class of an HTTP status other than 200."""
    return _OF_STATUS.get(status, {4: "rejected", 5: "server_error"}.get(status // 100, "unexpected_status"))


@dataclass(frozen=True, kw_only=True)
class Record:
    """One finished request."""

    request_id: str
    sequence: int
    turn: int
    outcome: str
    detail: str
    status: int
    intended_ns: int
    started_ns: int
    sent_ns: int  # 0 = never
    first_byte_ns: int  # 0 = never; of the answer's body or headers, whichever came first
    ended_ns: int
    prompt_tokens: int  # as planned; the server's count is in `usage`
    output_tokens: int
    event_ns: bytes  # int64 per event
    event_crc: bytes  # uint32 per event
    event_kind: bytes  # uint8 per event
    usage: bytes  # the event that carried it, as received
    body: bytes  # the whole event stream, if kept

    def event_times_ns(self) -> "array[int]":
        """Arrival of each event."""
        return array("q", self.event_ns)

    def checksums(self) -> "array[int]":
        """CRC-32 of each event."""
        return array("I", self.event_crc)

    def packed(self) -> list[Any]:
        """Field values in order, for the history file."""
        return [getattr(self, name) for name in _NAMES]

    @classmethod
    def unpacked(cls, values: list[Any]) -> Self:
        """The inverse of `packed`."""
        return cls(**dict(zip(_NAMES, values, strict=True)))


_NAMES = [field.name for field in fields(Record)]

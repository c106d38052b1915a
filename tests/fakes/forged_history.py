"""Forged histories: sound lives of streams, as the null server's would be recorded, to be spoiled one defect at a
time.
"""

import dataclasses
import json
from array import array
from collections.abc import Sequence
from typing import Any
from zlib import crc32

from benchmarks import events
from benchmarks.driver import Effort
from benchmarks.history import History
from benchmarks.load import Load, Target
from benchmarks.record import Record

MILLISECOND = 1_000_000


def event(request_id: str, delta: dict[str, str]) -> bytes:
    """One chunk, without the blank line that ends it."""
    chunk = {"id": f"chatcmpl-{request_id}", "choices": [{"index": 0, "delta": delta}]}
    return b"data: " + json.dumps(chunk, separators=(",", ":")).encode()


def tokens(request_id: str, count: int) -> list[bytes]:
    """Numbered tokens."""
    return [event(request_id, {"content": f" {request_id}.{number}"}) for number in range(count)]


def words(request_id: str, text: str) -> list[bytes]:
    """A token per word, as a real engine would stream them."""
    return [event(request_id, {"content": " " + word}) for word in text.split()]


def usage(request_id: str, count: int, *, finish_reason: str | None = "length") -> bytes:
    """The event with the finish reason and the server's own count."""
    counts = {"prompt_tokens": 5, "completion_tokens": count, "total_tokens": 5 + count}
    choices = [{"index": 0, "delta": {}, "finish_reason": finish_reason}]
    return b"data: " + json.dumps({"id": f"chatcmpl-{request_id}", "choices": choices, "usage": counts}).encode()


DONE = b"data: [DONE]"
ERROR = b'data: {"error":{"message":"engine died","code":500}}'


def record(
    number: int = 0,
    *,
    said: Sequence[bytes] | None = None,
    ending: Sequence[bytes] | None = None,
    times_ms: Sequence[int] | None = None,
    keep: bool = True,
    at_ns: int | None = None,
    **changes: Any,
) -> Record:
    """Request `number`: intended at number * 100 ms, first token 20 ms later, one token every 10 ms."""
    request_id = f"run-{number}-0"
    said = tokens(request_id, 5) if said is None else said
    stream = [*said, *([usage(request_id, len(said)), DONE] if ending is None else ending)]
    intended = number * 100 * MILLISECOND if at_ns is None else at_ns
    if times_ms is None:
        times_ms = [20 + 10 * index for index in range(len(stream))]
    kinds = [events.kind_of(piece) for piece in stream]
    mine = f'"id":"chatcmpl-{request_id}"'.encode()
    kinds = [
        kind | (events.FOREIGN if b'"id":"' in piece and mine not in piece else 0)
        for kind, piece in zip(kinds, stream, strict=True)
    ]
    made = Record(
        request_id=request_id,
        sequence=number,
        turn=0,
        outcome="ok",
        detail="",
        status=200,
        intended_ns=intended,
        started_ns=intended + MILLISECOND,
        sent_ns=intended + 2 * MILLISECOND,
        first_byte_ns=intended + 3 * MILLISECOND,
        ended_ns=intended + times_ms[-1] * MILLISECOND if times_ms else intended,
        prompt_tokens=5,
        output_tokens=len(said),
        event_ns=array("q", (intended + instant * MILLISECOND for instant in times_ms)).tobytes(),
        event_crc=array("I", map(crc32, stream)).tobytes(),
        event_kind=bytes(kinds),
        usage=next((piece for piece in stream if b'"usage"' in piece), b""),
        body=b"".join(piece + b"\n\n" for piece in stream) if keep else b"",
    )
    return dataclasses.replace(made, **changes)


def history(
    *records: Record, scheduled: int | None = None, efforts: Sequence[Effort] = (), complete: bool = True
) -> History:
    """A run of these records."""
    return History(
        load=Load(target=Target(base_url="http://127.0.0.1:1/v1", model="null")),
        run_id="run",
        started_at=0.0,
        scheduled_count=len(records) if scheduled is None else scheduled,
        records=records,
        efforts=efforts,
        complete=complete,
    )


def of_load(forged: History, load: Load) -> History:
    """The same records as an answer to another load."""
    return dataclasses.replace(forged, load=load)

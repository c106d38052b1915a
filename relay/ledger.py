"""What each request used, on disk before the client has its last bytes: the relay's side of the bill.

A request makes a `begin` line (handed to the kernel: survives the death of the process), `progress` lines (cumulative,
the first at once, then at most one a second) and one `end` line that repeats everything, so that readers need nothing
else. `end` returns when its line is on the disk (ledger_writer.py says how, and what a full disk does). Whatever a
killed predecessor left open is ended by the next `open`, outcome `relay_lost`, with its last progress.

    {"kind":"end","at":..,"entry":"9f86d081884c7d65-17","group":"chat","request":"<x-request-id>","model":"qwen",
     "endpoint":"/v1/chat/completions","begun_at":..,"prompt_tokens":11,"completion_tokens":7,"cached_tokens":0,
     "legs":[{"replica":"qwen-h2","prompt_tokens":11,"completion_tokens":7,"outcome":"completed"}],
     "outcome":"completed","crc":".."}

`entry` names a request once and for all: a line that stands twice (repair after a disk fault, a takeover that was
itself killed) has the same one. Request ids may repeat, since a client of the relay may send one twice.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from relay.ledger_lines import encode
from relay.ledger_reader import AbandonedSegment, read_all
from relay.ledger_writer import SEGMENT_BYTES, SEGMENT_SECONDS, LedgerCounters, SegmentWriter

RELAY_LOST = "relay_lost"
PROGRESS_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True)
class Leg:
    """What one engine did for a request, in the tokens that it reported."""

    replica: str
    prompt_tokens: int
    completion_tokens: int
    outcome: str


@dataclass(kw_only=True)
class _Entry:
    record: dict[str, Any]
    progressed_at: float = 0.0
    progress: dict[str, Any] = field(default_factory=dict)


class Ledger:
    """The open requests of one relay process, and the segments it writes."""

    def __init__(self, writer: SegmentWriter, *, group: str, taken_over: int) -> None:
        self._writer = writer
        self._group = group
        self._number = 0
        self._open: dict[str, _Entry] = {}
        self.taken_over_count = taken_over

    @classmethod
    def open(
        cls,
        directory: Path,
        *,
        group: str,
        segment_bytes: int = SEGMENT_BYTES,
        segment_seconds: float = SEGMENT_SECONDS,
    ) -> Ledger:
        """Begins a segment, and ends in it what a killed predecessor of the same group left open.

        Safe beside a predecessor that still drains: it holds the lock of its segment.
        """
        ledger: Ledger | None = None

        def open_lines() -> list[bytes]:
            return [] if ledger is None else ledger._open_lines()

        writer = SegmentWriter(
            directory,
            name=group,
            head={"writer": "relay", "group": group},
            repeated=open_lines,
            segment_bytes=segment_bytes,
            segment_seconds=segment_seconds,
        )
        ledger = cls(writer, group=group, taken_over=0)
        for abandoned in AbandonedSegment.find(directory, name=group):
            lost = _left_open(abandoned.path)
            for record in lost:
                writer.append(encode({**record, "kind": "end", "at": time.time(), "outcome": RELAY_LOST}))
            if not writer.commit_now():
                abandoned.release()  # the disk refuses: the next start tries again
            elif abandoned.close(at=time.time()):
                ledger.taken_over_count += len(lost)
        return ledger

    @property
    def counters(self) -> LedgerCounters:
        """For /metrics: `lost_lines` and `unwritten_lines` above zero are an alarm."""
        return self._writer.counters

    @property
    def is_sick(self) -> bool:
        """Whether the disk refuses records at present; requests go on being served."""
        return self._writer.is_sick

    @property
    def open_count(self) -> int:
        """Requests that have begun and not ended."""
        return len(self._open)

    def begin(self, request_id: str, *, model: str, endpoint: str) -> str:
        """A request starts. Returns its name for `progress` and `end`: its id, unless that one is open already."""
        self._number += 1
        now = time.time()
        record = {
            "entry": f"{self._writer.process}-{self._number}",
            "group": self._group,
            "request": request_id,
            "model": model,
            "endpoint": endpoint,
            "begun_at": now,
        }
        name = request_id if request_id not in self._open else f"{request_id}#{self._number}"
        self._open[name] = _Entry(record=record)
        self._writer.append(encode({"kind": "begin", "at": now, **record}))
        return name

    def progress(self, request_id: str, *, replica: str, prompt_tokens: int, completion_tokens: int) -> None:
        """What the request used so far, over all legs. Called as often as one likes; written once a second at most."""
        entry = self._open.get(request_id)
        if entry is None:
            return
        entry.progress = {
            "replica": replica,
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens,
        }
        now = time.time()
        if now - entry.progressed_at >= PROGRESS_SECONDS:
            entry.progressed_at = now
            line = {"kind": "progress", "at": now, "entry": entry.record["entry"], **entry.progress}
            self._writer.append(encode(line))

    async def end(
        self,
        request_id: str,
        *,
        prompt_tokens: int,
        completion_tokens: int,
        cached_tokens: int,
        legs: Sequence[Leg],
        outcome: str,
    ) -> bool:
        """The bill of one request. Returns when it is on the disk; False when the disk refuses (counted and logged)."""
        entry = self._open.pop(request_id, None)
        if entry is None:
            raise KeyError(f"the ledger has no open request {request_id}; it was never begun, or ended before")
        record = {
            "kind": "end",
            "at": time.time(),
            **entry.record,
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens,
            "cached_tokens": cached_tokens,
            "legs": [
                {
                    "replica": leg.replica,
                    "prompt_tokens": leg.prompt_tokens,
                    "completion_tokens": leg.completion_tokens,
                    "outcome": leg.outcome,
                }
                for leg in legs
            ],
            "outcome": outcome,
        }
        line = encode(record)
        self._writer.append(line)
        return await self._writer.commit(line=line)

    def close(self) -> None:
        """Ends what is still open as lost, and the segment."""
        for entry in self._open.values():
            line = _lost(entry.record, entry.progress)
            self._writer.append(encode({**line, "kind": "end", "at": time.time(), "outcome": RELAY_LOST}))
        self._open.clear()
        self._writer.close()

    def _open_lines(self) -> list[bytes]:
        """The open requests, for the head of a new segment: readers of a killed relay need its last segment only."""
        lines = []
        for entry in self._open.values():
            lines.append(encode({"kind": "begin", "at": time.time(), **entry.record}))
            if entry.progress:
                progress = {"kind": "progress", "at": time.time(), "entry": entry.record["entry"], **entry.progress}
                lines.append(encode(progress))
        return lines


def _left_open(segment: Path) -> list[dict[str, Any]]:
    """What began in a segment and did not end there, as far as it got."""
    begun: dict[str, dict[str, Any]] = {}
    progress: dict[str, dict[str, Any]] = {}
    for record in read_all(segment):
        match record.get("kind"):
            case "begin":
                begun[record["entry"]] = record
            case "progress":
                progress[record["entry"]] = record
            case "end":
                begun.pop(record["entry"], None)
    return [_lost(record, progress.get(entry, {})) for entry, record in begun.items()]


def _lost(begun: dict[str, Any], progress: dict[str, Any]) -> dict[str, Any]:
    prompt_tokens, completion_tokens = progress.get("prompt_tokens", 0), progress.get("completion_tokens", 0)
    leg = {
        "replica": progress.get("replica"),
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "outcome": RELAY_LOST,
    }
    kept = ("entry", "group", "request", "model", "endpoint", "begun_at")
    return {
        **{name: begun[name] for name in kept},
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "cached_tokens": 0,
        "legs": [leg] if progress else [],
    }

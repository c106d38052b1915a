"""History: the raw records of a run on disk, one file per process, written as streams end.

A file is a sequence of MessagePack values: a header (what ran, where, when), one list per record, a trailer (what it
cost the process). A file without its trailer belongs to a process that died, and says so when read.
"""

import json
import os
import platform
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from io import BufferedWriter
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgpack

from benchmarks.driver import Effort
from benchmarks.errors import BadLoad
from benchmarks.load import Load
from benchmarks.record import Record

FORMAT = "llm-appliance-history/1"
SUFFIX = ".history"


@dataclass(frozen=True, kw_only=True)
class History:
    """One run, all its processes merged. Times of all records count from `started_at`."""

    load: Load
    run_id: str
    started_at: float  # Unix time of the origin
    scheduled_count: int  # arrivals the processes were to make
    records: Sequence[Record]
    efforts: Sequence[Effort]  # one per process
    complete: bool  # every process wrote its trailer


class HistoryWriter:
    """Writes one process's file."""

    def __init__(
        self, directory: Path, *, load: Load, run_id: str, process: str, started_at: float, scheduled: int
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.path = directory / f"{load.name}-{run_id}-{process}{SUFFIX}"
        self._file: BufferedWriter = self.path.open("xb")
        self._pack = msgpack.Packer(use_bin_type=True).pack
        header = {
            "format": FORMAT,
            "load": load.model_dump_json(),
            "run_id": run_id,
            "started_at": started_at,
            "scheduled": scheduled,
            "host": platform.node(),
            "process_id": os.getpid(),
            "python": platform.python_version(),
            "written_at": time.time(),
        }
        self._file.write(self._pack(header))
        self._file.flush()  # should this process be killed, its share is known to be missing

    def write(self, record: Record) -> None:
        """Appends one record."""
        self._file.write(self._pack(record.packed()))

    def close(self, effort: Effort) -> None:
        """Appends the trailer."""
        self._file.write(self._pack({"effort": effort.__dict__}))
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def load_history(paths: Iterable[Path]) -> History:
    """One run from the files of its processes, or from the directory that holds them."""
    files = sorted(file for path in paths for file in ([path] if path.is_file() else path.glob(f"*{SUFFIX}")))
    if not files:
        raise BadLoad(f"{', '.join(map(str, paths))}: no history found")
    headers: list[dict[str, Any]] = []
    records: list[Record] = []
    efforts: list[Effort] = []
    for file in files:
        header, found, effort = _read(file)
        headers.append(header)
        records.extend(found)
        efforts.extend([effort] if effort is not None else [])
    if len({header["run_id"] for header in headers}) > 1:
        raise BadLoad(f"{files[0].parent}: files of several runs; name the files of one")
    return History(
        load=Load.parse(json.loads(headers[0]["load"]), origin=str(files[0])),
        run_id=headers[0]["run_id"],
        started_at=headers[0]["started_at"],
        scheduled_count=sum(header["scheduled"] for header in headers),
        records=sorted(records, key=lambda record: (record.intended_ns, record.sequence, record.turn)),
        efforts=efforts,
        complete=len(efforts) == len(files),
    )


def _read(file: Path) -> tuple[dict[str, Any], list[Record], Effort | None]:
    with file.open("rb") as stream:
        unpacker = msgpack.Unpacker(stream, raw=False, max_buffer_size=0)
        try:
            header = unpacker.unpack()
            if not isinstance(header, dict) or header.get("format") != FORMAT:
                raise BadLoad(f"{file}: not a history of format {FORMAT}")
            records: list[Record] = []
            effort: Effort | None = None
            for value in unpacker:
                if isinstance(value, dict):
                    effort = Effort(**value["effort"])
                else:
                    records.append(Record.unpacked(value))
        except (msgpack.UnpackException, ValueError, TypeError) as error:
            raise BadLoad(f"{file}: not a readable history: {error}") from None
    return header, records, effort

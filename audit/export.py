"""Exports the audit as CSV or JSON lines, a row at a time, with its progress on the error output."""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, TextIO

PROGRESS_SECONDS = 5.0
FORMATS = ("jsonl", "csv")
# A spreadsheet takes a cell that begins so for a formula; names of users and models are not ours.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def export(rows: Iterable[Mapping[str, Any]], *, shape: str, to: TextIO, talk: TextIO) -> int:
    """Writes every row and returns how many there were."""
    count = 0
    writer: csv.DictWriter[str] | None = None
    begun = told = time.monotonic()
    for row in rows:
        if shape == "jsonl":
            to.write(json.dumps({name: _plain(value) for name, value in row.items()}, ensure_ascii=False) + "\n")
        else:
            if writer is None:
                writer = csv.DictWriter(to, list(row), lineterminator="\n")
                writer.writeheader()
            writer.writerow({name: _cell(value) for name, value in row.items()})
        count += 1
        if time.monotonic() - told >= PROGRESS_SECONDS:
            told = time.monotonic()
            where = row["at"].astimezone(UTC).isoformat(timespec="seconds")
            talk.write(f"audit: {count:,} rows, up to {where}, {count / (told - begun):,.0f} a second\n")
            talk.flush()
    return count


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if isinstance(value, Decimal):
        return float(value)
    return value


def _cell(value: Any) -> Any:
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, Decimal):
        return format(value, "f")
    plain = _plain(value)
    return f"'{plain}" if isinstance(plain, str) and plain.startswith(_FORMULA) else plain

"""The line format of every ledger: one JSON object a line, closed by a checksum over all that stands before it.

    {"kind":"end","at":1764000000.123456,"entry":"9f86d081884c7d65-17",...,"crc":"1c291ca3"}

`crc` is the CRC-32 of the line's bytes up to the comma before it, in eight hex digits, so a line that a crash tore or a
disk changed is told from a whole one, and `jq` still reads the file. Standard library only: the relay, the gateway's
hook and the reconciliation run in different virtual environments and share these bytes.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

SEGMENT_SUFFIX = ".ledger.jsonl"
_TAIL = len(',"crc":"00000000"}')
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), check_circular=False)


def encode(record: Mapping[str, Any]) -> bytes:
    """One line with its newline. Lone surrogates, which UTF-8 cannot hold, become question marks."""
    body = _ENCODER.encode(record)[:-1].encode("utf-8", "replace")
    return b'%b,"crc":"%08x"}\n' % (body, zlib.crc32(body))


def decode(line: bytes) -> dict[str, Any] | None:
    """The record of a line without its newline, or None when it is torn or changed."""
    body, tail = line[:-_TAIL], line[-_TAIL:]
    if not body.startswith(b"{") or tail != b',"crc":"%08x"}' % zlib.crc32(body):
        return None
    record = json.loads(body + b"}")
    return record if isinstance(record, dict) else None


def whole_lines(content: bytes) -> Iterator[tuple[int, dict[str, Any] | None]]:
    """Each line that ends in a newline: where the next one starts, and its record or None for a damaged one.

    What follows the last newline is still being written, or was torn by a crash; it is no line.
    """
    start = 0
    while (newline := content.find(b"\n", start)) >= 0:
        yield newline + 1, decode(content[start:newline])
        start = newline + 1

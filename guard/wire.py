"""How the gateway asks the service: one local connection a question, each message a length and JSON.

A question names a rule and brings texts with the role of who wrote each. The answer has for each text what was found:
start, end, what stands there instead; or why there is no answer. Needs Python alone.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from guard.errors import GuardUnavailable
from guard.spans import Span

MESSAGE_BYTES_MAXIMUM = 256 * 2**20
_LENGTH = struct.Struct(">I")


def packed(message: Any) -> bytes:
    """With its length before it."""
    content = json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
    return _LENGTH.pack(len(content)) + content


async def ask(path: Path, *, rule: str, texts: Sequence[tuple[str, str]], seconds: float) -> list[tuple[Span, ...]]:
    """What the rule finds in each text (role, text); raises GuardUnavailable when it cannot say within that time."""
    try:
        async with asyncio.timeout(seconds):
            reader, writer = await asyncio.open_unix_connection(path)
            try:
                writer.write(packed({"rule": rule, "texts": texts, "seconds": seconds}))
                await writer.drain()
                (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
                answer = json.loads(await reader.readexactly(length))
            finally:
                writer.close()
    except TimeoutError as error:
        raise GuardUnavailable(f"no answer within {seconds:g} s") from error
    except asyncio.IncompleteReadError as error:
        raise GuardUnavailable("the process that looked ended") from error
    except OSError as error:
        raise GuardUnavailable(f"the service is not there ({type(error).__name__})") from error
    if "failed" in answer:
        raise GuardUnavailable(str(answer["failed"]))
    return [
        tuple(Span(start=start, end=end, label=label, instead=instead) for start, end, label, instead in spans)
        for spans in answer["found"]
    ]


def receive(connection: socket.socket) -> Any | None:
    """One message, or None where the other side has gone."""
    head = _exactly(connection, _LENGTH.size)
    if head is None:
        return None
    (length,) = _LENGTH.unpack(head)
    if length > MESSAGE_BYTES_MAXIMUM:
        return None
    content = _exactly(connection, length)
    return None if content is None else json.loads(content)


def has_gone(connection: socket.socket) -> bool:
    """Whether nobody waits for the answer any more."""
    patience = connection.gettimeout()
    connection.setblocking(False)  # with a patience, Python would wait for it here too
    try:
        return connection.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True
    finally:
        connection.settimeout(patience)


def _exactly(connection: socket.socket, count: int) -> bytes | None:
    pieces, missing = [], count
    with suppress(TimeoutError, ConnectionError):
        while missing and (piece := connection.recv(min(missing, 1 << 20))):
            pieces.append(piece)
            missing -= len(piece)
    return b"".join(pieces) if not missing else None

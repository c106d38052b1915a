"""One HTTP/2 request by hand, as no client library sends it: a body without a stated length, for example."""

import socket
import ssl
import struct
from collections.abc import Sequence
from pathlib import Path

DATA, HEADERS, SETTINGS = 0x0, 0x1, 0x4
END_STREAM, END_HEADERS = 0x1, 0x4
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
# Of HPACK's static table, as :status stands in an answer.
STATUSES = {0x88: 200, 0x89: 204, 0x8A: 206, 0x8B: 304, 0x8C: 400, 0x8D: 404, 0x8E: 500}


def frame(kind: int, flags: int, stream: int, content: bytes) -> bytes:
    """One frame."""
    return struct.pack(">I", len(content))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + content


def literal(name: str, value: str) -> bytes:
    """A header line that neither table knows, as it is written; shorter than 127 bytes each."""
    return b"\x00" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()


def request(port: int, authority: Path, *, server_name: str, headers: Sequence[tuple[str, str]], body: bytes) -> str:
    """The status of the answer, as the digits that HPACK's table or a literal says."""
    context = ssl.create_default_context(cafile=str(authority))
    context.set_alpn_protocols(["h2"])
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname=server_name) as connection,
    ):
        assert "h2" == connection.selected_alpn_protocol()
        head = b"".join(literal(name, value) for name, value in headers)
        connection.sendall(
            PREFACE
            + frame(SETTINGS, 0, 0, b"")
            + frame(HEADERS, END_HEADERS | (0 if body else END_STREAM), 1, head)
            + (frame(DATA, END_STREAM, 1, body) if body else b"")
        )
        return _status(connection)


def _status(connection: ssl.SSLSocket) -> str:
    received = b""
    while True:
        while len(received) >= 9:
            length, kind = int.from_bytes(received[:3], "big"), received[3]
            if len(received) < 9 + length:
                break
            content, received = received[9 : 9 + length], received[9 + length :]
            if kind == HEADERS:
                return _first(content)
        piece = connection.recv(65536)
        if not piece:
            return "closed"
        received += piece


def _first(block: bytes) -> str:
    while block[0] & 0xE0 == 0x20:  # a change of the table's size
        block = block[1:]
    if block[0] in STATUSES:
        return str(STATUSES[block[0]])
    # a literal whose name is the table's :status; digits that are not compressed
    assert block[0] & 0x0F in (8, 9), block[:16]
    return block[2 : 2 + (block[1] & 0x7F)].decode()

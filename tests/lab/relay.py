"""Copies bytes both ways between two ends until both have closed: used by dial, forward and the proxy's tunnels."""

import os
import socket
import sys
import threading
from collections.abc import Callable

_CHUNK_BYTES = 65536


def _copy(read: Callable[[int], bytes], write: Callable[[bytes], object], at_end: Callable[[], None]) -> None:
    try:
        while data := read(_CHUNK_BYTES):
            write(data)
    except OSError:
        pass  # the other end is gone: the same as its end of file
    finally:
        at_end()


def _half_close(end: socket.socket) -> None:
    try:
        end.shutdown(socket.SHUT_WR)
    except OSError:
        return


def between_sockets(left: socket.socket, right: socket.socket) -> None:
    """Until both directions have ended."""
    back = threading.Thread(target=_copy, args=(right.recv, left.sendall, lambda: _half_close(left)), daemon=True)
    back.start()
    _copy(left.recv, right.sendall, lambda: _half_close(right))
    back.join()


def with_terminal(remote: socket.socket) -> None:
    """Between our stdin and stdout and a socket, until the remote end closes."""
    stdin, stdout = sys.stdin.fileno(), sys.stdout.fileno()

    def read_stdin(count: int) -> bytes:
        return os.read(stdin, count)

    def write_stdout(data: bytes) -> None:
        while data:
            data = data[os.write(stdout, data) :]

    sending = (read_stdin, remote.sendall, lambda: _half_close(remote))
    threading.Thread(target=_copy, args=sending, daemon=True).start()
    _copy(remote.recv, write_stdout, lambda: None)

"""The hosts' only way out: an HTTP proxy that passes on to the machine's own apt servers and to nothing else.

Packages are kept, so that a second host, a second run and a rebuilt base fetch nothing twice.
"""

import hashlib
import os
import socket
import socketserver
import threading
from http.client import HTTPResponse
from pathlib import Path
from typing import BinaryIO
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, build_opener

from . import apt
from .relay import between_sockets

_CHUNK_BYTES = 65536
_ANSWER_SECONDS = 120
_PASSED_ON = ("if-modified-since", "if-range", "range", "user-agent", "accept")
_PASSED_BACK = ("last-modified", "etag", "content-type", "content-range", "content-length", "date")


class Proxy(socketserver.ThreadingTCPServer):
    """Listens on the socket it is given."""

    daemon_threads = True

    def __init__(self, listening: socket.socket, *, cache: Path, allowed: frozenset[str]) -> None:
        super().__init__(listening.getsockname(), _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listening
        self.cache = cache
        self.allowed = allowed
        self.package_count = 0
        self.served_bytes = 0


class _Handler(socketserver.StreamRequestHandler):
    server: Proxy

    def handle(self) -> None:
        try:
            self._serve()
        except (OSError, ValueError):
            return  # the client went away or spoke nonsense; apt tries again

    def _serve(self) -> None:
        words = self.rfile.readline(_CHUNK_BYTES).decode("latin-1").split()
        headers = {}
        while line := self.rfile.readline(_CHUNK_BYTES).strip():
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.lower()] = value.strip()
        if len(words) != 3:
            return
        verb, target, _ = words
        where = urlsplit(f"//{target}" if verb == "CONNECT" else target)
        if where.hostname not in self.server.allowed:
            self._say(403, "Not one of the machine's apt servers")
        elif verb == "CONNECT" and where.port == 443:
            self._tunnel(where.hostname, where.port)
        elif verb == "GET" and where.scheme == "http":
            self._get(target, headers)
        else:
            self._say(405, "Only GET, and CONNECT to port 443")

    def _say(self, code: int, reason: str) -> None:
        self.wfile.write(f"HTTP/1.1 {code} {reason}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())

    def _tunnel(self, host: str, port: int) -> None:
        try:
            remote = socket.create_connection((host, port), _ANSWER_SECONDS)
        except OSError:
            self._say(502, "Cannot reach the server")
            return
        with remote:
            remote.settimeout(None)
            self.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
            between_sockets(self.connection, remote)

    def _get(self, url: str, headers: dict[str, str]) -> None:
        name = url.rsplit("/", 1)[-1]
        kept = self.server.cache / f"{hashlib.sha256(url.encode()).hexdigest()[:16]}-{name}"
        is_package = name.endswith(".deb")
        if is_package and kept.exists():
            with kept.open("rb") as file:
                self._start(200, {"content-length": str(kept.stat().st_size)})
                self.server.served_bytes += self._pour(file)
            self.server.package_count += 1
            return
        request = Request(url, headers={k: v for k, v in headers.items() if k in _PASSED_ON})  # noqa: S310 (http only)
        try:
            # The machine's own http_proxy, if it has one, is honoured.
            answer: HTTPResponse = build_opener().open(request, timeout=_ANSWER_SECONDS)
        except HTTPError as error:
            self._start(error.code, {"content-length": "0"})
            return
        except URLError:
            self._say(502, "Cannot reach the server")
            return
        with answer:
            length = answer.headers.get("content-length")
            whole = is_package and answer.status == 200 and length is not None
            self._start(answer.status, {k: v for k, v in answer.headers.items() if k.lower() in _PASSED_BACK})
            if whole:
                self._keep(answer, kept, int(length or 0))
            else:
                self._pour(answer)

    def _start(self, code: int, headers: dict[str, str]) -> None:
        lines = [f"HTTP/1.1 {code} -", *(f"{k}: {v}" for k, v in headers.items()), "Connection: close"]
        self.wfile.write(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))

    def _pour(self, source: BinaryIO | HTTPResponse, copy: BinaryIO | None = None) -> int:
        total = 0
        while data := source.read(_CHUNK_BYTES):
            self.wfile.write(data)
            total += len(data)
            if copy:
                copy.write(data)
        return total

    def _keep(self, answer: HTTPResponse, kept: Path, length: int) -> None:
        """Pass a package on while writing it down; a broken one never gets its name."""
        partial = kept.with_name(f".{kept.name}.{os.getpid()}.{threading.get_ident()}")
        try:
            with partial.open("wb") as copy:
                total = self._pour(answer, copy)
            self.server.served_bytes += total
            if total == length:
                partial.rename(kept)
                self.server.package_count += 1
        finally:
            partial.unlink(missing_ok=True)


def main(descriptor: int, cache: Path) -> None:
    """Entry of `lab internal proxy`: listens in the lab, runs in the machine's network."""
    cache.mkdir(parents=True, exist_ok=True)
    allowed = apt.allowed_hosts(apt.machine_sources())
    with Proxy(socket.socket(fileno=descriptor), cache=cache, allowed=allowed) as server:
        server.serve_forever()

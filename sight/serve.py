"""Serve: pages of text over HTTP on one address, one reading at a time."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from sight.exposition import CONTENT_TYPE

SOCKET_SECONDS = 30
WAIT_SECONDS = 5
"""What a scrape waits for one that has not come back, as when a driver hangs; then it is refused."""


class Unavailable(Exception):
    """A page that cannot be made now; the message says why."""


Page = Callable[[], str]


def serve(pages: Mapping[str, Page], *, host: str, port: int) -> ThreadingHTTPServer:
    """A server for these paths; the caller runs `serve_forever`."""
    locks = {path: threading.Lock() for path in pages}

    class Handler(BaseHTTPRequestHandler):
        timeout = SOCKET_SECONDS
        server_version, sys_version = "sight", ""

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            page = pages.get(path)
            if page is None:
                self._answer(404, f"there is no {path[:100]} here, but {', '.join(pages)}\n")
                return
            if not locks[path].acquire(timeout=WAIT_SECONDS):
                self._answer(503, "the reading before this one has not come back\n")
                return
            try:
                text = page()
            except Unavailable as error:
                print(f"sight: {path}: {error}", file=sys.stderr, flush=True)
                self._answer(503, f"{error}\n")
            else:
                self._answer(200, text)
            finally:
                locks[path].release()

        def _answer(self, status: int, text: str) -> None:
            body = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", CONTENT_TYPE)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: Any) -> None:
            """A line for each scrape would fill the journal."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        allow_reuse_address = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            error = sys.exc_info()[1]
            if not isinstance(error, OSError):
                super().handle_error(request, client_address)

    return Server((host, port), Handler)

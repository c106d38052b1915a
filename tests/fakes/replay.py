"""Replay: a loopback server that answers as it was told, and remembers what it was asked."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One request that came in. Header names are in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: dict[str, Any]

    @property
    def key(self) -> str | None:
        """The bearer token."""
        return self.headers.get("authorization", "").removeprefix("Bearer ") or None


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What goes back: a JSON body, a text, or with `cut` a text whose promised rest never comes."""

    status: int = 200
    content: Any = None
    text: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False


@dataclass
class Server:
    """Where it listens and what it was asked."""

    url: str
    asked: list[Asked] = field(default_factory=list)


@contextmanager
def replaying(answer: Callable[[Asked], Reply]) -> Iterator[Server]:
    """A running server on 127.0.0.1."""
    server = Server(url="")

    class Handler(BaseHTTPRequestHandler):
        def _reply(self) -> None:
            length = int(self.headers.get("Content-Length", "0"))
            asked = Asked(
                method=self.command,
                path=self.path,
                headers={name.lower(): value for name, value in self.headers.items()},
                body=json.loads(self.rfile.read(length)) if length else {},
            )
            server.asked.append(asked)
            reply = answer(asked)
            payload = (reply.text if reply.content is None else json.dumps(reply.content)).encode()
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(payload) + (100 if reply.cut else 0)))
            self.end_headers()
            self.wfile.write(payload)

        do_GET = do_POST = _reply  # noqa: N815 (the names http.server asks for)

        def log_message(self, *_: object) -> None:
            """Silent."""

    listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.url = f"http://127.0.0.1:{listener.server_port}"
    thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        listener.shutdown()
        listener.server_close()
        thread.join()

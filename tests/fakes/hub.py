"""A model hub on the loopback address: the few endpoints of its protocol that a download needs, and its bad days."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
NEXT_COMMIT = "fedcba9876543210fedcba9876543210fedcba98"


@dataclass(kw_only=True)
class FakeHub:
    """One model, `lab/small`, and what was asked for. `cut` closes a connection after so many bytes, once per entry;
    `stalled` keeps it open and silent."""

    files: dict[str, bytes]
    commit: str = COMMIT
    cut: dict[str, list[int]] = field(default_factory=dict)
    stalled: dict[str, int] = field(default_factory=dict)
    wrong: set[str] = field(default_factory=set)
    ranges: dict[str, list[str]] = field(default_factory=dict)
    tokens: set[str] = field(default_factory=set)
    silence: threading.Event = field(default_factory=threading.Event)
    release: threading.Event = field(default_factory=threading.Event)
    url: str = ""

    def tree(self) -> list[dict[str, Any]]:
        """As GET /api/models/<id>/tree/<commit> answers: large files with their SHA-256, all with their git blob id."""
        entries: list[dict[str, Any]] = []
        for path, content in self.files.items():
            blob_id = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
            entry: dict[str, Any] = {"type": "file", "path": path, "size": len(content), "oid": blob_id}
            if path.endswith(".safetensors"):
                checksum = hashlib.sha256(content).hexdigest()
                entry["lfs"] = {"oid": checksum, "size": len(content), "pointerSize": 130}
            entries.append(entry)
        return entries


@contextmanager
def running(hub: FakeHub) -> Iterator[FakeHub]:
    """Serves until the block is left."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            _answer(self, hub)

        def log_message(self, *_: object) -> None:
            """A test reads `hub.ranges` instead."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield hub
    finally:
        hub.release.set()
        server.shutdown()
        server.server_close()
        thread.join()


def _answer(request: BaseHTTPRequestHandler, hub: FakeHub) -> None:
    path = urlsplit(request.path).path
    hub.tokens.add(request.headers.get("Authorization", ""))
    if path.startswith("/api/models/lab/gated"):
        _send(request, 403, b"", {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access is restricted"})
    elif path == "/api/models/lab/small" or path in [
        f"/api/models/lab/small/revision/{revision}" for revision in ("main", "v1", hub.commit)
    ]:
        _send(request, 200, json.dumps({"id": "lab/small", "sha": hub.commit}).encode())
    elif path == f"/api/models/lab/small/tree/{hub.commit}":
        _send(request, 200, json.dumps(hub.tree()).encode())
    elif path.startswith(f"/lab/small/resolve/{hub.commit}/"):
        _send_file(request, hub, path.split("/", 5)[5])
    else:
        code = "RevisionNotFound" if path.startswith("/api/models/lab/small/") else "RepoNotFound"
        _send(request, 404, b"", {"X-Error-Code": code, "X-Error-Message": "not found"})


def _send_file(request: BaseHTTPRequestHandler, hub: FakeHub, name: str) -> None:
    content = hub.files[name]
    wanted = request.headers.get("Range", "")
    hub.ranges.setdefault(name, []).append(wanted)
    start = int(wanted.removeprefix("bytes=").split("-")[0]) if wanted else 0
    body = content[start:]
    if name in hub.wrong:
        body = bytes(len(body))
    headers = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"} if wanted else {}
    if hub.cut.get(name):
        _send(request, 206 if wanted else 200, body, headers, first=hub.cut[name].pop(0))
        request.close_connection = True
    elif name in hub.stalled:
        _send(request, 206 if wanted else 200, body, headers, first=hub.stalled[name])
        hub.silence.set()
        hub.release.wait(timeout=30)
    else:
        _send(request, 206 if wanted else 200, body, headers)


def _send(
    request: BaseHTTPRequestHandler,
    status: int,
    body: bytes,
    headers: dict[str, str] | None = None,
    *,
    first: int | None = None,
) -> None:
    request.send_response(status)
    request.send_header("Content-Length", str(len(body)))
    for key, value in (headers or {}).items():
        request.send_header(key, value)
    request.end_headers()
    request.wfile.write(body if first is None else body[:first])
    request.wfile.flush()

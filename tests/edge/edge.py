"""A real HAProxy with the role's own configuration on loopback, and gateways behind it that note what reaches them."""

import json
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tools.edge_certificate import make_certificate

ROOT = Path(__file__).resolve().parents[2]
GOOD_KEY = "sk-good-key-of-a-client"
SERVER_NAME = "ai.example"


@dataclass(kw_only=True)
class Gateway:
    """A gateway whose answers are told, and which keeps every request line with its headers."""

    address: str
    port: int
    seen: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    hang_up: bool = False
    called_down: bool = False  # it fails HAProxy's checks
    sends: threading.Event = field(default_factory=threading.Event)
    client_left: threading.Event = field(default_factory=threading.Event)

    def paths(self) -> list[str]:
        """What clients reached, without HAProxy's own questions."""
        return [line.split(" ")[1] for line, headers in self.seen if "host" in headers]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """HAProxy hangs up on health checks and on clients that left; that is no error here."""


@contextmanager
def gateway_at(address: str, port: int) -> Iterator[Gateway]:
    """One gateway on its own loopback address; all of a site have the same port."""
    gateway = Gateway(address=address, port=port)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

        def do_GET(self) -> None:
            gateway.seen.append((self.requestline, {name.lower(): value for name, value in self.headers.items()}))
            if self.path == "/health/liveliness":
                self._answer(503 if gateway.called_down and "host" not in self.headers else 200, b'"I\'m alive!"')
                return
            self.rfile.read(int(self.headers.get("content-length") or 0))
            if gateway.hang_up:
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
            elif self.headers.get("authorization") != f"Bearer {GOOD_KEY}":
                self._answer(401, b"{}")
            elif self.path == "/v1/chat/completions":
                self._stream()
            else:
                self._answer(200, address.encode())

        def do_POST(self) -> None:
            self.do_GET()

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("x-litellm-model-api-base", "http://10.0.0.9:8001/v1")
            self.end_headers()
            self.wfile.write(body)

        def _stream(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(b"data: first\n\n")
            self.wfile.flush()
            self.connection.settimeout(0.05)
            while not gateway.sends.is_set():
                try:
                    if self.connection.recv(1) == b"":
                        gateway.client_left.set()
                        return
                except TimeoutError:
                    continue
            self.wfile.write(b"data: [DONE]\n\n")
            self.close_connection = True

    server = _Server((address, port), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield gateway
    finally:
        server.shutdown()
        server.server_close()


@dataclass(frozen=True, kw_only=True)
class Edge:
    """A running edge."""

    port: int
    plain_port: int
    authority: Path

    def connect(self, *, plain: bool = False) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.plain_port if plain else self.port), timeout=10)
        if plain:
            return connection
        context = ssl.create_default_context(cafile=str(self.authority))
        return context.wrap_socket(connection, server_hostname=SERVER_NAME)

    def raw(self, request: bytes, *, plain: bool = False) -> bytes:
        """The whole answer to exactly these bytes."""
        with self.connect(plain=plain) as connection:
            connection.sendall(request)
            connection.settimeout(3)
            answer = b""
            while True:
                try:
                    chunk = connection.recv(65536)
                except (TimeoutError, ConnectionResetError):
                    return answer
                if not chunk:
                    return answer
                answer += chunk

    def ask(
        self,
        path: str,
        *,
        method: str = "GET",
        key: str | None = GOOD_KEY,
        host: str = SERVER_NAME,
        headers: dict[str, str] | None = None,
        body: bytes = b"",
        plain: bool = False,
    ) -> tuple[int, str]:
        """Status and the rest of one exchange."""
        lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", "Connection: close"]
        lines += [f"Authorization: Bearer {key}"] if key else []
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        lines += [f"Content-Length: {len(body)}"] if body or method == "POST" else []
        answer = self.raw("\r\n".join(lines).encode() + b"\r\n\r\n" + body, plain=plain).decode(errors="replace")
        return (int(answer.split(" ")[1]) if answer else 0), answer


def render(directory: Path, **variables: object) -> None:
    """The role's templates with these variables."""
    path = directory / "variables.json"
    path.write_text(json.dumps({"output_directory": str(directory), **variables}), encoding="utf-8")
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", "localhost,"]
    command += [str(ROOT / "tests/edge/edge_templates.yml"), "--extra-vars", f"@{path}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env={**os.environ})
    assert done.returncode == 0, done.stdout + done.stderr


@dataclass(frozen=True, kw_only=True)
class Written:
    """What the role wrote for one edge."""

    edge: Edge
    configuration: Path
    gateway_port: int

    @property
    def socket(self) -> Path:
        """HAProxy's runtime socket."""
        return self.configuration.with_name("admin.sock")

    @property
    def drained(self) -> Path:
        """What HAProxy has to remember."""
        return self.configuration.with_name("drained")


def write_edge(directory: Path, *, gateway_addresses: list[str], gateway_port: int, **variables: object) -> Written:
    """The role's own files, but for what only root may have: chroot, user, a place below /run."""
    made = make_certificate([SERVER_NAME, "127.0.0.1"])
    pem = directory / "edge.pem"
    pem.write_text(made.certificate + made.private_key, encoding="utf-8")
    authority = directory / "authority.pem"
    authority.write_text(made.certificate, encoding="utf-8")
    edge = Edge(port=free_port(), plain_port=free_port(), authority=authority)
    defaults: dict[str, object] = {
        "edge_gateway_addresses": gateway_addresses,
        "edge_gateway_port": gateway_port,
        "edge_server_names": [SERVER_NAME, "127.0.0.1"],
        "edge_bind_address": "127.0.0.1",
        "edge_port": edge.port,
        "edge_redirect_port": edge.plain_port,
        "edge_connections_max": 500,
        "edge_address": "127.0.0.1",
        "ansible_facts": {"interfaces": ["lo"], "lo": {"device": "lo", "ipv4": {"address": "127.0.0.1"}}},
        "__edge_pem": str(pem),
        "__edge_socket": str(directory / "admin.sock"),
        "__edge_drained": str(directory / "drained"),
    }
    (directory / "drained").write_text("1\n", encoding="utf-8")
    render(directory, **{**defaults, **variables})
    configuration = directory / "haproxy.cfg"
    of_root = ("chroot", "user", "group")
    lines = configuration.read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if not line.strip().startswith(of_root)]
    configuration.write_text("\n".join(kept) + "\n", encoding="utf-8")
    return Written(edge=edge, configuration=configuration, gateway_port=gateway_port)


@contextmanager
def running(written: Written) -> Iterator[Edge]:
    """HAProxy in the foreground; counts of keys and strangers begin anew."""
    log_path = written.configuration.with_name("haproxy.log")
    with log_path.open("wb") as log:
        process = subprocess.Popen(["/usr/sbin/haproxy", "-f", str(written.configuration)], stdout=log, stderr=log)
        try:
            _wait_until_up(written.edge, process, log_path)
            yield written.edge
        finally:
            process.terminate()
            process.wait()


def _wait_until_up(edge: Edge, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(100):
        assert process.poll() is None, log.read_text(encoding="utf-8")
        try:
            if edge.ask("/health/liveliness")[0] == 200:
                return
        except OSError:
            pass
        time.sleep(0.1)
    raise AssertionError("HAProxy did not come up: " + log.read_text(encoding="utf-8"))

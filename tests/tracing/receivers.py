"""Receivers of traces on loopback: they read OTLP as its own schema has it, and take nothing else.

`collector` wants its header and gets no content; `langfuse` wants Basic authentication, and content; nobody listens at
`gone`; `deaf` takes connections and never answers.
"""

from __future__ import annotations

import base64
import gzip
import json
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.prisma_engine.postgres import free_port

DEADLINE_SECONDS = 60.0
COLLECTOR_KEY = "Bearer a-key-of-these-tests"
LANGFUSE_KEY = "pk-lf-tests:sk-lf-tests"
PATHS = {"collector": "/v1/traces", "langfuse": "/api/public/otel/v1/traces"}


@dataclass(frozen=True, kw_only=True)
class Span:
    """One span that was received."""

    receiver: str
    trace_id: str
    parent_id: str
    name: str
    failed: bool
    seconds: float
    attributes: dict[str, Any]
    service: str
    events: tuple[str, ...]


@dataclass(kw_only=True)
class TraceReceivers:
    """All four of them."""

    servers: dict[str, ThreadingHTTPServer] = field(default_factory=dict)
    spans: list[Span] = field(default_factory=list)
    bodies: list[tuple[str, bytes]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    deaf: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0)))
    gone_port: int = field(default_factory=free_port)

    @classmethod
    def start(cls) -> TraceReceivers:
        own = cls()
        for name in PATHS:

            class Handler(_Handler):
                receivers, called = own, name

            own.servers[name] = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
            threading.Thread(target=own.servers[name].serve_forever, daemon=True).start()
        return own

    def stop(self) -> None:
        for server in self.servers.values():
            server.shutdown()
            server.server_close()
        self.deaf.close()

    @property
    def keys(self) -> dict[str, str]:
        """As litellm.env has them."""
        return {"TRACING_KEY_COLLECTOR": COLLECTOR_KEY, "TRACING_KEY_LANGFUSE": LANGFUSE_KEY}

    @property
    def declared(self) -> dict[str, Any]:
        """As tracing.yml has them."""
        ports = {name: server.server_port for name, server in self.servers.items()}
        ports |= {"gone": self.gone_port, "deaf": self.deaf.getsockname()[1]}
        url = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
        headers = {"authorization": "collector"}
        return {
            "receivers": [
                {"name": "gone", "kind": "opentelemetry", "url": url["gone"], "inside": True},
                {"name": "deaf", "kind": "opentelemetry", "url": url["deaf"], "inside": True},
                {"name": "collector", "kind": "opentelemetry", "url": url["collector"], "headers": headers,
                 "inside": True},
                {"name": "langfuse", "kind": "langfuse", "url": url["langfuse"], "key": "langfuse", "content": True},
            ],
            "content_bytes_max": 2000,
        }  # fmt: skip

    def told(self, receiver: str, wanted: Callable[[Span], bool], *, count: int = 1) -> list[Span]:
        """The wanted spans, once there are as many."""
        ends_at = time.monotonic() + DEADLINE_SECONDS
        while True:
            found = [span for span in list(self.spans) if span.receiver == receiver and wanted(span)]
            assert not self.faults, self.faults
            if len(found) >= count:
                return found
            assert time.monotonic() < ends_at, f"{receiver} was told {len(found)} of {count}"
            time.sleep(0.2)

    def all_bytes(self, receiver: str) -> bytes:
        return b"\n".join(body for name, body in list(self.bodies) if name == receiver)


class _Handler(BaseHTTPRequestHandler):
    receivers: TraceReceivers
    called: str

    def log_message(self, *_: object) -> None: ...

    def do_POST(self) -> None:
        body = gzip.decompress(self.rfile.read(int(self.headers["content-length"])))
        basic = "Basic " + base64.b64encode(LANGFUSE_KEY.encode()).decode()
        wanted = {"collector": COLLECTOR_KEY, "langfuse": basic}[self.called]
        if self.headers["authorization"] != wanted:
            return self._answer(401)
        if self.path != PATHS[self.called] or self.headers["content-type"] != "application/json":
            return self._answer(404)
        try:
            spans = read(body, receiver=self.called)
        except (json_format.ParseError, ValueError) as error:
            self.receivers.faults.append(f"{self.called}: {error}")
            return self._answer(400)
        self.receivers.bodies.append((self.called, body))
        self.receivers.spans.extend(spans)
        return self._answer(200)

    def _answer(self, status: int) -> None:
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{}")


def read(body: bytes, *, receiver: str) -> list[Span]:
    """OTLP's JSON through OTLP's own schema: unknown fields and wrong types are faults."""
    content = json.loads(body)
    for resource in content["resourceSpans"]:
        for scope in resource["scopeSpans"]:
            for span in scope["spans"]:
                # Protobuf's JSON has bytes in base64, OTLP's has them in hexadecimal digits.
                for name in {"traceId", "spanId", "parentSpanId"} & set(span):
                    span[name] = base64.b64encode(bytes.fromhex(span[name])).decode()
    request = json_format.ParseDict(content, ExportTraceServiceRequest())
    found = []
    for resource in request.resource_spans:
        about = {one.key: _plain(one.value) for one in resource.resource.attributes}
        for scope in resource.scope_spans:
            for span in scope.spans:
                if len(span.trace_id) != 16 or len(span.span_id) != 8:
                    raise ValueError(f"ids of {span.name} have a wrong length")
                found.append(
                    Span(
                        receiver=receiver,
                        trace_id=span.trace_id.hex(),
                        parent_id=span.parent_span_id.hex(),
                        name=span.name,
                        failed=span.status.code == 2,
                        seconds=(span.end_time_unix_nano - span.start_time_unix_nano) / 1e9,
                        attributes={one.key: _plain(one.value) for one in span.attributes},
                        service=about["service.name"],
                        events=tuple(event.name for event in span.events),
                    )
                )
    return found


def _plain(value: Any) -> Any:
    kind = value.WhichOneof("value")
    return [_plain(one) for one in value.array_value.values] if kind == "array_value" else getattr(value, kind)

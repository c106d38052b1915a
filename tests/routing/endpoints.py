"""Servers that speak OpenAI's protocol, answer as the model's name says, and count who came.

Names, each with anything behind an `@`: `ok`; `wordy` (states 5,000 tokens), `slow` (a third of a second), `held`
(until released), `flaky` (500 every other time), `fails` (500), `too-long` (400, as vLLM refuses a long prompt),
`refuses` (400, content policy).
"""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SLOW_SECONDS = 0.3
ERRORS = {
    "fails": (500, "as told", "InternalServerError"),
    "too-long": (
        400,
        "This model's maximum context length is 4096 tokens. However, your request has 9000 input tokens.",
        "BadRequestError",
    ),
    "refuses": (400, "content_policy_violation: this is not answered here", "invalid_request_error"),
}


@dataclass(kw_only=True)
class Endpoint:
    """One server. `connections` counts sockets that were opened, `asked` requests by path and model."""

    port: int = 0
    connections: int = 0
    asked: Counter[tuple[str, str]] = field(default_factory=Counter)
    released: threading.Event = field(default_factory=threading.Event)

    def of(self, model: str) -> int:
        """Requests for one of its models, on any path."""
        return sum(count for (_, name), count in self.asked.items() if name == model)


@contextmanager
def endpoint() -> Iterator[Endpoint]:
    """A server while the block runs."""
    here = Endpoint()

    class Handler(_Handler):
        endpoint = here

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def process_request(self, request: Any, client_address: Any) -> None:
            here.connections += 1
            super().process_request(request, client_address)

    server = Server(("127.0.0.1", 0), Handler)
    here.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield here
    finally:
        here.released.set()
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    endpoint: Endpoint
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None: ...

    def do_GET(self) -> None:
        self.endpoint.asked[f"GET {self.path}", ""] += 1
        self._send({"object": "list", "data": []})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        name, path = str(body.get("model")), self.path.removeprefix("/v1/")
        kind = name.split("@", maxsplit=1)[0]
        self.endpoint.asked[path, name] += 1
        if kind == "flaky" and self.endpoint.of(name) % 2:
            kind = "fails"
        if kind in ERRORS:
            status, message, word = ERRORS[kind]
            return self._send({"error": {"message": message, "type": word, "code": status}}, status=status)
        if kind == "slow":
            time.sleep(SLOW_SECONDS)
        if kind == "held":
            self.endpoint.released.wait(60)
        usage = {"prompt_tokens": 3, "completion_tokens": 5000 if kind == "wordy" else 2}
        usage["total_tokens"] = sum(usage.values())
        if path == "chat/completions" and body.get("stream"):
            return self._stream(name, usage)
        return self._send(_answer(path, name, usage))

    def _stream(self, model: str, usage: dict[str, int]) -> None:
        identity = f"chatcmpl-{uuid.uuid4().hex}"
        head = {"id": identity, "object": "chat.completion.chunk", "created": 1, "model": model}
        pieces = [
            {"choices": [{"index": 0, "delta": {"role": "assistant", "content": "Hello"}, "finish_reason": None}]},
            {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
            {"choices": [], "usage": usage},
        ]
        content = b"".join(b"data: " + json.dumps(head | piece).encode() + b"\n\n" for piece in pieces)
        self._send_bytes(content + b"data: [DONE]\n\n", kind="text/event-stream")

    def _send(self, content: dict[str, Any], *, status: int = 200) -> None:
        self._send_bytes(json.dumps(content).encode(), status=status)

    def _send_bytes(self, content: bytes, *, status: int = 200, kind: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def _answer(path: str, model: str, usage: dict[str, int]) -> dict[str, Any]:
    identity = uuid.uuid4().hex
    if path == "embeddings":
        vector = [0.25, -0.5, 0.125]
        data = [{"object": "embedding", "index": 0, "embedding": vector}]
        return {"id": f"embd-{identity}", "object": "list", "model": model, "data": data, "usage": usage}
    if path == "completions":
        choice: dict[str, Any] = {"index": 0, "text": "Hello", "finish_reason": "stop", "logprobs": None}
        return {"id": f"cmpl-{identity}", "object": "text_completion", "created": 1, "model": model,
                "choices": [choice], "usage": usage}  # fmt: skip
    if path == "responses":
        text = {"type": "output_text", "text": "Hello", "annotations": []}
        message = {"type": "message", "id": f"msg_{identity}", "role": "assistant", "status": "completed",
                   "content": [text]}  # fmt: skip
        counts = {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5}
        return {"id": f"resp_{identity}", "object": "response", "created_at": 1, "status": "completed", "model": model,
                "output": [message], "usage": counts, "parallel_tool_calls": True, "tool_choice": "auto", "tools": [],
                "temperature": 1.0, "top_p": 1.0, "error": None, "incomplete_details": None, "instructions": None,
                "metadata": {}}  # fmt: skip
    if path == "messages":
        return {"id": f"msg_{identity}", "type": "message", "role": "assistant", "model": model,
                "content": [{"type": "text", "text": "Hello"}], "stop_reason": "end_turn", "stop_sequence": None,
                "usage": {"input_tokens": 3, "output_tokens": 2}}  # fmt: skip
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hello"}}
    return {"id": f"chatcmpl-{identity}", "object": "chat.completion", "created": 1, "model": model,
            "choices": [choice], "usage": usage}  # fmt: skip

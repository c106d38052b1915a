"""A relay's port that answers as it is told, and counts who asked: what is judged is LiteLLM in front of it."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(kw_only=True)
class StubRelay:
    """`behaviour`: answer, 400, 500, 503, late (silent for five seconds), cut, repeat (one chunk 300 times)."""

    port: int
    behaviour: str = "answer"
    asked: list[str] = field(default_factory=list)
    server: ThreadingHTTPServer | None = None

    @classmethod
    def start(cls, port: int) -> StubRelay:
        stub = cls(port=port)

        class Handler(_Handler):
            relay = stub

        stub.server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        threading.Thread(target=stub.server.serve_forever, daemon=True).start()
        return stub

    def stop(self) -> None:
        assert self.server is not None
        self.server.shutdown()
        self.server.server_close()

    def told(self, behaviour: str) -> StubRelay:
        self.behaviour = behaviour
        self.asked.clear()
        return self


class _Handler(BaseHTTPRequestHandler):
    relay: StubRelay
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None: ...

    def do_POST(self) -> None:
        relay = self.relay
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        identity = f"chatcmpl-{self.headers['x-request-id']}"
        relay.asked.append(identity)
        if relay.behaviour.isdigit():
            error = {"error": {"message": "as told", "type": "as_told", "code": int(relay.behaviour)}}
            return self._send(json.dumps(error).encode(), status=int(relay.behaviour))
        if relay.behaviour == "late":
            time.sleep(5)
        if not body.get("stream"):
            message = {"role": "assistant", "content": "as told"}
            choice = {"index": 0, "finish_reason": "stop", "message": message}
            usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
            answer = {"id": identity, "object": "chat.completion", "created": 1, "model": "tiny",
                      "choices": [choice], "usage": usage}  # fmt: skip
            return self._send(json.dumps(answer).encode())
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for number in range(300 if relay.behaviour == "repeat" else 5):
            text = "same" if relay.behaviour == "repeat" else f"piece-{number} "
            self._chunk(identity, {"content": text}, None)
            if relay.behaviour == "cut" and number == 3:
                self.wfile.flush()
                self.close_connection = True
                self.connection.close()
                return None
        self._chunk(identity, {}, "stop")
        self._piece(b"data: [DONE]\n\n")
        self.wfile.write(b"0\r\n\r\n")
        return None

    def _chunk(self, identity: str, delta: dict[str, str], finish: str | None) -> None:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        event = {"id": identity, "object": "chat.completion.chunk", "created": 1, "model": "tiny", "choices": [choice]}
        self._piece(b"data: " + json.dumps(event).encode() + b"\n\n")

    def _piece(self, content: bytes) -> None:
        self.wfile.write(b"%x\r\n%b\r\n" % (len(content), content))

    def _send(self, content: bytes, *, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

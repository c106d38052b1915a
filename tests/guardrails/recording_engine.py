"""An engine's port that keeps every byte it is sent, and answers what it is told in pieces of a told size."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


@dataclass(kw_only=True)
class RecordingEngine:
    """What it got, headers as well, and what it says."""

    port: int = 0
    answer: str = "as told"
    piece_characters: int = 3
    received: list[bytes] = field(default_factory=list)

    @property
    def last(self) -> Any:
        """The latest request's body."""
        return json.loads(self.received[-1].partition(b"\r\n\r\n")[2])

    def told(self, answer: str, *, piece_characters: int = 3) -> RecordingEngine:
        self.answer, self.piece_characters = answer, piece_characters
        return self

    def pieces(self) -> list[str]:
        size = self.piece_characters
        return [self.answer[at : at + size] for at in range(0, len(self.answer), size)]


@contextmanager
def recording_engine() -> Iterator[RecordingEngine]:
    """It listens while the block runs."""
    engine = RecordingEngine()

    class Handler(_Handler):
        told = engine

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    engine.port = server.server_address[1]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield engine
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    told: RecordingEngine
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None: ...

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers["content-length"]))
        self.told.received.append(f"{self.path}\n{self.headers}".encode() + b"\r\n\r\n" + content)
        body = json.loads(content)
        identity = uuid.uuid4().hex
        if self.path.endswith("/embeddings"):
            data = [{"object": "embedding", "index": 0, "embedding": [0.5, 0.25]}]
            return self._send({"object": "list", "model": "tiny", "data": data, "usage": USAGE})
        if self.path.endswith("/responses"):
            said = [{"type": "output_text", "text": self.told.answer, "annotations": []}]
            message = {"type": "message", "id": "m1", "role": "assistant", "status": "completed", "content": said}
            usage = {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5}
            return self._send(
                {
                    "id": f"resp_{identity}",
                    "object": "response",
                    "created_at": 1,
                    "status": "completed",
                    "model": "tiny",
                    "output": [message],
                    "usage": usage,
                    "parallel_tool_calls": True,
                    "tool_choice": "auto",
                    "tools": [],
                }
            )
        chat = self.path.endswith("/chat/completions")
        if body.get("stream"):
            return self._stream(identity, chat=chat)
        said_ = {"message": {"role": "assistant", "content": self.told.answer}} if chat else {"text": self.told.answer}
        choice = {"index": 0, "finish_reason": "stop", **said_}
        kind = "chat.completion" if chat else "text_completion"
        return self._send(
            {"id": identity, "object": kind, "created": 1, "model": "tiny", "choices": [choice], "usage": USAGE}
        )

    def _stream(self, identity: str, *, chat: bool) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for piece in self.told.pieces():
            said = {"delta": {"content": piece}} if chat else {"text": piece}
            self._event(identity, chat, [{"index": 0, "finish_reason": None, **said}])
        last = {"delta": {}} if chat else {"text": ""}
        self._event(identity, chat, [{"index": 0, "finish_reason": "stop", **last}])
        self._event(identity, chat, [], usage=USAGE)
        self._write(b"data: [DONE]\n\n")
        self.wfile.write(b"0\r\n\r\n")

    def _event(self, identity: str, chat: bool, choices: list[dict[str, Any]], **more: Any) -> None:
        kind = "chat.completion.chunk" if chat else "text_completion"
        event = {"id": identity, "object": kind, "created": 1, "model": "tiny", "choices": choices, **more}
        self._write(b"data: " + json.dumps(event).encode() + b"\n\n")

    def _write(self, content: bytes) -> None:
        self.wfile.write(b"%x\r\n%b\r\n" % (len(content), content))

    def _send(self, content: Any) -> None:
        encoded = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(encoded)))
        self.end_headers()
        self.wfile.write(encoded)

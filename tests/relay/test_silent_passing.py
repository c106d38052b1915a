"""Streams that the relay does not read: an engine's parser may say nothing for longer than the stall timer."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx

from benchmarks.failover.relay_process import RelayProcess

KEY = "a-key-of-the-engines"
STALL_SECONDS, SILENCE_SECONDS = 0.4, 2.0
EVENTS = ("response.created", "response.function_call_arguments.done", "response.completed")


class Engine(BaseHTTPRequestHandler):
    """Makes a tool call, whose arguments it tells when they are whole."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        if self.path != "/v1/responses":  # a probe
            usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
            answer = {"id": "p", "choices": [{"index": 0, "text": "x", "finish_reason": "length"}], "usage": usage}
            self._whole(json.dumps(answer).encode())
            return
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for event in EVENTS:
            data = f'event: {event}\ndata: {{"type":"{event}"}}\n\n'.encode()
            self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
            self.wfile.flush()
            time.sleep(SILENCE_SECONDS / 2 if event != EVENTS[-1] else 0)
        self.wfile.write(b"0\r\n\r\n")

    def do_GET(self) -> None:
        self._whole(b"{}")

    def _whole(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@contextmanager
def engine() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Engine)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_tool_call_of_a_response_that_takes_longer_than_the_stall_timer_is_no_stall(tmp_path: Path) -> None:
    tuning = {"stall_seconds": STALL_SECONDS, "first_byte_seconds": 60.0, "probe_seconds": 0.2}
    with (
        engine() as address,
        RelayProcess(tmp_path, {"a": address}, model="m", key=KEY, max_model_len=512, tuning=tuning) as relay,
    ):
        relay.ready()
        answer = httpx.post(
            f"{relay.address}/v1/responses",
            json={"model": "m", "input": "look", "stream": True},
            headers={"authorization": f"Bearer {KEY}"},
            timeout=60.0,
            trust_env=False,
        )

    told = [line.removeprefix("event: ") for line in answer.text.splitlines() if line.startswith("event: ")]
    assert [*EVENTS] == told
    assert "error" not in answer.text

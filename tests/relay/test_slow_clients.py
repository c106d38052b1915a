"""A client that reads slowly stops the reading from its engine: it costs no memory and is no fault of the engine."""

import json
import socket
import time
from pathlib import Path

from tests.relay.two_engines import CHAT, KEY, STALL_SECONDS, TwoEngines

TOKENS = 3000
BODY = {
    "model": "fault",
    "temperature": 0,
    "max_tokens": TOKENS,
    "stream": True,
    "logprobs": True,
    "top_logprobs": 20,
    "messages": [{"role": "user", "content": "a long answer"}],
}


def test_a_client_that_does_not_read_for_longer_than_a_stall_gets_the_whole_answer(tmp_path: Path) -> None:
    quick = {"stall_seconds": STALL_SECONDS, "probe_seconds": 60.0}
    with TwoEngines(tmp_path, character=("--itl-ms", "0.05"), **quick) as site:
        right = site.undisturbed(CHAT, BODY).texts
        content = json.dumps(BODY).encode()
        head = (
            f"POST {CHAT} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\ncontent-length: {len(content)}\r\n\r\n"
        )
        port = int(site.address.rsplit(":", 1)[1])
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(("127.0.0.1", port))
            client.sendall(head.encode() + content)
            time.sleep(3 * STALL_SECONDS)
            waiting = site.status()["running_requests"]
            faults = [line for line in site.log() if line["event"] == "fault"]
            answer = b""
            while piece := client.recv(65536):
                answer += piece

        lines = [line for line in answer.decode(errors="replace").split("\n") if line.startswith("data: ")]
        said = [json.loads(line[6:])["choices"][0]["delta"].get("content") or "" for line in lines[:-1]]
        assert 1 == waiting, "the answer fitted into the sockets' buffers: this proves nothing"
        assert "data: [DONE]" == lines[-1]
        assert right == {(0, "content"): "".join(said)}
        assert [] == faults

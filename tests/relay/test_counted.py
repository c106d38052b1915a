"""Responses, which pass as they are, are in the bill: whole, as streams, and when they break or are left."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from relay.bodies import used_in
from relay.config import Config, ReplicaConfig
from relay.counted import pass_on_counted
from relay.figures import Figures
from relay.http_client import Pool
from relay.http_server import ClientConnection, HttpRequest
from relay.ledger import Ledger
from relay.ledger_reader import read_all, segments
from relay.replica import Replica
from relay.replicas import Group
from relay.sending import Sender

USAGE = {"input_tokens": 9, "output_tokens": 4, "total_tokens": 13, "input_tokens_details": {"cached_tokens": 2}}
DELTA = b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","delta":"x"}\n\n'
COMPLETED = b"event: response.completed\ndata: %b\n\n" % json.dumps({"response": {"usage": USAGE}}).encode()
STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
PATIENCE_SECONDS = 20.0


class Client:
    """Keeps what it is told, and what the bill was when the last of it came."""

    def __init__(self, folder: Path) -> None:
        self.told, self.status, self.head_sent, self._folder = b"", 0, False, folder
        self.bills_before_the_end: list[dict[str, Any]] = []

    def start_stream(self, **_: str) -> None:
        self.head_sent = True

    def write(self, data: bytes) -> None:
        if data.startswith((b"event: response.completed", b"event: error")):
            self.bills_before_the_end = bills(self._folder)
        self.told += data

    def end_stream(self) -> None:
        """Nothing more comes."""

    def send(self, status: int, body: bytes, **_: str) -> None:
        self.status, self.told, self.bills_before_the_end = status, body, bills(self._folder)


def bills(folder: Path) -> list[dict[str, Any]]:
    return [one for path in segments(folder) for one in read_all(path) if one["kind"] == "end"]


async def ask(folder: Path, answer: bytes, *, client: Client, leaves_after: int | None = None) -> None:
    """One request to an engine that says exactly this."""

    async def engine(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        if leaves_after is not None:
            await reader.read()
        writer.close()

    server = await asyncio.start_server(engine, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    replica = ReplicaConfig(id="a", api_base=f"http://127.0.0.1:{port}/v1")
    config = Config(group="g", served_model_name="m", port=0, replicas=(replica,), max_model_len=100, max_legs=1,
                    ledger_directory=folder)  # fmt: skip

    async def nothing(_: Replica) -> str | None:
        return None

    group = Group([Replica(config=replica, pool=Pool(replica.address))], limit=9, queue_max=9, wait_seconds=9.0,
                  probe=nothing, look=nothing, probe_seconds=9.0)  # fmt: skip
    ledger = Ledger.open(folder, group="g")
    request = HttpRequest(method="POST", path="/v1/responses", headers={}, body=b"{}")
    running = asyncio.create_task(
        pass_on_counted(
            request,
            cast(ClientConnection, client),  # as much of one as is asked
            identity="call-1",
            config=config,
            group=group,
            sender=Sender(key="k", connect_seconds=PATIENCE_SECONDS),
            ledger=ledger,
            figures=Figures(),
        )
    )
    async with asyncio.timeout(PATIENCE_SECONDS):
        while leaves_after is not None and client.told.count(b".delta\n") < leaves_after:
            await asyncio.sleep(0.01)
        if leaves_after is not None:
            running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        while not bills(folder):
            await asyncio.sleep(0.01)
    ledger.close()
    server.close()


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    yield Client(tmp_path)


def counts(bill: dict[str, Any]) -> tuple[int, int, int, str]:
    return bill["prompt_tokens"], bill["completion_tokens"], bill["cached_tokens"], bill["outcome"]


def test_a_whole_response_is_billed_as_the_engine_counted_before_the_client_has_it(
    tmp_path: Path, client: Client
) -> None:
    body = json.dumps({"output": [], "usage": USAGE}).encode()
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)

    asyncio.run(ask(tmp_path, head + body, client=client))

    assert (200, body) == (client.status, client.told)
    assert [(9, 4, 2, "completed")] == list(map(counts, client.bills_before_the_end))


def test_a_streamed_response_is_billed_before_its_last_event(tmp_path: Path, client: Client) -> None:
    asyncio.run(ask(tmp_path, STREAM + DELTA + DELTA + COMPLETED, client=client))

    assert DELTA + DELTA + COMPLETED == client.told
    assert [(9, 4, 2, "completed")] == list(map(counts, client.bills_before_the_end))


def test_what_was_passed_on_of_a_stream_that_breaks_is_billed(tmp_path: Path, client: Client) -> None:
    asyncio.run(ask(tmp_path, STREAM + DELTA + DELTA + DELTA, client=client))

    assert b"event: error" in client.told
    assert [(0, 3, 0, "engines_failed")] == list(map(counts, client.bills_before_the_end))


def test_who_leaves_a_stream_is_billed_what_was_passed_on(tmp_path: Path, client: Client) -> None:
    asyncio.run(ask(tmp_path, STREAM + DELTA + DELTA, client=client, leaves_after=2))

    assert [(0, 2, 0, "client_left")] == list(map(counts, bills(tmp_path)))


@pytest.mark.parametrize(
    ("said", "used"),
    [
        (b'{"usage":{"prompt_tokens":7,"total_tokens":7,"completion_tokens":0}}', (7, 0, 0)),
        (b'{"usage":{"total_tokens":5}}', (5, 0, 0)),  # reranking
        (b'{"usage":{"input_tokens":3,"output_tokens":2,"total_tokens":5}}', (3, 2, 0)),
        (b"data: [DONE]", (0, 0, 0)),
        (b"not JSON", (0, 0, 0)),
    ],
)
def test_usage_is_read_in_the_words_of_each_interface(said: bytes, used: tuple[int, int, int]) -> None:
    assert used == used_in(said)

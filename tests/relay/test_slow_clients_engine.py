"""What a slow client leaves behind: nothing."""

import asyncio

from relay.config import ReplicaConfig
from relay.http_client import Pool
from relay.leg import Leg, LegEnd
from relay.replica import Replica

PATIENCE_SECONDS = 20.0
EVENTS = b"data: long\n\ndata: [DONE]\n\n"
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n" % (
    len(EVENTS),
    EVENTS,
)
LAST_CHUNK = b"0\r\n\r\n"


async def one_answer() -> tuple[LegEnd, bool]:
    """Its client stops reading while the last bytes are written, and never reads on."""
    is_heard, is_closed = asyncio.Event(), asyncio.Event()

    async def engine(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(ANSWER)
        await is_heard.wait()
        writer.write(LAST_CHUNK)
        await reader.read()
        is_closed.set()
        writer.close()

    def sink(event: bytes) -> str | None:
        leg.pause(True)
        return "" if event == b"data: [DONE]" else None

    server = await asyncio.start_server(engine, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    config = ReplicaConfig(id="a", api_base=f"http://127.0.0.1:{port}/v1")
    replica = Replica(config=config, pool=Pool(config.address))
    leg = Leg(replica, sink=sink, first_byte_seconds=PATIENCE_SECONDS, stall_seconds=PATIENCE_SECONDS)
    leg.start(await replica.pool.connect(PATIENCE_SECONDS), b"\n")
    end = await leg.over
    is_heard.set()
    try:
        await asyncio.wait_for(is_closed.wait(), PATIENCE_SECONDS)
    except TimeoutError:
        return end, False
    finally:
        server.close()
    return end, True


def test_a_connection_to_an_engine_is_let_go_of_however_slow_the_client_was_at_the_end() -> None:
    end, is_closed = asyncio.run(one_answer())

    assert "finished" == end.kind
    assert is_closed

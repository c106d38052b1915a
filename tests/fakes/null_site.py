"""The null server in a thread of the test, and one call that sends a load at it."""

import asyncio
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.driver import Driver, Share
from benchmarks.load import Load
from benchmarks.null_behaviour import Behaviour
from benchmarks.null_server import NullServer, serve
from benchmarks.record import Record
from benchmarks.schedule import schedule
from benchmarks.workload import Workload


@contextmanager
def null_site(*, tls: ssl.SSLContext | None = None, key: str = "", slots: int = 0) -> Iterator[tuple[int, NullServer]]:
    """(port, server) while the block runs. It answers at once unless the model's name asks otherwise."""
    server = NullServer(Behaviour(ttft_ms=0, itl_ms=0), key=key, slots=slots)
    loop = asyncio.new_event_loop()
    port: list[int] = []
    ready = threading.Event()

    async def listen() -> None:
        port.append(await serve(server, port=0, tls=tls))
        ready.set()

    def run() -> None:
        starting = loop.create_task(listen())
        loop.run_forever()
        assert starting.done()
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert ready.wait(60)
    yield port[0], server
    loop.call_soon_threadsafe(loop.stop)
    thread.join()


def load_for(port: int, *, model: str = "null", requests: int = 1, scheme: str = "http", **more: Any) -> Load:
    """`requests` requests, all within a tenth of a second, of ten tokens each."""
    return Load.parse(
        {
            "target": {"base_url": f"{scheme}://127.0.0.1:{port}/v1", "model": model, **more.pop("target", {})},
            "arrivals": {"kind": "constant", "rate_per_second": requests * 10, "duration_seconds": 0.1},
            "workload": {"output": {"mean_tokens": 10}, **more.pop("workload", {})},
            **more,
        },
        origin="test",
    )


def carry_out(load: Load, *, share: Share | None = None, run_id: str = "run") -> list[Record]:
    """Every record of one process's share of the load."""
    records: list[Record] = []
    plan = schedule(load.arrivals, seed=load.seed)
    driver = Driver(load, plan, Workload(load, run_id=run_id, schedule=plan), records.append, share=share or Share())
    driver.begin()
    driver.run()
    return records

"""Null server: an OpenAI-compatible endpoint that computes nothing, so that what is measured against it is the
client.

Paced streams keep their rhythm by the clock (chunk k is due at start + TTFT + k * ITL, never later because the one
before was late). Every token says which stream it belongs to and its number, so that a lost, doubled or strayed one
is visible. It binds to loopback only. Behaviour comes from the model's name, so one server plays all parts:
`null?ttft_ms=50&itl_ms=20&tokens=100&reasoning=10&fault=cut`; `benchmarks/README.md` lists the faults.
"""

import argparse
import asyncio
import heapq
import ipaddress
import signal
import ssl
import sys
from collections import deque
from pathlib import Path

from benchmarks.errors import BadLoad
from benchmarks.null_behaviour import Behaviour, Traffic
from benchmarks.null_connection import TICK_SECONDS, Connection, Exchange


class NullServer:
    """Paces all streams from one timer."""

    def __init__(self, behaviour: Behaviour, *, slots: int = 0, key: str = "") -> None:
        self.behaviour, self.key, self.traffic = behaviour, key, Traffic()
        self._slots, self._busy, self._waiting = slots, 0, deque[Exchange]()
        self._due: list[tuple[float, int, Exchange]] = []
        self._order = 0
        self._timer: asyncio.TimerHandle | None = None

    def admit(self, exchange: Exchange) -> None:
        """Starts an exchange, or queues it while all slots are busy."""
        if self._slots and self._busy >= self._slots:
            self._waiting.append(exchange)
            return
        self._busy += 1
        exchange.begin(asyncio.get_running_loop().time())
        self.at(exchange.due, exchange)

    def release(self) -> None:
        """A slot has become free."""
        self._busy -= 1
        while self._waiting and (not self._slots or self._busy < self._slots):
            self.admit(self._waiting.popleft())

    def forget(self, exchange: Exchange) -> None:
        """A queued client has gone away."""
        if exchange in self._waiting:
            self._waiting.remove(exchange)

    def at(self, due: float, exchange: Exchange) -> None:
        """Lets the exchange continue at that loop time."""
        self._order += 1
        heapq.heappush(self._due, (due, self._order, exchange))
        if self._timer is None or due < self._timer.when() - TICK_SECONDS:
            self._arm()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(self._due[0][0], self._tick) if self._due else None

    def _tick(self) -> None:
        due, now = self._due, asyncio.get_running_loop().time()
        self._timer = None
        while due and due[0][0] <= now:
            exchange = due[0][2]
            if exchange.advance():
                self._order += 1
                heapq.heapreplace(due, (exchange.due, self._order, exchange))
            else:
                heapq.heappop(due)
                self.release()
        self._arm()


async def serve(server: NullServer, *, port: int, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> int:
    """Starts listening; returns the port."""
    if not ipaddress.ip_address(host).is_loopback:
        raise BadLoad(f"{host}: the null server listens on loopback addresses only")
    loop = asyncio.get_running_loop()
    listener = await loop.create_server(lambda: Connection(server), host, port, ssl=tls, backlog=4096)
    return int(listener.sockets[0].getsockname()[1])


def main() -> None:
    """Runs until SIGTERM or until standard input closes; prints the port as its only line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.null_server", description=__doc__.partition("\n")[0])
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 = any free one")
    parser.add_argument("--ttft-ms", type=float, default=10.0)
    parser.add_argument("--itl-ms", type=float, default=50.0, help="0 = as fast as the client reads")
    parser.add_argument("--tokens", type=int, default=0, help="0 = what max_tokens asks for")
    parser.add_argument("--slots", type=int, default=0, help="answers at a time; later ones queue; 0 = no limit")
    parser.add_argument("--certificate", type=Path, help="PEM with certificate and key: speak TLS")
    parser.add_argument("--follow-stdin", action="store_true", help="end when standard input closes")
    options = parser.parse_args()
    behaviour = Behaviour(ttft_ms=options.ttft_ms, itl_ms=options.itl_ms, tokens=options.tokens)
    tls = None
    if options.certificate:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(options.certificate)

    async def forever() -> None:
        over = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, over.set)
        loop.add_signal_handler(signal.SIGINT, over.set)
        if options.follow_stdin:
            loop.add_reader(sys.stdin, over.set)
        port = await serve(NullServer(behaviour, slots=options.slots), port=options.port, host=options.host, tls=tls)
        print(port, flush=True)
        await over.wait()

    try:
        asyncio.run(forever())
    except BadLoad as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()

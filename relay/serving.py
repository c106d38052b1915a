"""Serving: sockets, signals and the end. SIGTERM stops accepting, finishes what runs, and leaves within a bound."""

import asyncio
import os
import signal
import socket

from relay.config import Config
from relay.fault_log import log
from relay.http_server import ClientConnection
from relay.ledger import Ledger
from relay.service import Service

FIRST_PASSED_SOCKET = 3  # as systemd passes them
BACKLOG = 4096
LOOK_SECONDS = 0.05
SILENT_SECONDS = 1.0
"""Who has connected and said nothing for so long after the stop was not about to ask."""


def passed_socket() -> socket.socket | None:
    """The listening socket that systemd holds for us, if there is one."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()) or int(os.environ.get("LISTEN_FDS") or 0) < 1:
        return None
    listening = socket.socket(fileno=FIRST_PASSED_SOCKET)
    listening.setblocking(False)
    return listening


async def serve(config: Config, *, key: str) -> None:
    """Runs until SIGTERM or SIGINT, and until what runs then is over."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    ledger = Ledger.open(config.ledger_directory, group=config.group)
    service = Service(config, key=key, ledger=ledger)
    connections: set[ClientConnection] = set()

    def accept() -> ClientConnection:
        return ClientConnection(service.answer, connections)

    listening = passed_socket()
    if listening is not None:
        server = await loop.create_server(accept, sock=listening, backlog=BACKLOG)
    else:
        server = await loop.create_server(accept, config.host, config.port, backlog=BACKLOG)
    port = server.sockets[0].getsockname()[1]
    log("serving", group=config.group, host=config.host, port=port, activated=listening is not None)
    watching = loop.create_task(service.watch())
    await stop.wait()

    service.stopping = True
    server.close()
    log("stopping", running=service.figures.running, drain_seconds=config.drain_seconds)
    stopped_at = loop.time()
    while loop.time() < stopped_at + config.drain_seconds:
        late = loop.time() > stopped_at + SILENT_SECONDS
        if not any(connection.begun or not late for connection in connections):
            break
        await asyncio.sleep(LOOK_SECONDS)
    watching.cancel()
    left = len(connections)
    service.book_progress()
    for connection in list(connections):
        connection.drop()
    await asyncio.sleep(0)
    ledger.close()
    log("stopped", cut_connections=left)

"""Sending: puts one request on a connection to the replica that was chosen, a kept one or a new one."""

import asyncio

from relay.lateness import within
from relay.leg import Leg, LegEnd
from relay.replica import Replica

CONNECT_ATTEMPTS = 5
"""With an engine that meanwhile answers others."""


class Sender:
    """Knows the key and the timers."""

    def __init__(self, *, key: str, connect_seconds: float) -> None:
        self._key, self._connect_seconds = key, connect_seconds
        self._connecting: set[asyncio.Task[None]] = set()

    async def start(
        self, leg: Leg, method: str, path: str, body: bytes, *, identity: str, kind: str = "application/json"
    ) -> None:
        """Starts a leg. What cannot be connected ends it at once."""
        replica = leg.replica
        request = self._request(replica, method, path, body, identity=identity, kind=kind)
        connection = replica.pool.idle()
        if connection is not None:
            leg.again = lambda: self._afresh(leg, request)
            leg.start(connection, request)
        else:
            await self._connect(leg, request)

    def _afresh(self, leg: Leg, request: bytes, *, attempts: int = CONNECT_ATTEMPTS) -> None:
        task = asyncio.get_running_loop().create_task(self._connect(leg, request, attempts=attempts))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    async def _connect(self, leg: Leg, request: bytes, *, attempts: int = CONNECT_ATTEMPTS) -> None:
        replica = leg.replica
        loop = asyncio.get_running_loop()
        begun = loop.time()
        try:
            connection = await replica.pool.connect(self._connect_seconds)
        except TimeoutError:
            if replica.progress_at >= begun and not leg.over.done() and attempts > 1:
                self._afresh(
                    leg, request, attempts=attempts - 1
                )  # it answers others: a crowd connects, or this process is short of time
                return
            leg.fault(f"no connection within {self._connect_seconds:g} s", hung=True)
        except OSError as error:
            leg.fault(f"no connection: {error.strerror or error}")
        else:
            if leg.over.done():
                connection.abandon()
            else:
                leg.start(connection, request)

    def _request(self, replica: Replica, method: str, path: str, body: bytes, *, identity: str, kind: str) -> bytes:
        host, port = replica.config.address
        return (
            f"{method} {path} HTTP/1.1\r\nhost: {host}:{port}\r\nauthorization: Bearer {self._key}\r\n"
            f"content-type: {kind}\r\nx-request-id: {identity}\r\ncontent-length: {len(body)}\r\n\r\n"
        ).encode("latin-1") + body


async def outcome_of(leg: Leg, *, seconds: float) -> LegEnd:
    """How a leg ended, at the latest after so long."""
    try:
        return await within(seconds, leg.over)
    except TimeoutError:
        return LegEnd(kind="fault", reason=f"no answer within {seconds:g} s", hung=True)
    finally:
        leg.close()

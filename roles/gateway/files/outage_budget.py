"""Keeps keys that have spent their budget out while PostgreSQL is away.

LiteLLM counts spend in Redis, in counters that live for a minute after their last use, and reads the database when one
is gone. When the database is away too, it takes what it once cached with the key, often zero: a key over its budget
gets in again, once for every expiry. So what is known is remembered here, in this worker and (for a day) in Redis for
all of them; where nothing better can be read, the last known spend counts.

A counter that reads lower than what was known is either a budget that was reset or a counter that expired. The database
tells which; while it is away, the higher number holds.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

REMEMBERED_MAXIMUM = 200_000
SHARED_SECONDS = 86_400
# A change is shared with the other workers at most this often for one counter.
SHARE_PAUSE_SECONDS = 2.0
SHARED_PREFIX = "appliance:last-spend:"
_LOG = logging.getLogger("outage_budget")


class Sharing(Protocol):
    """What is asked of Redis and of the database. Each answers None when it cannot answer."""

    async def shared(self, counter: str) -> float | None: ...

    async def share(self, counter: str, spend: float) -> None: ...

    async def recorded(self, counter: str) -> float | None: ...

    async def raise_counter(self, counter: str, spend: float) -> None: ...


@dataclass(kw_only=True)
class Known:
    """The last spend of one counter that somebody could vouch for."""

    spend: float
    shared_at: float = 0.0


class LastKnownSpend:
    """Judges what was read by what was known."""

    def __init__(self, sharing: Sharing) -> None:
        self._sharing = sharing
        self._known: OrderedDict[str, Known] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()

    async def judge(self, counter: str, *, read: float, verified: bool) -> tuple[float, bool]:
        """The spend to go by, and whether anybody vouches for it."""
        known = self._known.get(counter)
        if verified and (known is None or read >= known.spend):
            self._remember(counter, read)
            return read, True
        if known is None:
            remembered = await self._sharing.shared(counter)
            if remembered is None or remembered <= read:
                return read, verified
            known = self._remember(counter, remembered)
        if verified:
            recorded = await self._sharing.recorded(counter)
            if recorded is not None:  # a budget was reset, or the counter is new: the database knows
                spend = max(read, recorded)
                self._remember(counter, spend)
                return spend, True
        if known.spend > read:
            await self._sharing.raise_counter(counter, known.spend)
        return max(read, known.spend), False

    def _remember(self, counter: str, spend: float) -> Known:
        known = self._known.get(counter)
        if known is None:
            known = self._known[counter] = Known(spend=spend)
            if len(self._known) > REMEMBERED_MAXIMUM:
                self._known.popitem(last=False)
        elif known.spend == spend:
            return known
        self._known.move_to_end(counter)
        known.spend = spend
        now = time.monotonic()
        if now - known.shared_at >= SHARE_PAUSE_SECONDS:
            known.shared_at = now
            task = asyncio.get_running_loop().create_task(self._sharing.share(counter, spend))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return known


class LiteLlmSharing:
    """Redis and the database as LiteLLM has them."""

    async def shared(self, counter: str) -> float | None:
        """From Redis, for a day."""
        return await self._of_redis(lambda redis: redis.async_get_cache(key=SHARED_PREFIX + counter))

    async def share(self, counter: str, spend: float) -> None:
        """To Redis, for a day."""
        await self._of_redis(
            lambda redis: redis.async_set_cache(key=SHARED_PREFIX + counter, value=spend, ttl=SHARED_SECONDS)
        )

    async def recorded(self, counter: str) -> float | None:
        """From the database."""
        from litellm.proxy import proxy_server  # noqa: PLC0415
        from litellm.proxy.db.spend_counter_reseed import SpendCounterReseed  # noqa: PLC0415

        return await SpendCounterReseed.from_db(prisma_client=proxy_server.prisma_client, counter_key=counter)

    async def raise_counter(self, counter: str, spend: float) -> None:
        """Puts the known number back, so that what is spent from now on adds to it."""
        from litellm.proxy import proxy_server  # noqa: PLC0415

        await proxy_server._repair_stale_spend_counter(counter_key=counter, db_spend=spend)

    async def _of_redis(self, ask: Callable[[Any], Awaitable[Any]]) -> float | None:
        from litellm.proxy import proxy_server  # noqa: PLC0415

        redis = proxy_server.spend_counter_cache.redis_cache
        if redis is None:
            return None
        try:
            answer = await ask(redis)
        except Exception as error:  # noqa: BLE001  (Redis away is the case this is made for)
            _LOG.debug("Redis does not answer: %s", error)
            return None
        return float(answer) if isinstance(answer, int | float | str) else None


def remember_spend() -> None:
    """Puts the judgement behind LiteLLM's reading of counters."""
    from litellm.proxy import proxy_server  # noqa: PLC0415

    read_estimate = proxy_server._read_spend_counter_estimate
    last_known = LastKnownSpend(LiteLlmSharing())

    async def judged_estimate(counter_key: str, fallback_spend: float) -> tuple[float, bool]:
        read, verified = await read_estimate(counter_key=counter_key, fallback_spend=fallback_spend)
        return await last_known.judge(counter_key, read=read, verified=verified)

    proxy_server._read_spend_counter_estimate = judged_estimate

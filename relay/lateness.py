"""Lateness: a timer that comes late says that this process had no core, not that somebody else was silent.

While it did not run it did not listen either: what has arrived since waits to be read. So a late timer is given as long
again as it was late, once, before anybody is blamed.
"""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

LATE_SECONDS = 0.05
"""Later than this, and the machine is short of cores. A guess: a loop that serves 1,000 streams is late by less."""
Wanted = TypeVar("Wanted")


async def within(seconds: float, wanted: Awaitable[Wanted]) -> Wanted:
    """What is wanted. Raises TimeoutError, and cancels it, if it does not come in time."""
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(wanted)
    due = loop.time() + seconds
    try:
        await asyncio.wait({task}, timeout=seconds)
        late = loop.time() - due
        if not task.done() and late > LATE_SECONDS:
            await asyncio.wait({task}, timeout=min(late, seconds))
        if not task.done():
            raise TimeoutError
        return task.result()
    finally:
        if not task.done():
            task.cancel()

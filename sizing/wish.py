"""Wish: what one engine of one model shall offer, whoever asked for it (a site's request or the command line)."""

from dataclasses import dataclass

from sizing.request import Objective, Quality


@dataclass(frozen=True, kw_only=True)
class Wish:
    """For one engine: the window it must offer and the requests that must be in flight at once.

    `context_tokens` None means the longest window that fits. `users_count` is per engine.
    """

    context_tokens: int | None
    users_count: int
    objective: Objective = "throughput"
    quality: Quality = "strict"

"""Wish: what the engines of one model shall offer, whoever asked for it (a site's request or the command line)."""

from dataclasses import dataclass

from sizing.demand import Demand
from sizing.request import Objective, Quality


@dataclass(frozen=True, kw_only=True)
class Wish:
    """The window each engine must offer and the requests that must be in flight at once, over all engines.

    `context_tokens` None means the longest window that fits. `request_tokens` (prompt and answer of a usual request)
    None means that every request may fill the window. With a `demand` the engines must also be fast enough for it; the
    requests in flight then follow from the demand, and `users_count` is what memory must hold at least.
    """

    context_tokens: int | None
    users_count: int
    objective: Objective = "throughput"
    quality: Quality = "strict"
    request_tokens: int | None = None
    demand: Demand | None = None

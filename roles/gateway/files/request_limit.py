"""The gateway's hook that limits how many requests run at once, over all keys, workers and gateways of a site.

LiteLLM's own setting for this, `global_max_parallel_requests`, is read by its former limiter only; the present one
ignores it in silence. Its slots are general, though: they are taken in Redis before a request leaves, and given back
at its end, its failure or when its client goes away. So every request gets one more of them, for `gateway: all`, beside
those of its key. A request over the limit is answered 429, as for a key.
"""

from __future__ import annotations

import functools
import os
from typing import Any

LIMIT_VARIABLE = "GATEWAY_PARALLEL_REQUESTS"


def slot(limit: int) -> dict[str, Any]:
    """LiteLLM's RateLimitDescriptor for everybody."""
    return {"key": "gateway", "value": "all", "rate_limit": {"max_parallel_requests": limit}}


def limit_all(limiter: type, limit: int) -> None:
    """From now on the limiter counts every request against `limit` as well."""
    of_request = limiter.create_rate_limit_descriptors  # type: ignore[attr-defined]

    @functools.wraps(of_request)
    def of_request_and_gateway(self: Any, *given: Any, **named: Any) -> list[Any]:
        return [*of_request(self, *given, **named), slot(limit)]

    limiter.create_rate_limit_descriptors = of_request_and_gateway  # type: ignore[attr-defined]


@functools.cache
def _gateway_hook() -> Any:
    from litellm.integrations.custom_logger import CustomLogger  # noqa: PLC0415 - only the gateway has it
    from litellm.proxy.hooks.parallel_request_limiter_v3 import (  # noqa: PLC0415
        PROXY_MaxParallelRequestsHandler_v3,
    )

    limit_all(PROXY_MaxParallelRequestsHandler_v3, int(os.environ[LIMIT_VARIABLE]))
    return CustomLogger()


def __getattr__(name: str) -> Any:
    """LiteLLM takes `request_limit.instance`; made when asked for, so that importing this module needs no gateway."""
    if name == "instance":
        return _gateway_hook()
    raise AttributeError(name)

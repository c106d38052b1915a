"""The gateway's page for people: what is served at `/`, and which models answer at this moment.

LiteLLM answers `/` with its API's reference; people who were given an address want to know what it is, what they can
ask it and how. The page is a file that the deployment writes; the status is asked from the engines' side on demand and
kept for a few seconds, so that nobody can keep engines busy by reloading. Neither needs a key, and neither says more
than names, windows, prices and "serving" or "not serving".
"""

from __future__ import annotations

import asyncio
import functools
import json
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

DIRECTORY_VARIABLE = "FRONT_PAGE_DIRECTORY"
STATUS_PATH = "/front-page/status"
REFERENCE_PATH = "/docs"
KEPT_SECONDS = 5.0
ASK_SECONDS = 2.0
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-cache",
}


class Status:
    """Which models have an engine that answers. `healthy` asks one address."""

    def __init__(self, models: dict[str, list[str]], healthy: Callable[[str], Awaitable[bool]]) -> None:
        self._models, self._healthy = models, healthy
        self._known: dict[str, Any] = {}
        self._known_at = float("-inf")
        self._asking = asyncio.Lock()

    async def now(self) -> dict[str, Any]:
        """{"models": {name: serving or not}, "checked_at": seconds since 1970}, at most a few seconds old."""
        async with self._asking:
            if time.monotonic() - self._known_at >= KEPT_SECONDS:
                addresses = sorted({address for several in self._models.values() for address in several})
                found = dict(zip(addresses, await asyncio.gather(*map(self._healthy, addresses)), strict=True))
                serving = {name: any(found[one] for one in several) for name, several in self._models.items()}
                self._known = {"models": serving, "checked_at": int(time.time())}
                self._known_at = time.monotonic()
            return self._known


def models_of(directory: Path) -> dict[str, list[str]]:
    """Addresses whose HTTP 200 says that a model is served, by model."""
    return dict(json.loads((directory / "models.json").read_text(encoding="utf-8")))


def install(app: Any, directory: Path) -> None:
    """Puts the two routes before LiteLLM's own."""
    import httpx  # noqa: PLC0415 - LiteLLM's own client library, only on gateway hosts
    from starlette.responses import HTMLResponse, JSONResponse  # noqa: PLC0415
    from starlette.routing import Route  # noqa: PLC0415

    client = httpx.AsyncClient(timeout=ASK_SECONDS, trust_env=False)

    async def healthy(address: str) -> bool:
        try:
            return (await client.get(address)).status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False

    status = Status(models_of(directory), healthy)

    async def page(_: Any) -> Any:
        return HTMLResponse((directory / "index.html").read_text(encoding="utf-8"), headers=HEADERS)

    async def said(_: Any) -> Any:
        return JSONResponse(await status.now(), headers={"Cache-Control": "no-store"})

    app.router.routes[:0] = [Route("/", page, methods=["GET"]), Route(STATUS_PATH, said, methods=["GET"])]


@functools.cache
def _instance() -> Any:
    from litellm.integrations.custom_logger import CustomLogger  # noqa: PLC0415 - only the gateway has it
    from litellm.proxy.proxy_server import app  # noqa: PLC0415

    install(app, Path(os.environ[DIRECTORY_VARIABLE]))
    return CustomLogger()


def __getattr__(name: str) -> Any:
    """LiteLLM asks for `instance` once in each worker, after it has made its own routes."""
    if name == "instance":
        return _instance()
    raise AttributeError(name)

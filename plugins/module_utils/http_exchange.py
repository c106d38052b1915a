# Apache License 2.0 (see LICENSE)
"""HTTP exchanges of the observing modules: one request, one answer as data; an error is an answer, too.

Standard library only, because it runs on the hosts; never through a proxy, because it asks the host's own services.
"""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from typing import Any

_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class Exchange:
    """An answer. `status` is None when there was none, and `error` says why. Header names are in lower case."""

    status: int | None
    headers: dict[str, str] = field(default_factory=dict)
    text: str = ""
    error: str = ""
    seconds: float = 0.0

    def content(self) -> dict[str, Any]:
        """The JSON object in the body; empty when there is none."""
        try:
            content = json.loads(self.text)
        except ValueError:
            return {}
        return content if isinstance(content, dict) else {}

    def rows(self) -> list[Any] | None:
        """The JSON list in the body; None when there is none."""
        try:
            content = json.loads(self.text)
        except ValueError:
            return None
        return content if isinstance(content, list) else None

    def message(self) -> str:
        """What an error body says: OpenAI's shape, FastAPI's shape, or the first line of the text."""
        error = self.content().get("error", self.content().get("detail"))
        if isinstance(error, dict):
            error = error.get("message", error)
        words = str(error) if error else self.text
        return " ".join(words.split())[:600]


@dataclass(frozen=True)
class StreamEvent:
    """The data of one server-sent event, and when it came."""

    data: str
    seconds: float


def exchange(
    method: str,
    url: str,
    *,
    key: str | None = None,
    body: Any = None,
    headers: dict[str, str] | None = None,
    timeout_seconds: float,
) -> Exchange:
    """One request; raises nothing that a network or a server can cause."""
    started = time.monotonic()
    try:
        with _OPENER.open(_request(method, url, key, body, headers), timeout=timeout_seconds) as answer:
            return _exchange(answer.status, answer.headers, answer.read(), started)
    except urllib.error.HTTPError as error:
        with error:
            return _exchange(error.code, error.headers, error.read(), started)
    except (OSError, http.client.HTTPException) as error:
        return Exchange(status=None, error=_reason(error), seconds=time.monotonic() - started)


def stream(
    url: str, *, key: str | None = None, body: Any, headers: dict[str, str] | None = None, timeout_seconds: float
) -> tuple[Exchange, list[StreamEvent]]:
    """One streamed answer: the exchange (its text empty unless it is an error) and its events in order."""
    started = time.monotonic()
    events: list[StreamEvent] = []
    try:
        with _OPENER.open(_request("POST", url, key, body, headers), timeout=timeout_seconds) as answer:
            named = {name.lower(): value for name, value in answer.headers.items()}
            try:
                for line in answer:
                    words = line.decode("utf-8", "replace").strip()
                    if words.startswith("data:"):
                        events.append(StreamEvent(words[len("data:") :].strip(), time.monotonic() - started))
                    if time.monotonic() - started > timeout_seconds:
                        return Exchange(answer.status, named, "", "the stream took too long", timeout_seconds), events
            except (OSError, http.client.HTTPException) as error:
                return Exchange(answer.status, named, "", _reason(error), time.monotonic() - started), events
            return Exchange(answer.status, named, "", "", time.monotonic() - started), events
    except urllib.error.HTTPError as error:
        with error:
            return _exchange(error.code, error.headers, error.read(), started), events
    except (OSError, http.client.HTTPException) as error:
        return Exchange(status=None, error=_reason(error), seconds=time.monotonic() - started), events


def _request(method: str, url: str, key: str | None, body: Any, headers: dict[str, str] | None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    every = dict(headers or {})
    if data is not None:
        every["Content-Type"] = "application/json"
    if key is not None:
        every["Authorization"] = "Bearer " + key
    return urllib.request.Request(url, data=data, method=method, headers=every)  # noqa: S310 (the plan's own URLs)


def _exchange(status: int, headers: Any, content: bytes, started: float) -> Exchange:
    named = {name.lower(): value for name, value in headers.items()}
    return Exchange(status, named, content.decode("utf-8", "replace"), "", time.monotonic() - started)


def _reason(error: Exception) -> str:
    """The innermost words: urllib wraps what the system said."""
    reason = getattr(error, "reason", None) or error
    return str(reason) or type(error).__name__

"""Sends traces to one receiver, from a thread of its own, so that no request ever waits for it.

What cannot be sent waits in memory, at most so many bytes; when that is full, the newest is dropped and counted. A
receiver that is away is asked again after 1, 2, 4 ... 60 seconds; one that refuses (wrong key, wrong address) is told
nothing of that batch again. Both are said in the log once a minute at most.
"""

from __future__ import annotations

import atexit
import base64
import gzip
import http.client
import logging
import threading
import time
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import urlsplit

from trace_spans import Call, Value, request_of, span_of

BATCH_CALLS, BATCH_SECONDS = 256, 2.0
HELD_BYTES_MAX = 16 * 1024 * 1024
REQUEST_SECONDS = 10.0
WAIT_SECONDS = (1.0, 60.0)
SAY_AGAIN_SECONDS = 60.0
FAREWELL_SECONDS = 3.0
_AGAIN = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS})
_PATHS = {"opentelemetry": "/v1/traces", "langfuse": "/api/public/otel/v1/traces"}
_LOG = logging.getLogger("trace_export")


class Refused(Exception):
    """The receiver does not want this batch, and will not want it later."""


class NoRedirects(urllib.request.HTTPRedirectHandler):
    """A receiver that moves is a mistake: its key must not follow it elsewhere."""

    def redirect_request(self, *_: object, **__: object) -> None:
        return None


@dataclass(frozen=True, kw_only=True)
class Receiver:
    """Who is told, and how it lets us in."""

    name: str
    kind: str
    url: str
    headers: Mapping[str, str]
    inside: bool
    content: bool

    @property
    def address(self) -> str:
        """An address without a path gets the one of its kind."""
        bare = urlsplit(self.url).path in ("", "/")
        return self.url.rstrip("/") + _PATHS[self.kind] if bare else self.url


def receiver_of(declared: Mapping[str, object], environment: Mapping[str, str]) -> Receiver:
    """As tracing.json has it; keys come from the environment."""
    given = declared.get("headers")
    headers = {str(name): environment[str(variable)] for name, variable in given.items()} if _is_map(given) else {}
    if declared.get("key"):
        pair = environment[str(declared["key"])].encode()
        headers["Authorization"] = "Basic " + base64.b64encode(pair).decode()
        headers["x-langfuse-ingestion-version"] = "4"
    return Receiver(
        name=str(declared["name"]),
        kind=str(declared["kind"]),
        url=str(declared["url"]),
        headers=headers,
        inside=declared.get("inside") is True,
        content=declared.get("content") is True,
    )


class Sender:
    """One thread and its queue. The thread is started by the first call: workers are forked before that."""

    def __init__(
        self,
        receiver: Receiver,
        *,
        resource: Mapping[str, Value],
        held_bytes_max: int = HELD_BYTES_MAX,
        post: Callable[[Receiver, bytes], None] | None = None,
        batch_seconds: float = BATCH_SECONDS,
    ) -> None:
        self.receiver = receiver
        self.dropped = 0
        self._resource = resource
        self._held_bytes_max = held_bytes_max
        self._post = post or post_to
        self._batch_seconds = batch_seconds
        self._waiting: deque[Call] = deque()
        self._held_bytes = 0
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._ends = threading.Event()
        self._thread: threading.Thread | None = None
        self._said_at = 0.0

    def tell(self, call: Call) -> bool:
        """Takes the call and returns at once; False when there is no room for it."""
        with self._lock:
            if self._held_bytes + call.bytes_held > self._held_bytes_max:
                self.dropped += 1
                return False
            self._waiting.append(call)
            self._held_bytes += call.bytes_held
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name=f"traces-{self.receiver.name}", daemon=True)
                self._thread.start()
                atexit.register(self.end)
            if len(self._waiting) >= BATCH_CALLS:
                self._wake.set()
        return True

    def end(self, seconds: float = FAREWELL_SECONDS) -> None:
        """Sends what waits, if that is quick."""
        self._ends.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(seconds)

    def _work(self) -> None:
        wait = WAIT_SECONDS[0]
        while True:
            self._wake.wait(self._batch_seconds)
            self._wake.clear()
            while batch := self._next():
                try:
                    self._post(self.receiver, self._body(batch))
                except Refused as refusal:
                    self._say(f"refuses what it is sent ({refusal}); it is dropped")
                    self.dropped += len(batch)
                except OSError as error:
                    self._say(f"does not answer ({error}); asked again in {wait:.0f} s")
                    self._put_back(batch)
                    if self._ends.wait(wait):
                        return
                    wait = min(wait * 2, WAIT_SECONDS[1])
                    continue
                wait = WAIT_SECONDS[0]
            if self._ends.is_set():
                return

    def _next(self) -> list[Call]:
        with self._lock:
            batch = [self._waiting.popleft() for _ in range(min(BATCH_CALLS, len(self._waiting)))]
            self._held_bytes -= sum(call.bytes_held for call in batch)
            return batch

    def _put_back(self, batch: list[Call]) -> None:
        with self._lock:
            self._waiting.extendleft(reversed(batch))
            self._held_bytes += sum(call.bytes_held for call in batch)

    def _body(self, batch: list[Call]) -> bytes:
        langfuse, content = self.receiver.kind == "langfuse", self.receiver.content
        return request_of((span_of(call, langfuse=langfuse, content=content) for call in batch), self._resource)

    def _say(self, what: str) -> None:
        if time.monotonic() - self._said_at >= SAY_AGAIN_SECONDS or not self._said_at:
            self._said_at = time.monotonic()
            _LOG.warning("receiver %s of traces %s; %d dropped so far", self.receiver.name, what, self.dropped)


def post_to(receiver: Receiver, body: bytes) -> None:
    """One request over HTTP. Raises Refused, or OSError when it may be tried again."""
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip", **receiver.headers}
    data = gzip.compress(body, compresslevel=1)
    request = urllib.request.Request(receiver.address, data=data, headers=headers, method="POST")  # noqa: S310
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), NoRedirects())
    try:
        with opener.open(request, timeout=REQUEST_SECONDS):
            return
    except urllib.error.HTTPError as error:
        error.close()
        if error.code >= HTTPStatus.INTERNAL_SERVER_ERROR or error.code in _AGAIN:
            raise OSError(f"HTTP {error.code}") from None
        raise Refused(f"HTTP {error.code}") from None
    except http.client.HTTPException as error:
        raise OSError(f"no HTTP: {type(error).__name__}") from None


def _is_map(value: object) -> bool:
    return isinstance(value, Mapping)

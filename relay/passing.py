"""Passing on: paths whose answers the relay does not read (responses and embeddings but for their usage, tokenize).

Another engine is tried as long as nothing has gone out to the client; a stream that breaks later ends with an error.
"""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from relay.config import Config
from relay.fault_log import log
from relay.http_server import ClientConnection, HttpRequest, error_body
from relay.leg import Leg, LegEnd
from relay.replica import Replica, Wish
from relay.replicas import Group, NoReplica
from relay.sending import Sender

BYTES_PER_TOKEN = 4
STREAM_ERROR = b'event: error\ndata: {"error":{"message":"the engine failed","type":"BadGatewayError","code":502}}\n\n'


@dataclass(kw_only=True)
class Heard:
    """Of a stream: how many pieces of text went out, and its last event, which waits for the bill."""

    pieces: int = 0
    last: bytes = b""


class _Through:
    """Hands events on as they are."""

    def __init__(self, client: ClientConnection, identity: str, heard: Heard) -> None:
        self._client, self._identity, self._heard = client, identity, heard

    def __call__(self, event: bytes) -> str | None:
        self._client.start_stream(x_request_id=self._identity)
        if event == b"data: [DONE]" or event.startswith(b"event: response.completed"):
            self._heard.last = event
            return ""
        self._heard.pieces += event.startswith(b"event: ") and event.partition(b"\n")[0].endswith(b".delta")
        self._client.write(event + b"\n\n")
        return None


async def pass_on(
    request: HttpRequest,
    client: ClientConnection,
    *,
    identity: str,
    config: Config,
    group: Group,
    sender: Sender,
    heard: Heard | None = None,
    before_answer: Callable[[LegEnd | None, Sequence[Replica]], Awaitable[None]] | None = None,
) -> None:
    """Answers one request. `before_answer` gets how an answer came about (None: no engine took the request) before the
    client has all of it; `heard` is told of streams."""
    heard = heard or Heard()
    wish = Wish(tokens=len(request.body) // BYTES_PER_TOKEN)
    tried: list[Replica] = []
    while True:
        try:
            replica = await group.acquire(wish, tried=tried, urgent=False)
        except NoReplica as none:
            retry = {"retry_after": str(none.retry_after_seconds)}
            if before_answer is not None:
                await before_answer(None, tried)
            client.send(503, error_body(503, str(none), "ServiceUnavailableError"), **retry)
            return
        through = _Through(client, identity, heard)
        end = await _one(request, through, replica, wish, identity=identity, config=config, group=group, sender=sender)
        tried.append(replica)
        if end.kind in {"finished", "refused"}:
            break
        log("fault", request=identity, replica=replica.id, reason=end.reason, leg=len(tried), ejected=end.eject)
        if end.eject:
            group.eject(replica, end.reason, hung=end.hung)
        if end.suspect:
            group.suspect(replica, end.reason)
        if client.head_sent:
            if before_answer is not None:
                await before_answer(end, tried)
            client.write(STREAM_ERROR)
            client.end_stream()
            return
        hopeless = end.suspect and len(tried) > 1 and all(one in tried for one in group.serving)
        if hopeless or len(tried) >= config.max_legs:
            break
    if before_answer is not None:
        await before_answer(end, tried)
    if client.head_sent:
        client.write(heard.last + b"\n\n")
        client.end_stream()
        return
    body = end.body or error_body(502, f"{len(tried)} engines failed; the last said: {end.reason}", "BadGatewayError")
    kind = end.headers.get(b"content-type", b"application/json").decode("latin-1")
    with suppress(ValueError):
        client.send(end.status or 502, body, kind=kind, x_request_id=identity)


async def _one(
    request: HttpRequest,
    through: _Through,
    replica: Replica,
    wish: Wish,
    *,
    identity: str,
    config: Config,
    group: Group,
    sender: Sender,
) -> LegEnd:
    leg = Leg(
        replica,
        sink=through,
        first_byte_seconds=config.request_seconds_max,
        # A parser may say nothing for as long as a tool call takes, and here nothing tells that from a stall. Probes
        # tell of an engine that hangs.
        stall_seconds=max(config.stall_seconds, config.first_byte_seconds),
        whole_too=True,
    )
    kind = request.headers.get("content-type", "application/json")
    try:
        await sender.start(leg, request.method, request.path, request.body, identity=identity, kind=kind)
        return await leg.over
    finally:
        group.release(replica, wish)
        if not leg.finished:
            leg.close()

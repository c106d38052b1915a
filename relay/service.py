"""Service: the paths that a relay has, and who may use them."""

import asyncio
import hmac
import json
import uuid
from collections.abc import Callable, Mapping
from time import monotonic, time
from typing import Any

from relay.answering import Answering
from relay.asking import BadRequest, asked_of
from relay.config import Config
from relay.counted import pass_on_counted
from relay.drained import Drained
from relay.fault_log import log
from relay.figures import Figures
from relay.http_client import Pool
from relay.http_server import ClientConnection, HttpRequest, error_body
from relay.ledger import Ledger
from relay.leg import Leg
from relay.pace import Pace
from relay.passing import pass_on
from relay.replica import Replica
from relay.replicas import Group
from relay.sending import Sender, outcome_of

GENERATING = {"/v1/chat/completions": True, "/v1/completions": False}
REPLICA_PATH = "/relay/replicas/"
RESTORE_SECONDS = 5.0
WORK = ("vllm:kv_cache_usage_perc", "vllm:prompt_tokens_total", "vllm:generation_tokens_total")
"""What moves with every step of an engine, within a long prefill too; how many wait does not: clients move that."""
IDENTITY_CHARACTERS_MAX = 200


class Service:
    """Everything that one relay process does."""

    def __init__(self, config: Config, *, key: str, ledger: Ledger) -> None:
        self._config, self._key, self._ledger = config, key, ledger
        self._sender = Sender(key=key, connect_seconds=config.connect_seconds)
        self.figures = Figures()
        self._pace = Pace(longest_seconds=config.coalesce_seconds, chunks_per_second=config.coalesce_chunks_per_second)
        self._answering: set[Answering] = set()
        self.stopping = False
        self._begun = time()
        self.group = Group(
            [Replica(config=one, pool=Pool(one.address)) for one in config.replicas],
            limit=config.concurrent_requests_per_replica,
            queue_max=config.queue_max_requests,
            wait_seconds=config.first_byte_seconds,
            probe=self._probe,
            look=self._look,
            probe_seconds=config.probe_seconds,
            drained=Drained(config.drained_file),
        )

    async def answer(self, request: HttpRequest, client: ClientConnection) -> None:
        """One request of a client. Whatever goes wrong here is this relay's fault and is said so."""
        try:
            await self._route(request, client)
        except BadRequest as error:
            client.send(400, error_body(400, str(error), "BadRequestError"))
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001  the client must get an end; the log gets the reason
            log("bug", path=request.path, error=repr(error), where=_where(error))
            if client.head_sent:
                client.drop()
            else:
                client.send(500, error_body(500, "the relay failed; its log says how", "InternalServerError"))

    async def _route(self, request: HttpRequest, client: ClientConnection) -> None:
        path = request.path
        if path == "/health":
            usable = self.group.usable and not self.stopping
            client.send_json(200 if usable else 503, {"status": "ok" if usable else "no engine serves"})
        elif path == "/metrics":
            client.send(200, self.figures.text(self.group, self._ledger).encode(), kind="text/plain; version=0.0.4")
        elif path == "/relay/status":
            client.send_json(200, self.status())
        elif not self._known(request.headers):
            client.send(401, error_body(401, "the bearer key of the engines is wanted", "AuthenticationError"))
        elif path.startswith(REPLICA_PATH):
            await self._order(request, client)
        elif path in GENERATING and request.method == "POST":
            await self._generate(request, client, chat=GENERATING[path])
        elif path == "/v1/models" and request.method == "GET":
            client.send_json(200, self._models())
        elif path.startswith("/v1/") and request.method == "POST":
            await self._pass_on_counted(request, client)
        elif path.startswith("/v1/") or path in {"/tokenize", "/detokenize"}:
            await pass_on(
                request,
                client,
                identity=_identity(request.headers),
                config=self._config,
                group=self.group,
                sender=self._sender,
            )
        else:
            client.send(404, error_body(404, f"there is no {path} here", "NotFoundError"))

    def _known(self, headers: Mapping[str, str]) -> bool:
        scheme, _, key = headers.get("authorization", "").partition(" ")
        return not self._key or (scheme.lower() == "bearer" and hmac.compare_digest(key.encode(), self._key.encode()))

    async def _generate(self, request: HttpRequest, client: ClientConnection, *, chat: bool) -> None:
        try:
            asked = asked_of(json.loads(request.body), chat=chat)
        except (ValueError, RecursionError) as error:
            raise BadRequest(f"the body of the request is not JSON: {error}") from None
        answering = Answering(
            asked,
            client,
            identity=_identity(request.headers),
            config=self._config,
            group=self.group,
            sender=self._sender,
            ledger=self._ledger,
            figures=self.figures,
            pace=self._pace,
        )
        self.figures.running += 1
        self._answering.add(answering)
        outcome = "client_left"
        try:
            outcome = await answering.run()
        finally:
            self._answering.discard(answering)
            self.figures.running -= 1
            self.figures.requests[outcome] += 1

    async def _pass_on_counted(self, request: HttpRequest, client: ClientConnection) -> None:
        self.figures.running += 1
        outcome = "client_left"
        try:
            outcome = await pass_on_counted(
                request,
                client,
                identity=_identity(request.headers),
                config=self._config,
                group=self.group,
                sender=self._sender,
                ledger=self._ledger,
                figures=self.figures,
            )
        finally:
            self.figures.running -= 1
            self.figures.requests[outcome] += 1

    def _models(self) -> dict[str, Any]:
        return {
            "object": "list",
            "data": [
                {
                    "id": self._config.served_model_name,
                    "object": "model",
                    "created": int(self._begun),
                    "owned_by": "vllm",
                    "max_model_len": self._config.max_model_len,
                }
            ],
        }

    # replicas
    def status(self) -> dict[str, Any]:
        """What an operator asks for first."""
        return {
            "group": self._config.group,
            "stopping": self.stopping,
            "running_requests": self.figures.running,
            "queued_requests": self.group.queued,
            "coalesce_pause_seconds": round(self._pace.seconds(), 4),
            "replicas": [
                {
                    "id": replica.id,
                    "state": replica.state,
                    "outstanding_requests": replica.outstanding_requests,
                    "outstanding_tokens": replica.outstanding_tokens,
                    "last_fault": replica.last_fault,
                    "since": round(replica.since, 3),
                }
                for replica in self.group.replicas.values()
            ],
        }

    async def _order(self, request: HttpRequest, client: ClientConnection) -> None:
        """Drain or restore one replica."""
        name, _, order = request.path.removeprefix(REPLICA_PATH).rpartition("/")
        orders: dict[str, Callable[[Replica], bool]] = {"drain": self.group.drain, "restore": self.group.restore}
        replica = self.group.replicas.get(name.replace("%40", "@"))
        if replica is None or order not in orders:
            known = ", ".join(self.group.replicas)
            message = f"there is no {request.path}: POST {REPLICA_PATH}<id>/drain or /restore, with id one of {known}"
            client.send(404, error_body(404, message, "NotFoundError"))
            return
        if request.method != "POST":
            client.send(405, error_body(405, f"POST {request.path}", "MethodNotAllowedError"))
            return
        kept = orders[order](replica)
        log(order, replica=replica.id, kept=kept)
        deadline = monotonic() + RESTORE_SECONDS
        while order == "restore" and replica.state != "serving" and monotonic() < deadline:
            await asyncio.sleep(0.02)
        done = order == "drain" or replica.state == "serving"
        row = next(row for row in self.status()["replicas"] if row["id"] == replica.id)
        client.send_json(200 if done else 503, row | {"kept": kept})

    async def _probe(self, replica: Replica) -> str | None:
        """One token, or vector; None = it came, else what happened. An engine that answers others is only busy."""
        path, body = "/v1/completions", {"prompt": "1", "max_tokens": 1, "temperature": 0}
        if self._config.task == "embedding":
            path, body = "/v1/embeddings", {"input": "1"}
        body["model"] = self._config.served_model_name
        seconds = self._config.stall_seconds
        limit = self._config.request_seconds_max
        worked = await self._work_of(replica) if replica.outstanding_requests else None
        leg = Leg(replica, sink=None, first_byte_seconds=limit, stall_seconds=seconds, probe=True)
        begun = asyncio.get_running_loop().time()
        identity = f"relay-probe-{uuid.uuid4().hex[:16]}"
        await self._sender.start(leg, "POST", path, json.dumps(body).encode(), identity=identity)
        end = await outcome_of(leg, seconds=seconds)
        if end.hung and worked and replica.progress_at <= begun and await self._work_of(replica) not in {"", worked}:
            replica.progress_at = asyncio.get_running_loop().time()  # a long prefill: nobody hears it work
        if end.kind == "busy" or (end.hung and replica.progress_at > begun):
            return None if replica.state == "serving" else end.reason
        if end.kind != "finished":
            return end.reason or f"HTTP {end.status}"
        if self._config.task == "embedding":
            return None if b'"embedding"' in end.body else f"no vector but {end.body[:80]!r}"
        try:
            count = json.loads(end.body)["usage"]["completion_tokens"]
        except (ValueError, KeyError, TypeError):
            count = None
        return None if count == 1 else f"no token but {end.body[:80]!r}"

    async def _work_of(self, replica: Replica) -> str:
        """Counters of the engine that move while it works, as it tells them; empty if it tells nothing."""
        seconds = self._config.connect_seconds
        leg = Leg(replica, sink=None, first_byte_seconds=seconds, stall_seconds=seconds, probe=True, counts=False)
        await self._sender.start(leg, "GET", "/metrics", b"", identity="relay-look")
        end = await outcome_of(leg, seconds=seconds)
        lines = end.body.decode("utf-8", "replace").splitlines() if end.kind == "finished" else ()
        return "\n".join(line for line in lines if line.startswith(WORK))

    async def _look(self, replica: Replica) -> str | None:
        """Whether its server answers; None = it does."""
        seconds = self._config.stall_seconds
        leg = Leg(replica, sink=None, first_byte_seconds=seconds, stall_seconds=seconds, probe=True, counts=False)
        await self._sender.start(leg, "GET", "/health", b"", identity="relay-look")
        end = await outcome_of(leg, seconds=seconds)
        return None if end.kind in {"finished", "busy"} else end.reason or f"HTTP {end.status}"

    def book_progress(self) -> None:
        """Of everything that runs, to the token: it is about to be cut."""
        for answering in self._answering:
            answering.book_progress()

    async def watch(self) -> None:
        """Runs as long as the relay."""
        await self.group.watch()


def _identity(headers: Mapping[str, str]) -> str:
    given = headers.get("x-request-id", "")
    if given and len(given) <= IDENTITY_CHARACTERS_MAX and given.isascii() and given.isprintable():
        return given
    return uuid.uuid4().hex


def _where(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace is not None else ""

"""Connection: HTTP/1.1 by hand (requests with Content-Length or chunks), and the paths that vLLM has."""

import asyncio
import json
import uuid
from collections.abc import Mapping
from typing import Any

from benchmarks.fault_engine import model
from benchmarks.fault_engine.asked import Refused, asked_of
from benchmarks.fault_engine.engine import Engine, Exchange
from benchmarks.fault_engine.faults import BEFORE, REFUSALS, Fault
from benchmarks.fault_engine.replies import error_body
from benchmarks.null_replies import json_reply, plain_reply

GENERATING = {"/v1/chat/completions": True, "/v1/completions": False}
HEAD_BYTES_MAX = 64 * 1024


class Connection(asyncio.Protocol):
    """One client connection."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._received = b""
        self._exchange: Exchange | None = None
        self._close = self._frozen = False
        self.gone = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101  narrows for the type checker
        self._transport = transport
        self._engine.counters["connections"] += 1

    def connection_lost(self, _: Exception | None) -> None:
        self.gone = True
        if self._exchange is not None:
            exchange, self._exchange = self._exchange, None
            exchange.give_up()

    def data_received(self, data: bytes) -> None:
        self._received += data
        self._read()

    def write(self, data: bytes) -> None:
        """Sends, if anybody is there."""
        if not self.gone:
            self._transport.write(data)

    def done(self) -> None:
        """The answer is complete: the next request of this connection may come."""
        self._exchange = None
        if self._close:
            self._transport.close()
        elif self._received:
            asyncio.get_running_loop().call_soon(self._read)

    def drop(self) -> None:
        """Closes in mid-answer."""
        self._exchange = None
        self._transport.close()

    def _read(self) -> None:
        while self._exchange is None and not self.gone and not self._frozen:
            head, found, rest = self._received.partition(b"\r\n\r\n")
            if not found:
                if len(head) > HEAD_BYTES_MAX:
                    self._transport.abort()
                return
            first, *lines = head.decode("latin-1").split("\r\n")
            headers = {
                name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)
            }
            taken = _body_of(rest, headers)
            if taken is None:
                return
            method, _, target = first.partition(" ")
            path = target.partition(" ")[0].partition("?")[0]
            body, self._received = taken
            self._close = headers.get("connection", "").lower() == "close"
            self._serve(method, path, headers, body)

    def _serve(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> None:
        if self._engine.hung and not path.startswith("/control"):
            self._frozen = True

            def thaw() -> None:
                self._frozen = False
                if not self.gone:
                    self._serve(method, path, headers, body)
                    self._read()

            self._engine.freeze(thaw)
            return
        try:
            self._admit(path, headers)
            self._answer(method, path, headers, _json(body) if body else {})
        except Refused as error:
            self._tell(error_body(error.status, str(error), error.kind), status=error.status)
        except (ValueError, TypeError, KeyError) as error:
            self._tell(error_body(400, f"{type(error).__name__}: {error}", "BadRequestError"), status=400)

    def _admit(self, path: str, headers: Mapping[str, str]) -> None:
        key = self._engine.key
        if key and path.startswith(("/v1", "/control")) and headers.get("authorization") != f"Bearer {key}":
            raise Refused(401, "Unauthorized", "AuthenticationError")

    def _answer(self, method: str, path: str, headers: Mapping[str, str], body: dict[str, Any]) -> None:
        engine = self._engine
        if path in GENERATING and method == "POST":
            self._generate(path, headers, body)
        elif path == "/health":
            self.write(plain_reply("text/plain", b""))
            self.done()
        elif path == "/v1/models":
            card = {"id": engine.served, "object": "model", "created": 1700000000, "owned_by": "vllm"}
            limits = {"root": engine.served, "parent": None, "max_model_len": engine.character.max_model_len}
            self._tell({"object": "list", "data": [card | limits | {"permission": []}]})
        elif path == "/version":
            self._tell({"version": "0.32.0"})
        elif path == "/metrics":
            self.write(plain_reply("text/plain; version=0.0.4; charset=utf-8", self._metrics().encode()))
            self.done()
        elif path == "/tokenize" and method == "POST":
            asked = asked_of(
                {"max_tokens": 1, **body},
                chat="messages" in body,
                served=engine.served,
                max_model_len=1 << 30,
                reasoning=engine.character.reasoning_every > 0,
            )
            ids = list(asked.prompts[0])
            limit = engine.character.max_model_len
            self._tell({"count": len(ids), "max_model_len": limit, "tokens": ids, "token_strs": None})
        elif path == "/v1/embeddings" and method == "POST":
            self._embed(body)
        elif path == "/detokenize" and method == "POST":
            pieces = b"".join(map(model.piece_of, body["tokens"]))
            self._tell({"prompt": pieces.decode("utf-8", "replace")})
        elif path.startswith("/control"):
            self._control(method, path, body)
        else:
            raise Refused(404, "Not Found", "NotFoundError")

    def _embed(self, body: dict[str, Any]) -> None:
        """As a pooling engine answers; the vector of a text is its first ids."""
        fault = self._engine.fault
        if fault is not None and fault.name in {*REFUSALS, "reset"} and fault.hit():
            self._engine.counters[fault.name] += 1
            if fault.name == "reset":
                self.drop()
                return
            raise Refused(REFUSALS[fault.name][0], "this engine was told so", REFUSALS[fault.name][1])
        texts = body["input"] if isinstance(body["input"], list) else [body["input"]]
        ids = [model.encode(text) for text in texts]
        data = [
            {"object": "embedding", "index": index, "embedding": [float(one) for one in (*row, 0, 0, 0, 0)[:4]]}
            for index, row in enumerate(ids)
        ]
        count = sum(map(len, ids))
        usage = {"prompt_tokens": count, "total_tokens": count, "completion_tokens": 0, "prompt_tokens_details": None}
        self._tell({"object": "list", "model": self._engine.served, "data": data, "usage": usage})

    def _generate(self, path: str, headers: Mapping[str, str], body: dict[str, Any]) -> None:
        engine, chat = self._engine, GENERATING[path]
        fault = engine.fault
        if fault is not None and fault.name in BEFORE and fault.meant_for(body) and fault.hit():
            engine.counters[fault.name] += 1
            if fault.name == "reset":
                self._transport.abort()
                self.gone = True
            elif fault.name == "mute":
                self._frozen = True
                engine.freeze(lambda: self._thaw(path, headers, body))
            else:
                status, kind = REFUSALS[fault.name]
                raise Refused(status, f"this engine was told to answer {status}", kind)
            return
        asked = asked_of(
            body,
            chat=chat,
            served=engine.served,
            max_model_len=engine.character.max_model_len,
            reasoning=engine.character.reasoning_every > 0,
        )
        base = headers.get("x-request-id") or uuid.uuid4().hex
        self._exchange = Exchange(engine, self, asked, identity=("chatcmpl-" if chat else "cmpl-") + base)
        engine.admit(self._exchange)

    def _thaw(self, path: str, headers: Mapping[str, str], body: dict[str, Any]) -> None:
        self._frozen = False
        if not self.gone:
            self._generate(path, headers, body)

    def _control(self, method: str, path: str, body: dict[str, Any]) -> None:
        engine = self._engine
        if path == "/control" and method == "GET":
            self._tell(engine.status())
        elif path == "/control/fault" and method == "POST":
            engine.switch(Fault(**body))
            self._tell(engine.status())
        elif path == "/control/fault" and method == "DELETE":
            engine.switch(None)
            self._tell(engine.status())
        elif path == "/control/character" and method == "POST":
            engine.character = engine.character.changed(body)
            self._tell(engine.status())
        elif path == "/control/requests" and method == "GET":
            self._tell(list(engine.finished))
        else:
            raise Refused(404, "Not Found", "NotFoundError")

    def _tell(self, content: Any, *, status: int = 200) -> None:
        self.write(json_reply(content, status=status))
        self.done()

    def _metrics(self) -> str:
        engine = self._engine
        labels = f'{{engine="0",model_name="{engine.served}"}}'
        counters = engine.counters
        rows = [
            ("num_requests_running", "gauge", len(engine.running)),
            ("num_requests_waiting", "gauge", len(engine.waiting)),
            ("kv_cache_usage_perc", "gauge", engine.cache_usage()),
            ("prompt_tokens_total", "counter", counters["prompt_tokens"]),
            ("generation_tokens_total", "counter", counters["generation_tokens"]),
            ("request_success_total", "counter", counters["success"]),
        ]
        return "".join(
            f"# TYPE vllm:{name.removesuffix('_total')} {kind}\nvllm:{name}{labels} {float(value)}\n"
            for name, kind, value in rows
        )


def _json(body: bytes) -> dict[str, Any]:
    content = json.loads(body)
    if not isinstance(content, dict):
        raise Refused(400, "the request's body must be a JSON object")
    return content


def _body_of(rest: bytes, headers: Mapping[str, str]) -> tuple[bytes, bytes] | None:
    """(body, what follows it); None = not all there yet."""
    if headers.get("transfer-encoding", "").lower() == "chunked":
        body = b""
        while True:
            line, found, rest = rest.partition(b"\r\n")
            if not found:
                return None
            size = int(line.partition(b";")[0], 16)
            if len(rest) < size + 2:
                return None
            body, rest = body + rest[:size], rest[size + 2 :]
            if size == 0:
                return body, rest
    size = int(headers.get("content-length") or 0)
    return None if len(rest) < size else (rest[:size], rest[size:])

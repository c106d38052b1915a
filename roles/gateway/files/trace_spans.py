"""What receivers of traces are told of a request: one span for each deployment that was asked, in OTLP's JSON.

The names are OpenTelemetry's for generative AI, and Langfuse's own where it reads only those. Everything is listed
here one by one, so that nothing of a prompt leaves by accident: no messages, tools, stop words, error texts or metadata
of clients, unless the operator asks for content. Then it is what was asked and what was answered, each cut to a length.

The trace's id is the call id that the client reads (x-litellm-call-id) without its dashes, or the client's own where it
sent `traceparent`; its span is the parent then.
"""

from __future__ import annotations

import json
import re
import secrets
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

CLIENT_KIND, ERROR_STATUS, OK_STATUS = 3, 2, 0
TEXT_CHARACTERS_MAXIMUM = 200
OPERATIONS = {
    "acompletion": "chat",
    "aresponses": "chat",
    "anthropic_messages": "chat",
    "atext_completion": "text_completion",
    "aembedding": "embeddings",
}
_PARENT = re.compile(r"^00-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}$")
_PORTS = {"http": 80, "https": 443}
Value = str | int | float | bool | list[str]


@dataclass(frozen=True, kw_only=True)
class Call:
    """One attempt to have a request answered, taken out of what LiteLLM logs; small enough to wait in a queue."""

    trace_id: str
    span_id: str
    parent_id: str | None
    operation: str
    started_at: float
    ended_at: float
    first_token_at: float | None
    failed: bool
    attributes: tuple[tuple[str, Value], ...]
    model: str
    user: str | None
    session: str | None
    tags: tuple[str, ...]
    usage: tuple[int, int]
    cost: float
    error: str | None
    question: str | None = None
    answer: str | None = None

    @property
    def bytes_held(self) -> int:
        """About what it takes in memory."""
        return 2000 + len(self.question or "") + len(self.answer or "")


def call_of(payload: Mapping[str, Any], *, headers: Mapping[str, Any], content_bytes_max: int) -> Call:
    """From LiteLLM's standard logging payload. `content_bytes_max` is zero where nobody is sent content."""
    call_id = str(payload.get("litellm_call_id") or uuid.uuid4())
    parent = _PARENT.match(str(headers.get("traceparent") or "").strip().lower())
    failed = payload.get("status") == "failure"
    error = payload.get("error_information") or {}
    started, ended = float(payload["startTime"]), float(payload["endTime"])
    first = float(payload.get("completionStartTime") or 0.0)
    kind = str(payload.get("call_type") or "")
    model = str(payload.get("model_group") or payload.get("model") or "unknown")
    meta = payload.get("metadata") or {}
    usage = (int(payload.get("prompt_tokens") or 0), int(payload.get("completion_tokens") or 0))
    code = str(error.get("error_code") or "")
    pairs: list[tuple[str, Value | None]] = [
        ("gen_ai.operation.name", OPERATIONS.get(kind, kind)),
        ("gen_ai.provider.name", payload.get("custom_llm_provider") or None),
        ("gen_ai.request.model", model),
        ("gen_ai.response.model", None if failed else _text(payload.get("model"))),
        ("gen_ai.usage.input_tokens", usage[0]),
        ("gen_ai.usage.output_tokens", usage[1]),
        ("gen_ai.response.time_to_first_chunk", first - started if payload.get("stream") and first > started else None),
        *_server(payload.get("api_base")),
        ("error.type", _text(error.get("error_class") or code) if failed else None),
        ("http.response.status_code", int(code) if failed and code.isdigit() else None),
        ("user.id", _text(meta.get("user_api_key_user_id"))),
        ("enduser.id", _text(payload.get("end_user"))),
        ("session.id", _text(payload.get("session_id"))),
        ("gateway.call_id", call_id),
        ("gateway.key_alias", _text(meta.get("user_api_key_alias"))),
        ("gateway.team_id", _text(meta.get("user_api_key_team_id"))),
        ("gateway.team_alias", _text(meta.get("user_api_key_team_alias"))),
        ("gateway.deployment", _text(payload.get("model_id"))),
        ("gateway.streamed", bool(payload.get("stream"))),
        ("gateway.cache_hit", str(payload.get("cache_hit")) == "True"),
        ("gateway.cost", float(payload.get("response_cost") or 0.0)),
    ]
    wanted = content_bytes_max > 0
    return Call(
        trace_id=parent[1] if parent else _hex_of(call_id),
        span_id=secrets.token_hex(8),
        parent_id=parent[2] if parent else None,
        operation=OPERATIONS.get(kind, kind),
        started_at=started,
        ended_at=max(ended, started),
        first_token_at=first if payload.get("stream") and first > started else None,
        failed=failed,
        attributes=tuple((name, value) for name, value in pairs if value is not None),
        model=model,
        user=_text(payload.get("end_user") or meta.get("user_api_key_user_id") or meta.get("user_api_key_alias")),
        session=_text(payload.get("session_id")),
        tags=tuple(_tags(payload.get("request_tags"))),
        usage=usage,
        cost=float(payload.get("response_cost") or 0.0),
        error=_text(error.get("error_class") or code) if failed else None,
        question=_cut(payload.get("messages"), content_bytes_max) if wanted else None,
        answer=_cut(_messages_of(payload.get("response")), content_bytes_max)
        if wanted and not failed and kind != "aembedding"
        else None,
    )


def span_of(call: Call, *, langfuse: bool, content: bool) -> dict[str, Any]:
    """One span as OTLP's JSON has it."""
    pairs: list[tuple[str, Value | None]] = list(call.attributes)
    if call.tags:
        pairs.append(("gateway.tags", list(call.tags)))
    if content:
        pairs += [("gen_ai.input.messages", call.question), ("gen_ai.output.messages", call.answer)]
    if langfuse:
        pairs += _for_langfuse(call, content=content)
    events = []
    if call.first_token_at is not None:
        events.append({"timeUnixNano": _nanoseconds(call.first_token_at), "name": "first token"})
    return {
        "traceId": call.trace_id,
        "spanId": call.span_id,
        **({"parentSpanId": call.parent_id} if call.parent_id else {}),
        "name": f"{call.operation} {call.model}",
        "kind": CLIENT_KIND,
        "startTimeUnixNano": _nanoseconds(call.started_at),
        "endTimeUnixNano": _nanoseconds(call.ended_at),
        "attributes": [encoded(name, value) for name, value in pairs if value is not None],
        "events": events,
        "status": {"code": ERROR_STATUS, "message": call.error or ""} if call.failed else {"code": OK_STATUS},
    }


def request_of(spans: Iterable[Mapping[str, Any]], resource: Mapping[str, Value]) -> bytes:
    """The body of one ExportTraceServiceRequest."""
    scope = {"scope": {"name": "llm-gateway"}, "spans": list(spans)}
    attributes = [encoded(name, value) for name, value in resource.items()]
    content = {"resourceSpans": [{"resource": {"attributes": attributes}, "scopeSpans": [scope]}]}
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def encoded(name: str, value: Value) -> dict[str, Any]:
    """One attribute. OTLP's JSON writes integers as strings."""
    return {"key": name, "value": _value(value)}


def _for_langfuse(call: Call, *, content: bool) -> list[tuple[str, Value | None]]:
    first = call.first_token_at
    return [
        ("langfuse.observation.type", "generation"),
        ("langfuse.observation.model.name", call.model),
        ("langfuse.observation.usage_details", json.dumps({"input": call.usage[0], "output": call.usage[1]})),
        ("langfuse.observation.cost_details", json.dumps({"total": call.cost})),
        ("langfuse.observation.completion_start_time", _moment(first) if first is not None else None),
        ("langfuse.observation.level", "ERROR" if call.failed else None),
        ("langfuse.observation.status_message", call.error),
        ("langfuse.observation.input", call.question if content else None),
        ("langfuse.observation.output", call.answer if content else None),
        ("langfuse.trace.name", call.operation),
        ("langfuse.trace.tags", list(call.tags) or None),
        ("langfuse.user.id", call.user),
        ("langfuse.session.id", call.session),
    ]


def _value(value: Value) -> dict[str, Any]:
    match value:
        case bool():
            return {"boolValue": value}
        case int():
            return {"intValue": str(value)}
        case float():
            return {"doubleValue": value}
        case list():
            return {"arrayValue": {"values": [{"stringValue": one} for one in value]}}
        case _:
            return {"stringValue": value}


def _tags(given: Any) -> list[str]:
    """As somebody gave them; LiteLLM adds what the client's program calls itself."""
    return [
        str(tag)[:TEXT_CHARACTERS_MAXIMUM] for tag in given or () if tag and not str(tag).startswith("User-Agent: ")
    ]


def _server(api_base: Any) -> list[tuple[str, Value | None]]:
    """Host and port alone: an address may hold more than strangers should read."""
    try:
        parts = urlsplit(str(api_base or ""))
        return [("server.address", parts.hostname), ("server.port", parts.port or _PORTS.get(parts.scheme))]
    except ValueError:
        return []


def _messages_of(response: Any) -> Any:
    """The words of an answer, without what stands around them."""
    choices = response.get("choices") if isinstance(response, Mapping) else None
    if not isinstance(choices, list) or not all(isinstance(choice, Mapping) for choice in choices):
        return response.get("output", response) if isinstance(response, Mapping) else response
    return [choice.get("message") or choice.get("text") for choice in choices]


def _hex_of(call_id: str) -> str:
    try:
        return uuid.UUID(call_id).hex
    except ValueError:
        return uuid.uuid5(uuid.NAMESPACE_OID, call_id).hex


def _cut(value: Any, bytes_max: int) -> str | None:
    if value is None:
        return None
    text = json.dumps(value, ensure_ascii=False, default=str)
    whole = text.encode("utf-8", "replace")
    return text if len(whole) <= bytes_max else whole[:bytes_max].decode("utf-8", "ignore")


def _text(value: Any) -> str | None:
    return str(value)[:TEXT_CHARACTERS_MAXIMUM] if value not in (None, "") else None


def _nanoseconds(seconds: float) -> str:
    return str(int(seconds * 1_000_000) * 1000)


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

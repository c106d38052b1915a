"""Lines of the audit, as the gateway's hook writes them beside whose request is whose (identity_ledger.py).

- `noted`: a request that was refused or failed, and an accepted call of administration: who, whence, which way, what
  about. Never a key, never a prompt: of a key that nobody knows, only its hash.
- `prompt`: what was asked, where the operator wants that kept.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

PROMPT_CHARACTERS_MAXIMUM = 200_000
# Of a body of an administrative call: whom or what it is about. Values of keys are under other names.
_TARGETS = ("key_alias", "team_id", "team_alias", "user_id", "user_ids", "team_ids", "budget_id", "key_aliases",
            "user_email", "tag_name", "name")  # fmt: skip
_ADMINISTERS = re.compile(
    r"^/(v2/)?(key|team|user|budget|customer|end_user|organization|project|tag|model|access_group|credentials|config"
    r"|guardrails|policies|cache|jwt|invitation|sso|spend/reset|global/spend/reset)(/|$)"
)
_READS = re.compile(
    r"/(info|list|daily|activity|available|health|aliases|settings|get_[a-z_]+|check|ping)(/|$)|/v2/info$"
)
_KNOWN_REASONS = {"BudgetExceededError": "budget_exceeded"}
_HASH = re.compile(r"^[0-9a-f]{64}$")


def failure_line(data: Mapping[str, Any], error: Exception, key: Any) -> dict[str, Any]:
    """A request that the client was refused, or that failed."""
    status = status_of(error)
    refused = status is None or status < HTTPStatus.INTERNAL_SERVER_ERROR
    return {
        "kind": "noted",
        "result": "refused" if refused else "failed",
        "reason": reason_of(error),
        "status": status,
        "request": request_id_of(data),
        "call_id": _text(data.get("litellm_call_id")),
        "model": _text(data.get("model")),
        "endpoint": _text(getattr(key, "request_route", None)),
        "client": client_of(data),
        **caller_of(key),
        "end_user": _text(getattr(key, "end_user_id", None) or data.get("user")),
    }


def administration_line(route: str, method: str, body: Mapping[str, Any], key: Any, *, client: str | None,
                        on_behalf_of: str | None) -> dict[str, Any]:  # fmt: skip
    """A call that changes keys, teams, users, budgets or settings, and was let in."""
    named = [value for name in _TARGETS for value in _listed(body.get(name))]
    keys = [hash_of(value) for name in ("key", "keys", "token") for value in _listed(body.get(name))]
    return {
        "kind": "noted",
        "result": "administered",
        "reason": _text(on_behalf_of),
        "endpoint": f"{method} {route}",
        "client": client,
        "targets": [_text(one) for one in dict.fromkeys([*named, *keys])],
        **caller_of(key),
    }


def prompt_line(data: Mapping[str, Any], *, request: str) -> dict[str, Any]:
    """What was asked: messages, prompt or input, cut where it is very long."""
    asked = next((data[name] for name in ("messages", "prompt", "input") if data.get(name) is not None), None)
    text = repr(asked)
    if len(text) > PROMPT_CHARACTERS_MAXIMUM:
        asked = {"cut": text[:PROMPT_CHARACTERS_MAXIMUM], "characters": len(text)}
    return {"kind": "prompt", "request": request, "call_id": _text(data.get("litellm_call_id")), "prompt": asked}


def caller_of(key: Any) -> dict[str, Any]:
    """Who, as far as LiteLLM found out."""
    return {
        "key_hash": hash_of(getattr(key, "api_key", None) or getattr(key, "token", None)),
        "key_alias": _text(getattr(key, "key_alias", None)),
        "team_id": _text(getattr(key, "team_id", None)),
        "team_alias": _text(getattr(key, "team_alias", None)),
        "user_id": _text(getattr(key, "user_id", None)),
    }


def hash_of(value: Any) -> str | None:
    """LiteLLM's own name for a key. What somebody sent by mistake (a password, another service's key) is not kept."""
    if not isinstance(value, str) or not value:
        return None
    return value if _HASH.match(value) else hashlib.sha256(value.encode("utf-8", "replace")).hexdigest()


def client_of(data: Mapping[str, Any]) -> str | None:
    """The address that the request came from."""
    for bucket in ("metadata", "litellm_metadata"):
        inside = data.get(bucket)
        if isinstance(inside, Mapping) and inside.get("requester_ip_address"):
            return _text(inside["requester_ip_address"])
    return None


def status_of(error: Exception) -> int | None:
    """What the client reads. LiteLLM answers errors of its authentication that have no status with 401."""
    for name in ("status_code", "code"):
        value = str(getattr(error, name, None) or "")
        if value.isdigit():
            return int(value)
    return HTTPStatus.UNAUTHORIZED if type(error) is Exception else None


def reason_of(error: Exception) -> str:
    """One word or two, never the message, which may quote the request."""
    kind = getattr(error, "type", None)
    if kind is not None:
        return str(getattr(kind, "value", kind))[:100]
    if status_of(error) == HTTPStatus.TOO_MANY_REQUESTS:
        return "rate_limit_exceeded"
    return _KNOWN_REASONS.get(type(error).__name__, type(error).__name__)


def note_administration(note: Callable[[Mapping[str, Any]], None]) -> None:
    """From now on every call of administration that LiteLLM lets in is noted, before it is carried out."""
    from litellm.proxy.auth import user_api_key_auth as module  # noqa: PLC0415 - only the gateway has it

    authenticate = module.user_api_key_auth_builder

    @functools.wraps(authenticate)
    async def noted(request: Any, *given: Any, **named: Any) -> Any:
        key = await authenticate(request, *given, **named)
        route = str(request.scope.get("path") or "")
        if request.method not in ("GET", "HEAD", "OPTIONS") and is_administration(route):
            body = named.get("request_data")
            client = request.client.host if request.client else None
            behalf = request.headers.get("litellm-changed-by")
            about = body if isinstance(body, Mapping) else {}
            note(administration_line(route, request.method, about, key, client=client, on_behalf_of=behalf))
        return key

    module.user_api_key_auth_builder = noted


def is_administration(route: str) -> bool:
    """Whether a path that is posted to changes something of the gateway's own."""
    return _ADMINISTERS.match(route) is not None and _READS.search(route) is None


def request_id_of(data: Mapping[str, Any]) -> str | None:
    """What token_window.py has put into the headers for the engine."""
    headers = data.get("extra_headers")
    value = headers.get("x-request-id") if isinstance(headers, Mapping) else None
    return value if isinstance(value, str) else None


def _listed(value: Any) -> list[Any]:
    return [one for one in value if one] if isinstance(value, list) else [value] if value else []


def _text(value: Any) -> str | None:
    return None if value is None else str(value).replace("\x00", "")[:300]

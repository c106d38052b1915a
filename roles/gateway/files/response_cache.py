"""The gateway's hook that decides who uses the cache of answers, and keeps everybody's answers apart.

LiteLLM's cache knows a request by some of its parameters: not by the key that sent it, and not by parameters that only
vLLM has (`chat_template_kwargs`, `structured_outputs`). Left alone, a key would read what another one was answered, and
a request the answer to a different one. So each request that uses the cache gets a namespace of its own: whose answers
it may see (`share`), and a digest of everything that its client sent. What a client sends as a namespace counts for
nothing. Requests use the cache when their key is named in caching.yml or, where that is allowed, when they ask for it.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CONFIG_VARIABLE = "RESPONSE_CACHE_CONFIG"
# What says nothing about the answer: who asks, how it is kept, and what LiteLLM puts in.
_NOT_OF_THE_ANSWER = frozenset({"cache", "user", "metadata", "litellm_metadata", "stream_options", "caching", "ttl"})
_AGES = ("s-maxage", "s-max-age")


@dataclass(frozen=True, kw_only=True)
class Rules:
    """caching.yml, as the gateway role writes it."""

    ttl_seconds: int
    share: str
    keys: frozenset[str]
    per_request: bool

    @classmethod
    def load(cls, path: Path) -> Rules:
        content = json.loads(path.read_text(encoding="utf-8"))
        return cls(**{**content, "keys": frozenset(content["keys"])})


def control_for(data: Mapping[str, Any], key: Any, rules: Rules) -> dict[str, Any]:
    """LiteLLM's cache control of one request. Empty: the cache is passed by, neither read nor written."""
    asked = data.get("cache")
    asked = asked if isinstance(asked, Mapping) else {}
    declared = getattr(key, "key_alias", None) in rules.keys
    if asked.get("use-cache") is False or not (declared or (rules.per_request and asked.get("use-cache") is True)):
        return {}
    owner = owner_of(key, rules.share)
    if owner is None:
        return {}
    control: dict[str, Any] = {"use-cache": True, "namespace": f"answers:{owner}:{digest_of(data)}"}
    control["ttl"] = min(rules.ttl_seconds, _seconds(asked.get("ttl")) or rules.ttl_seconds)
    control |= {name: True for name in ("no-cache", "no-store") if asked.get(name) is True}
    for name in _AGES:
        if (age := _seconds(asked.get(name))) is not None:
            control |= dict.fromkeys(_AGES, age)  # LiteLLM reads one of them here and the other one there
    return control


def owner_of(key: Any, share: str) -> str | None:
    """Who shares answers with the sender: the key itself, its team, or everyone. None: nobody can be told apart."""
    key_hash = getattr(key, "api_key", None) or getattr(key, "token", None)
    if share == "everyone":
        return "everyone"
    team = getattr(key, "team_id", None)
    if share == "team" and team:
        return "team:" + hashlib.sha256(str(team).encode()).hexdigest()
    return f"key:{key_hash}" if key_hash else None


def digest_of(data: Mapping[str, Any]) -> str:
    """Everything the client sent that an answer may depend on."""
    sent = data.get("proxy_server_request")
    body = sent.get("body") if isinstance(sent, Mapping) else None
    asked = body if isinstance(body, Mapping) else data
    about = {name: value for name, value in asked.items() if name not in _NOT_OF_THE_ANSWER}
    canonical = json.dumps(about, sort_keys=True, separators=(",", ":"), ensure_ascii=True, default=repr)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _seconds(value: Any) -> float | None:
    """A number of seconds that a client sent, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
        return None
    return float(value)


@functools.cache
def _gateway_hook() -> Any:
    from litellm.integrations.custom_logger import CustomLogger  # noqa: PLC0415 - only the gateway has it

    rules = Rules.load(Path(os.environ[CONFIG_VARIABLE]))

    class KeepsAnswersApart(CustomLogger):
        async def async_pre_call_hook(
            self,
            user_api_key_dict: Any,
            cache: Any,  # noqa: ARG002  (LiteLLM passes all four by name)
            data: dict[str, Any],
            call_type: str,  # noqa: ARG002
        ) -> None:
            data["cache"] = control_for(data, user_api_key_dict, rules)
            data.pop("ttl", None)

    return KeepsAnswersApart()


def __getattr__(name: str) -> Any:
    """LiteLLM takes `response_cache.instance`; made when asked for, so that importing this module needs no gateway."""
    if name == "instance":
        return _gateway_hook()
    raise AttributeError(name)

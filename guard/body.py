"""Every text of a request and of an answer, and the same document with other texts.

One walk serves both: `texts_of` collects what it visits, `with_texts` puts something else there, in the same order.
Of a request everything is visited that its client sent, keys of objects and JSON inside of strings too, but for a few
words of structure; so a field that nobody thought of is looked at as well. Pictures, sound and token ids cannot be
looked at.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

Visit = Callable[[str, str], str]

_STRUCTURE = frozenset({"role", "type", "model"})
# Of the gateway, not of the prompt: they go to no engine, or are checked words.
SETTINGS = frozenset(
    {
        "model", "stream", "stream_options", "cache", "metadata", "litellm_metadata", "tags", "fallbacks",
        "context_window_fallbacks", "content_policy_fallbacks", "guardrails", "num_retries", "timeout", "ttl",
        "encoding_format", "service_tier", "store", "extra_headers", "headers", "api_base", "api_key", "secret_fields",
        "proxy_server_request",
    }
)  # fmt: skip
_ROLE_OF_FIELD = {"system": "system", "instructions": "system", "tools": "system", "response_format": "system"}
_UNREADABLE_TYPES = frozenset(
    {
        "image_url",
        "input_image",
        "image",
        "input_audio",
        "audio",
        "audio_url",
        "video_url",
        "video",
        "file",
        "input_file",
        "document",
    }
)
_ANSWER_TEXTS = frozenset(
    {"content", "text", "reasoning_content", "reasoning", "thinking", "refusal", "arguments", "input", "partial_json"}
)
# Below this many digits a number is no entity of any kind.
_NUMBER_MINIMUM = 10**8


class Unreadable(Exception):
    """Something that no guardrail can look at; the message names it."""


def client_fields(data: Mapping[str, Any], sent: Mapping[str, Any]) -> dict[str, Any]:
    """What of LiteLLM's request data comes from the client, or is put where a client's text stands."""
    always = ("messages", "prompt", "input", "system", "instructions", "extra_body")
    return {
        name: data[name]
        for name in data
        if (name in sent or name in always) and name not in SETTINGS and not name.startswith(("litellm_", "_litellm"))
    }


class Walk:
    """One document. `refuses_unreadable`: pictures and the like end the walk with Unreadable."""

    def __init__(self, visit: Visit, *, refuses_unreadable: bool) -> None:
        self._visit = visit
        self._refuses = refuses_unreadable

    def request(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """The fields of a request."""
        return {name: self._value(value, _ROLE_OF_FIELD.get(name, "user"), name) for name, value in fields.items()}

    def _value(self, value: Any, role: str, name: str) -> Any:
        if isinstance(value, str):
            return self._text(value, role, name)
        if isinstance(value, Mapping):
            return self._object(value, role)
        if isinstance(value, list | tuple):
            if name in ("prompt", "input") and _has_token_ids(value):
                self._cannot_read("token ids")
                return value
            return [self._value(one, role, name) for one in value]
        return value

    def _object(self, value: Mapping[str, Any], role: str) -> dict[str, Any]:
        kind = value.get("type")
        said = value.get("role")
        role = said if isinstance(said, str) else "tool" if kind == "function_call_output" else role
        unreadable = kind in _UNREADABLE_TYPES
        if unreadable:
            self._cannot_read(f"content of type {kind}")
        changed: dict[str, Any] = {}
        for key, one in value.items():
            if key in _STRUCTURE and isinstance(one, str):
                changed[key] = one
            else:
                name = key if isinstance(key, str) and key.isidentifier() else self._visit(role, str(key))
                changed[name] = one if unreadable and _is_data(one) else self._value(one, role, str(key))
        return changed

    def _text(self, text: str, role: str, name: str) -> str:
        if name == "arguments" and (inside := _json_object(text)) is not None:
            changed = self._json(inside, role)
            return text if changed == inside else json.dumps(changed, ensure_ascii=False)
        if text.startswith("data:") and ";base64," in text[:100]:
            self._cannot_read("content in base64")
            return text
        return self._visit(role, text)

    def _json(self, value: Any, role: str) -> Any:
        """JSON that stands in a string; a number may be somebody's."""
        if isinstance(value, str):
            return self._visit(role, value)
        if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= _NUMBER_MINIMUM:
            said = self._visit(role, str(value))
            return value if said == str(value) else said
        if isinstance(value, dict):
            return {self._visit(role, key): self._json(one, role) for key, one in value.items()}
        return [self._json(one, role) for one in value] if isinstance(value, list) else value

    def _cannot_read(self, what: str) -> None:
        if self._refuses:
            raise Unreadable(what)


def texts_of(fields: Mapping[str, Any], *, refuses_unreadable: bool) -> list[tuple[str, str]]:
    """Role and text of each, in the order of the walk."""
    found: list[tuple[str, str]] = []

    def note(role: str, text: str) -> str:
        found.append((role, text))
        return text

    Walk(note, refuses_unreadable=refuses_unreadable).request(fields)
    return found


def with_texts(fields: Mapping[str, Any], texts: Iterable[str]) -> dict[str, Any]:
    """The same fields, with these texts in the order of the walk."""
    following = iter(texts)
    return Walk(lambda _, __: next(following), refuses_unreadable=False).request(fields)


def answer_slots(answer: Any) -> list[tuple[Any, Any]]:
    """Where the texts of an answer stand: (object, key or attribute), of dictionaries and of LiteLLM's objects."""
    found: list[tuple[Any, Any]] = []
    waiting = [answer]
    while waiting:
        one = waiting.pop(0)
        if isinstance(one, list | tuple):
            waiting += [inner for inner in one if isinstance(inner, list | dict) or _fields_of(inner)]
            continue
        for name, value in _fields_of(one).items():
            if name == "embedding":  # nothing but numbers, and many
                continue
            if isinstance(value, str):
                found += [(one, name)] if name in _ANSWER_TEXTS else []
            elif isinstance(value, list | dict) or _fields_of(value):
                if name == "input" and isinstance(value, dict):
                    found.append((one, name))
                else:
                    waiting.append(value)
    return found


def slot_texts(slot: tuple[Any, Any]) -> str:
    """What stands there; the arguments of a tool as JSON."""
    value = _fields_of(slot[0])[slot[1]]
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def fill_slot(slot: tuple[Any, Any], text: str) -> None:
    """Puts a text there."""
    place, name = slot
    if isinstance(place, dict):
        inside = place[name]
        place[name] = text if isinstance(inside, str) else _json_object(text) or {"masked": text}
    else:
        setattr(place, name, text)


def _fields_of(value: Any) -> Mapping[str, Any]:
    if isinstance(value, dict):
        return value
    if hasattr(value, "model_dump"):
        return {**vars(value), **(getattr(value, "model_extra", None) or {})}
    return {}


def _has_token_ids(value: Sequence[Any]) -> bool:
    return any(isinstance(one, int) or (isinstance(one, list) and one and isinstance(one[0], int)) for one in value)


def _is_data(value: Any) -> bool:
    return not isinstance(value, str) or value.startswith("data:") or len(value) > 4096  # noqa: PLR2004


def _json_object(text: str) -> Any:
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict | list) else None

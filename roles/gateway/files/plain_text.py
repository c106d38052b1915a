"""Plain text of streams: lines that differ in their text alone, and what LiteLLM makes of one of them, copied.

Part of plain_chunks.py, which says what it is for. Nothing here needs LiteLLM: chunks are pydantic models with choices
and deltas, looked into without pydantic's questions.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from json.decoder import scanstring
from typing import Any

# Where LiteLLM keeps a text of a delta: beside its declared fields, or among them.
_KEPT_BESIDE = {"content": True, "reasoning": False, "reasoning_content": False}
_KEPT_AS = {"content": "content", "reasoning": "reasoning_content", "reasoning_content": "reasoning_content"}
_TEXT = re.compile(r'"delta":\{"(content|reasoning|reasoning_content)":"')
# Whatever of these is there, LiteLLM's own writer looks at.
_HEAD = ("id", "object", "created", "model")
_NOT_OF_A_CHUNK = ("provider_specific_fields", "system_fingerprint", "usage", "service_tier")
_NOT_OF_A_CHOICE = ("logprobs", "enhancements", "finish_reason")
_NOT_OF_A_DELTA = ("function_call", "tool_calls", "audio", "images", "annotations", "refusal", "reasoning_content",
                   "thinking_blocks", "provider_specific_fields")  # fmt: skip
_set = object.__setattr__


@dataclass(frozen=True, slots=True)
class Line:
    """What stands around the text of a line."""

    kind: str
    head: str
    tail: str
    text: str

    @classmethod
    def read(cls, line: str) -> Line | None:
        """A line that may be plain, or None."""
        found = _TEXT.search(line)
        if found is None:
            return None
        try:
            text, end = scanstring(line, found.end())
        except ValueError:
            return None
        return cls(found.group(1), line[: found.end()], line[end - 1 :], text)


@dataclass(frozen=True, slots=True)
class Plain:
    """One kind of line, and what LiteLLM made of it."""

    line: Line
    made: Any

    def text_of(self, line: str) -> str | None:
        """The text of a line of the same kind, or None."""
        head = self.line.head
        if not line.startswith(head):
            return None
        try:
            text, end = scanstring(line, len(head))
        except ValueError:
            return None
        return text if text and line[end - 1 :] == self.line.tail else None

    def kept(self, delta: Any) -> dict[str, Any]:
        """Where the text stands in a delta."""
        place: dict[str, Any] = delta.__pydantic_extra__ if _KEPT_BESIDE[self.line.kind] else delta.__dict__
        return place

    def text_in(self, chunk: Any) -> str | None:
        """The text of a chunk that was made here, or None if anybody changed more than that since."""
        name = _KEPT_AS[self.line.kind]
        try:
            (choice,), (own,) = chunk.__dict__["choices"], self.made.__dict__["choices"]
            text = self.kept(choice.__pydantic_extra__["delta"])[name]
            same = chunk.__pydantic_extra__ == self.made.__pydantic_extra__ and _around(choice, name) == _around(
                own, name
            )
        except (AttributeError, KeyError, TypeError, ValueError):
            return None
        return text if same and isinstance(text, str) else None

    def with_text(self, text: str, *, like: Any = None) -> Any:
        """A chunk of its own; of the time of another one, or of now."""
        chunk, choice, delta = _three(like or self.made)
        self.kept(delta)[_KEPT_AS[self.line.kind]] = text
        choice.__pydantic_extra__["delta"] = delta
        chunk.__dict__["choices"] = [choice]
        hidden = chunk.__pydantic_private__
        if like is None:
            hidden["_hidden_params"] = {**hidden["_hidden_params"], "created_at": time.time()}
        return chunk


def learned(line: Line, result: Any) -> Plain | None:
    """What later lines of this kind are copied from. None: there is more about this one than its text."""
    choices = getattr(result, "choices", None)
    if not line.text or not choices or len(choices) != 1 or result.__pydantic_private__ is None:
        return None
    try:
        chunk, choice, delta = _three(result)
        beside = delta.__pydantic_extra__
        kept = beside if _KEPT_BESIDE[line.kind] else delta.__dict__
        if kept[_KEPT_AS[line.kind]] != line.text or beside["role"] is not None:
            return None
    except (AttributeError, KeyError, TypeError):
        return None
    choice.__pydantic_extra__["delta"] = delta
    chunk.__dict__["choices"] = [choice]
    if not isinstance(chunk.__pydantic_private__.get("_hidden_params"), dict):
        return None
    around = [*_values(chunk, without="choices"), *_values(choice, without="delta"), *_values(delta)]
    if choice.__pydantic_extra__.get("finish_reason") is not None or not all(map(_is_scalar, around)):
        return None
    return Plain(line, chunk)


def _three(chunk: Any) -> tuple[Any, Any, Any]:
    """A chunk, its choice and the choice's delta, each copied."""
    choice = chunk.__dict__["choices"][0]
    return _copied(chunk), _copied(choice), _copied(choice.__pydantic_extra__["delta"])


def _copied(model: Any) -> Any:
    """What pydantic's own copy does, less its questions."""
    made = type(model).__new__(type(model))
    extra, private = model.__pydantic_extra__, model.__pydantic_private__
    _set(made, "__dict__", model.__dict__.copy())
    _set(made, "__pydantic_extra__", extra.copy() if extra is not None else None)
    _set(made, "__pydantic_fields_set__", model.__pydantic_fields_set__.copy())
    _set(made, "__pydantic_private__", private.copy() if private is not None else None)
    return made


def _around(choice: Any, name: str) -> list[Any]:
    """A choice less its text."""
    beside = choice.__pydantic_extra__
    delta = beside["delta"]
    return [{**beside, "delta": None}, {**delta.__pydantic_extra__, **delta.__dict__, name: None}]


def _values(model: Any, *, without: str = "") -> list[Any]:
    fields = {**model.__dict__, **(model.__pydantic_extra__ or {})}
    return [value for name, value in fields.items() if name != without]


def _is_scalar(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float | bool)


def fold(chunks: list[Any], plain_of: Mapping[int, Plain]) -> None:
    """Joins neighbours of one kind, for what LiteLLM builds of all chunks at the end: it asks each forty things."""
    kept: list[Any] = []
    kind: Plain | None = None
    texts: list[str] = []
    for chunk in chunks:
        plain = plain_of.get(id(chunk))
        text = plain.text_in(chunk) if plain is not None else None
        if text is not None and plain is kind:
            texts.append(text)
            continue
        if kind is not None and len(texts) > 1:
            kept[-1] = kind.with_text("".join(texts), like=kept[-1])
        kept.append(chunk)
        kind, texts = (plain, [text]) if text is not None else (None, [])
    if kind is not None and len(texts) > 1:
        kept[-1] = kind.with_text("".join(texts), like=kept[-1])
    chunks[:] = kept


def written(chunk: Any, dumps: Callable[[Any], bytes]) -> bytes | None:
    """What LiteLLM writes of a chunk with nothing but a text. None: there is more, or something is missing."""
    fields, beside = chunk.__dict__, chunk.__pydantic_extra__ or {}
    choices = fields.get("choices")
    if not isinstance(choices, list) or len(choices) != 1 or choices[0].__dict__:
        return None
    choice = choices[0].__pydantic_extra__ or {}
    delta = choice.get("delta")
    said = delta.__pydantic_extra__ if delta is not None else None
    head = {name: fields.get(name) for name in _HEAD}
    plain = (
        said is not None
        and None not in head.values()
        and all(fields.get(name) is None and beside.get(name) is None for name in _NOT_OF_A_CHUNK)
        and all(choice.get(name) is None for name in _NOT_OF_A_CHOICE)
        and all(value is None for value in delta.__dict__.values())
        and all(said.get(name) is None for name in _NOT_OF_A_DELTA)
    )
    if not plain:
        return None
    text = {name: said[name] for name in ("role", "content") if said.get(name) is not None}
    return dumps({**head, "choices": [{"index": choice.get("index", 0), "delta": text}]})

"""A stream of LiteLLM's chunks, each of its texts masked as one text.

Of every choice: the answer, the reasoning, and the arguments of each tool call.
"""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from guard.stream import StreamMask

FIELDS = ("reasoning_content", "content", "text")
# The same once more, in forms of single providers: they do not leave, for nobody masks them.
COPIES = (
    "provider_specific_fields",
    "thinking_blocks",
    "reasoning_items",
    "function_call",
    "refusal",
    "audio",
    "logprobs",
)
# One text, through every guardrail in order.
MakeMasks = Callable[[], Sequence[StreamMask]]


class Texts:
    """The texts of one choice."""

    def __init__(self, make: MakeMasks) -> None:
        self._make = make
        self._masks: dict[str | int, Sequence[StreamMask]] = {}
        self._calls: dict[int, Any] = {}

    async def feed(self, name: str | int, piece: str) -> str:
        """What of this text may go out."""
        if name not in self._masks:
            self._masks[name] = self._make()
        for mask in self._masks[name]:
            piece = await mask.feed(piece)
        return piece

    async def finish(self, name: str | int) -> str:
        """What was held back of it."""
        rest = ""
        for mask in self._masks.pop(name, ()):
            rest = (await mask.feed(rest) if rest else "") + await mask.finish()
        return rest

    @property
    def open(self) -> tuple[str | int, ...]:
        return tuple(self._masks)

    async def pass_on(self, choice: Any, *, ends: bool) -> bool:
        """Masks what stands in one choice of a chunk, in place; whether anything is left to send."""
        place = getattr(choice, "delta", None) or choice
        _without_copies(choice, place)
        came: set[str | int] = set()
        told: dict[str, str] = {}
        for name in FIELDS:
            piece = getattr(place, name, None)
            if isinstance(piece, str) and piece:
                told[name] = await self.feed(name, piece)
                came.add(name)
        calls = list(getattr(place, "tool_calls", None) or ())
        for call in calls:
            self._calls[call.index] = call
            came.add(call.index)
            if call.function is not None and call.function.arguments:
                call.function.arguments = await self.feed(call.index, call.function.arguments)
        for key in self.open:
            if ends or (came and key not in came):
                rest = await self.finish(key)
                if isinstance(key, str):
                    told[key] = told.get(key, "") + rest
                elif rest:
                    calls.append(_more_arguments(self._calls[key], rest))
        for name, text in told.items():
            setattr(place, name, text)
        if len(calls) > len(getattr(place, "tool_calls", None) or ()):
            place.tool_calls = calls
        return ends or bool(calls) or any(told.values()) or bool(getattr(place, "role", None)) or not told


async def masked_chunks(chunks: AsyncIterator[Any], make: MakeMasks) -> AsyncIterator[Any]:
    """The chunks, changed in place; those that have nothing to say any more are left out."""
    texts: dict[int, Texts] = {}
    last: Any = None
    async for chunk in chunks:
        choices = getattr(chunk, "choices", None)
        if not choices:
            yield chunk
            continue
        speaks = [
            await texts.setdefault(choice.index, Texts(make)).pass_on(choice, ends=choice.finish_reason is not None)
            for choice in choices
        ]
        last = chunk
        if any(speaks) or getattr(chunk, "usage", None) is not None:
            yield chunk
    for index, rest in texts.items():
        for name in rest.open:  # the stream ended without saying so
            text = await rest.finish(name)
            if text and isinstance(name, str):
                yield _last_words(last, index, name, text)


def _without_copies(*places: Any) -> None:
    for place in places:
        for name in COPIES:
            if getattr(place, name, None):
                setattr(place, name, None)


def _more_arguments(call: Any, rest: str) -> Any:
    more = copy.deepcopy(call)
    more.function.arguments = rest
    more.function.name = None
    more.id = None
    return more


def _last_words(chunk: Any, index: int, name: str, text: str) -> Any:
    said = copy.deepcopy(chunk)
    said.choices = said.choices[:1]
    said.choices[0].index = index
    place = getattr(said.choices[0], "delta", None) or said.choices[0]
    for field in FIELDS:
        if getattr(place, field, None):
            setattr(place, field, "")
    setattr(place, name, text)
    return said

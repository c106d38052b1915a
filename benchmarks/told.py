"""Told: all that an answer says, from whichever endpoint, in pieces or whole, so that two of them can be compared.

Pieces of several choices come in any order. Ids of tool calls are chance: what counts is that each call has one.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

TEXTS = ("content", "reasoning", "reasoning_content")


def text_of(events: Sequence[Any]) -> str:
    """One text as it is; several, line by line, behind their choice and kind."""
    said: dict[tuple[int, str], str] = defaultdict(str)
    identities: dict[tuple[int, str], set[str]] = defaultdict(set)
    for index, part in _parts(events):
        for kind in TEXTS:
            said[index, kind] += part.get(kind) or ""
        for position, call in enumerate(part.get("tool_calls") or ()):
            number, function = call.get("index", position), call.get("function") or {}
            said[index, f"name of call {number}"] += function.get("name") or ""
            said[index, f"call {number}"] += function.get("arguments") or ""
            identities[index, f"ids of call {number}"] |= {call["id"]} if call.get("id") else set()
    found = {key: text for key, text in said.items() if text}
    found |= {key: str(len(ids)) for key, ids in identities.items()}
    if len(found) == 1:
        return next(iter(found.values()))
    return "\n".join(f"{index} {kind}: {text}" for (index, kind), text in sorted(found.items()))


def ends_of(events: Sequence[Any]) -> list[tuple[int, str, Any]]:
    """(choice, finish reason, stop reason) of each choice that ended."""
    choices = [choice for event in events for choice in event.get("choices", ()) if choice.get("finish_reason")]
    return sorted((one.get("index", 0), one["finish_reason"], one.get("stop_reason")) for one in choices)


def _parts(events: Sequence[Any]) -> Iterator[tuple[int, dict[str, Any]]]:
    for event in events:
        for choice in event.get("choices", ()):
            part = choice.get("delta") or choice.get("message") or {"content": choice.get("text")}
            yield choice.get("index", 0), part

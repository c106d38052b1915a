"""Chunk shape: what never changes between the chunks of one leg, learned from the first, so that the rest need no JSON.

A chunk of generated text is  head + text + middle + ids + end,  where only text and ids vary. Quotes inside a JSON
string are escaped, so `middle` (which starts with the quote that ends the text) occurs nowhere else; a chunk that
differs anywhere outside text and ids has another shape and is read as JSON.
"""

import re
from dataclasses import dataclass, replace

IDS = b'"token_ids":['
IDS_BEHIND = b"," + IDS
PROMPT_IDS = b'"prompt_token_ids":['
CHOICES = b'"choices":['
_STRING = re.compile(rb'(?:[^"\\]|\\.)*')


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """One kind of text (content, reasoning, text) on one leg, and what the client gets instead."""

    kind: str
    thinking: bool
    head: bytes
    middle: bytes
    end: bytes
    out_head: bytes
    out_tail: bytes  # middle without the ids, end and the empty line


def identity_of(event: bytes) -> bytes:
    """What stands before the choices: id, kind, time, model."""
    return event[: event.index(CHOICES)]


def without_prompt_ids(event: bytes) -> tuple[bytes, bytes | None]:
    """(the event with null for the prompt's ids, the ids as they are written)."""
    at = event.find(PROMPT_IDS)
    if at < 0:
        return event, None
    start = at + len(PROMPT_IDS)
    close = event.index(b"]", start)
    return event[: start - 1] + b"null" + event[close + 1 :], event[start:close]


def without_ids(event: bytes) -> bytes:
    """The event with null for the answer's ids."""
    at = event.find(IDS)
    if at < 0:
        return event
    start = at + len(IDS)
    return event[: start - 1] + b"null" + event[event.index(b"]", start) + 1 :]


def count_of(ids: bytes) -> int:
    """How many ids are written there."""
    return ids.count(b",") + 1 if ids else 0


def shape_of(event: bytes, *, kind: str, identity: bytes) -> Shape | None:
    """The shape of an event that has exactly one text, and ids. `identity` is what the client gets for its head."""
    key = b'"%b":"' % kind.encode()
    choices = event.find(CHOICES)
    at = event.find(key, choices)
    if choices < 0 or at < 0:
        return None
    start = at + len(key)
    text = _STRING.match(event, start)
    if text is None:
        return None
    ids_at = event.find(IDS, text.end())
    if ids_at < 0:
        return None
    ids_start = ids_at + len(IDS)
    close = event.index(b"]", ids_start)
    middle = event[text.end() : ids_start]
    return Shape(
        kind=kind,
        thinking=kind.startswith("reasoning"),
        head=event[:start],
        middle=middle,
        end=event[close:],
        out_head=identity + event[choices:start],
        # Without the ids' key: a field that LiteLLM does not know costs it 15 us of each chunk, and says nothing.
        out_tail=_without_key(middle) + event[close + 1 :] + b"\n\n",
    )


def _without_key(middle: bytes) -> bytes:
    """What stands between the text and the ids, without the key of the ids where it can be taken away."""
    return middle.removesuffix(IDS_BEHIND) if middle.endswith(IDS_BEHIND) else middle[:-1] + b"null"


def translated(shape: Shape, *, kind: str, identity: bytes, model: Shape | None) -> Shape:
    """The shape of a completion's event that the client gets as a chat's event of that kind."""
    if model is not None:
        out_head, out_tail = model.out_head, model.out_tail
    else:
        out_head = identity + b'"choices":[{"index":0,"delta":{"%b":"' % kind.encode()
        out_tail = b'"},"logprobs":null,"finish_reason":null}]}\n\n'
    return replace(shape, kind=kind, out_head=out_head, out_tail=out_tail)

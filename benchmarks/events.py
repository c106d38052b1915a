"""Events: what one server-sent event is, decided on its bytes. No JSON is parsed while streams run.

Keys inside JSON strings cannot be mistaken for keys: their quotes are escaped there, and the patterns need bare ones.
"""

import re

OTHER, ANSWER, REASONING, ERROR, DONE = range(5)
FOREIGN = 0x80  # flag: the event carries another stream's id
KIND_MASK = 0x0F

_TOKEN = re.compile(
    # a key with a non-empty string
    rb'"(?:(content|text|arguments|refusal)|(reasoning_content|reasoning))"\s*:\s*"(?!")'
)
_ID = re.compile(rb'"id"\s*:\s*"[^"]*"')
_ERROR = re.compile(rb'data:\s*\{\s*"error"\s*:\s*[{"]|event:\s*error')


def kind_of(event: bytes) -> int:
    """OTHER, ANSWER, REASONING, ERROR or DONE."""
    if event.startswith(b"data: {"):
        if _ERROR.match(event):
            return ERROR
        found = _TOKEN.search(event)
        if found is None:
            return OTHER
        return ANSWER if found.lastindex == 1 else REASONING
    return _unusual(event.strip())


def _unusual(event: bytes) -> int:
    """The kind of an event that does not begin as vLLM's and LiteLLM's chunks do."""
    if _ERROR.match(event):
        return ERROR
    start = 0 if event.startswith(b"data:") else event.find(b"\ndata:") + 1
    payload = event[start + 5 :].lstrip() if event.startswith(b"data:", start) else b""
    if payload == b"[DONE]":
        return DONE
    return kind_of(b"data: " + payload) if payload.startswith(b"{") else OTHER


def id_of(event: bytes) -> bytes | None:
    """The bytes `"id":"..."` as they stand in the event: searched for once, then looked up in every later event."""
    found = _ID.search(event)
    return found[0] if found else None

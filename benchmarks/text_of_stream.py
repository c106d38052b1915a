"""Text of a stream: what a kept event stream says, by full JSON parsing. Used after a stream has ended, never while
it runs.
"""

import json
from collections.abc import Iterator
from typing import Any


def payloads_of(body: bytes) -> Iterator[Any]:
    """The JSON of each data event, in order; `[DONE]` and comments are skipped, broken JSON raises ValueError."""
    for event in body.replace(b"\r\n", b"\n").split(b"\n\n"):
        data = b"\n".join(line[5:].lstrip() for line in event.split(b"\n") if line.startswith(b"data:"))
        if data and data != b"[DONE]":
            yield json.loads(data)


def texts_of(body: bytes) -> Iterator[tuple[str, str]]:
    """(answer, reasoning) of each event that says something."""
    for payload in payloads_of(body):
        for choice in payload.get("choices", ()) if isinstance(payload, dict) else ():
            delta = choice.get("delta") or choice.get("message") or choice
            reasoning = delta.get("reasoning_content") or delta.get("reasoning") or ""
            answer = delta.get("content") or delta.get("text") or ""
            if answer or reasoning:
                yield answer, reasoning


def answer_of(body: bytes) -> str:
    """The whole answer, without reasoning."""
    return "".join(answer for answer, _ in texts_of(body))

"""Events: how the relay writes one of its own, and the words of vLLM's that decide, whichever way an answer goes on."""

import json
from collections.abc import Mapping
from typing import Any

UNFINISHED_REASONS = frozenset({"abort", "error"})
"""Finish reasons by which vLLM says that it gave up."""
THOUGHTS = ("reasoning", "reasoning_content")
"""What vLLM calls a thought, and what it called one before."""
DONE = b"data: [DONE]\n\n"


def encoded(chunk: Any) -> bytes:
    """One event."""
    return b"data: %b\n\n" % json.dumps(chunk, ensure_ascii=False, separators=(",", ":")).encode(
        "utf-8", "surrogatepass"
    )


def texts_of(delta: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(kind, text) of each text in one piece of an answer; ("", "") if there is none.

    An engine that is ahead of its own sending puts the end of a thought and the begin of the answer into one piece.
    """
    thought = next((name for name in THOUGHTS if isinstance(delta.get(name), str)), "")
    answer = next((name for name in ("content", "text") if isinstance(delta.get(name), str)), "")
    if answer and not delta.get(thought):
        return [(answer, delta[answer])]
    return [(kind, delta[kind]) for kind in (thought, answer) if kind] or [("", "")]

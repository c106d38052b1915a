"""Events: how the relay writes one of its own, and the words of vLLM's that decide, whichever way an answer goes on."""

import json
from typing import Any

UNFINISHED_REASONS = frozenset({"abort", "error"})
"""Finish reasons by which vLLM says that it gave up."""
TEXT_KINDS = ("content", "reasoning", "reasoning_content")
DONE = b"data: [DONE]\n\n"


def encoded(chunk: Any) -> bytes:
    """One event."""
    return b"data: %b\n\n" % json.dumps(chunk, ensure_ascii=False, separators=(",", ":")).encode(
        "utf-8", "surrogatepass"
    )

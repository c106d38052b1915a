"""Affinity: hashes of a conversation's beginnings, so that its next turn finds the engine that holds its cache."""

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any

MESSAGES_MAX = 64
BLOCK_CHARACTERS = 2048
BLOCKS_MAX = 64


def prefixes_of(body: Mapping[str, Any]) -> Sequence[int]:
    """Hashes, longest beginning first. A chat begins with its messages, a text with its blocks."""
    digest = blake2b(digest_size=8)
    found: list[int] = []
    messages, prompt = body.get("messages"), body.get("prompt")
    if isinstance(messages, list):
        for message in messages[:MESSAGES_MAX]:
            digest.update(repr(message).encode("utf-8", "replace"))
            found.append(int.from_bytes(digest.copy().digest()))
    elif isinstance(prompt, str):
        for start in range(0, min(len(prompt), BLOCKS_MAX * BLOCK_CHARACTERS) - BLOCK_CHARACTERS + 1, BLOCK_CHARACTERS):
            digest.update(prompt[start : start + BLOCK_CHARACTERS].encode("utf-8", "replace"))
            found.append(int.from_bytes(digest.copy().digest()))
    return found[::-1]

"""Patience: how long an engine's first byte may take, by what it was asked for."""

from relay.asking import Asked
from relay.config import Config

PREFILL_TOKENS_PER_SECOND = 500.0
"""A guess, slow on purpose: what a long prompt may take before its first byte is late."""
WHOLE_TOKENS_PER_SECOND = 10.0
"""The same for an answer that comes at once: no engine worth serving is slower for one client."""


def first_byte_seconds(asked: Asked, *, read_tokens: int, config: Config) -> float:
    """`read_tokens`: what the engine reads first, prompt and delivered answer, where that is known."""
    seconds = config.first_byte_seconds + (read_tokens or asked.prompt_tokens_guess) / PREFILL_TOKENS_PER_SECOND
    if asked.whole:  # its first byte is its last
        expected = min(asked.limit or config.max_model_len, config.max_model_len)
        seconds += expected * asked.choices / WHOLE_TOKENS_PER_SECOND
    return seconds

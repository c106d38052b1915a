"""Sequence: one choice of one request while it is generated, and what of its text may go out.

As in vLLM 0.32: an unfinished character is held back (its token goes out without text), as is the longest text that
could still become a stop string; what is unfinished at the end is dropped.
"""

from collections.abc import Sequence as Items
from dataclasses import dataclass
from random import Random

from benchmarks.fault_engine import model
from benchmarks.fault_engine.asked import Asked


@dataclass(frozen=True, kw_only=True)
class Step:
    """What one step added."""

    text: str
    reasoning: str
    tokens: tuple[int, ...]
    finish_reason: str | None
    stop_reason: int | str | None


class Sequence:
    """One choice."""

    __slots__ = (
        "_asked",
        "_drawn_from",
        "_eos_every",
        "_held",
        "_last",
        "_random",
        "_state",
        "_text",
        "_thinking",
        "_told",
        "finish_reason",
        "index",
        "prompt",
        "reasoning",
        "stop_reason",
        "tokens",
    )

    def __init__(
        self, asked: Asked, *, index: int, weights: int, eos_every: int, reasoning_every: int, nonce: int
    ) -> None:
        self._asked, self.index = asked, index
        self.prompt = asked.prompts[index // asked.count]
        self._state = model.digest_of(self.prompt, weights=weights)
        self._drawn_from = 0  # generated tokens only, for penalties
        self._held = model.held_back(self.prompt)
        self._last = self.prompt[-1] if self.prompt else 0
        self._eos_every = 0 if asked.ignore_eos else eos_every
        self._thinking = reasoning_every if _thinks(self.prompt) else 0
        self._random = None
        if asked.temperature > 0:
            self._random = Random(f"{nonce if asked.seed is None else asked.seed}/{index}")
        self._text, self._told, self.reasoning = "", 0, ""
        self.tokens: list[int] = []
        self.finish_reason: str | None = None
        self.stop_reason: int | str | None = None

    @property
    def text(self) -> str:
        """All text that has gone out."""
        return self._text[: self._told]

    def step(self, tokens: int) -> Step:
        """Generates that many tokens, or fewer if it ends."""
        first = len(self.tokens)
        reasoning = ""
        while len(self.tokens) - first < tokens and self.finish_reason is None:
            reasoning += self._one()
        until = len(self._text)
        if self.finish_reason is None and self._asked.stop and not self._asked.include_stop:
            until = max(self._told, until - max(len(text) for text in self._asked.stop) + 1)
        text, self._told = self._text[self._told : until], until
        self.reasoning += reasoning
        return Step(
            text=text,
            reasoning=reasoning,
            tokens=tuple(self.tokens[first:]),
            finish_reason=self.finish_reason,
            stop_reason=self.stop_reason,
        )

    def _one(self) -> str:
        """One token; returns its text if it is reasoning."""
        asked, thinking = self._asked, self._thinking
        token = self._next(enough=len(self.tokens) >= asked.min_tokens)
        self.tokens.append(token)
        self._state, self._last = model.absorb(self._state, token), token
        if asked.penalized:
            self._drawn_from = model.absorb(self._drawn_from, token)
        stopped = token == model.IM_END or token in asked.stop_token_ids
        spoken = "" if stopped else self._decoded(token)
        if token == model.END_THINK:
            self._thinking = 0
            if not asked.chat:  # no parser there: the mark is text like any other, as with Qwen3
                spoken = model.SPECIAL[model.END_THINK]
        thinking = thinking if asked.chat else 0
        if not thinking:
            self._text += spoken
        if stopped and len(self.tokens) > asked.min_tokens:
            self.finish_reason = "stop"
            self.stop_reason = None if token == model.IM_END else token
        elif asked.stop and len(self.tokens) > asked.min_tokens and self._stop_string(spoken):
            self.finish_reason = "stop"
        elif len(self.tokens) >= asked.max_tokens:
            self.finish_reason = "length"
        return spoken if thinking else ""

    def _next(self, *, enough: bool) -> int:
        noise = self._random.getrandbits(40) if self._random is not None else 0
        drawn = model.draw(self._state ^ noise ^ self._drawn_from)
        if not self._held:
            if self._thinking and drawn % self._thinking == 0:
                return model.END_THINK
            if self._eos_every and not self._thinking and enough and drawn % self._eos_every == 1:
                return model.IM_END
        return model.next_token(drawn >> 8, last=self._last, unfinished=self._held)

    def _decoded(self, token: int) -> str:
        """Text that this token completes."""
        waiting = self._held + model.piece_of(token)
        try:
            text = waiting.decode()
        except UnicodeDecodeError as error:
            if error.reason == model.UNFINISHED:
                self._held = waiting
                return ""
            text = waiting.decode("utf-8", "replace")
        self._held = b""
        return text

    def _stop_string(self, spoken: str) -> bool:
        """Whether the new text completes a stop string; cuts the text there."""
        for stop in self._asked.stop:
            at = self._text.find(stop, max(0, len(self._text) - len(spoken) - len(stop) + 1))
            if at >= 0:
                self._text = self._text[: at + (len(stop) if self._asked.include_stop else 0)]
                self.stop_reason = stop
                return True
        return False


def _thinks(prompt: Items[int]) -> bool:
    """Whether a thought has begun and not ended, in whatever request the ids come."""
    last = next((token for token in reversed(prompt) if token in {model.THINK, model.END_THINK}), None)
    return last == model.THINK

"""Places in a text: what a guardrail found there, and the text with it masked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Span:
    """`text[start:end]` is a `label`, as sure as `score` (0..1) says."""

    start: int
    end: int
    label: str
    score: float = 1.0
    instead: str | None = None
    """What stands there afterwards; None is the label in angle brackets."""

    @property
    def replacement(self) -> str:
        return f"<{self.label}>" if self.instead is None else self.instead


def without_overlaps(spans: Iterable[Span]) -> tuple[Span, ...]:
    """The surest of those that overlap, the longer of equally sure ones; in the order of the text."""
    kept: list[Span] = []
    for span in sorted(spans, key=lambda one: (-one.score, one.start - one.end, one.start)):
        if span.start < span.end and all(span.end <= other.start or other.end <= span.start for other in kept):
            kept.append(span)
    return tuple(sorted(kept, key=lambda one: one.start))


def masked(text: str, spans: Sequence[Span]) -> str:
    """The text with a replacement for each span; spans stand in order and do not overlap."""
    pieces, done = [], 0
    for span in spans:
        pieces += [text[done : span.start], span.replacement]
        done = span.end
    return "".join([*pieces, text[done:]])

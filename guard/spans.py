"""Places in a text: what a guardrail found there, and the text with it masked."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace


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
    """The surest of those that overlap, the longer of equally sure ones, and of the others what is left of them.

    In the order of the text. What was found stays found: half of a number that two finders claim is half of a number.
    """
    kept: list[Span] = []
    for span in sorted(spans, key=lambda one: (-one.score, one.start - one.end, one.start)):
        at = bisect_left(kept, span.start, key=lambda one: one.end)
        free, left = span.start, list[Span]()
        while at < len(kept) and kept[at].start < span.end:
            left += [replace(span, start=free, end=kept[at].start)] if free < kept[at].start else []
            free = kept[at].end
            at += 1
        left += [replace(span, start=free)] if free < span.end else []
        for one in left:
            insort(kept, one, key=lambda other: other.start)
    return tuple(kept)


def masked(text: str, spans: Sequence[Span]) -> str:
    """The text with a replacement for each span; spans stand in order and do not overlap."""
    pieces, done = [], 0
    for span in spans:
        pieces += [text[done : span.start], span.replacement]
        done = span.end
    return "".join([*pieces, text[done:]])

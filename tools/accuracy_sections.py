"""Accuracy sections: what a section of docs/accuracy.md is, and the Markdown that all of them share."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Section:
    """One part of the page: a line of the summary at its top, and its own text with every row."""

    title: str
    summary: str
    text: str


def markdown_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; cells hold no line breaks and no bars."""
    lines = [f"| {' | '.join(headings)} |", f"|{'|'.join(' --- ' for _ in headings)}|"]
    lines += [f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in rows]
    return "\n".join(lines)


def percent(part: int, whole: int) -> str:
    """`part` of `whole` with one decimal."""
    return f"{100 * part / whole:.1f} %" if whole else "-"

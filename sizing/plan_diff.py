"""Plan diff: what a new plan changes in the present file, as unified hunks, in time that grows with the file.

A plan of a thousand engines has a hundred thousand lines that look alike, which line-by-line matching takes minutes
over. Here the text is cut where a host or a model begins, the pieces are matched whole, and only pieces that differ
are compared line by line.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import zip_longest

CONTEXT_LINES = 3

_PIECE_STARTS = re.compile(r' {4,6}["{]')


@dataclass(frozen=True)
class _Line:
    """One line of both texts (` `), of the present one (`-`) or of the new one (`+`)."""

    mark: str
    text: str


def plan_diff(present: str, new: str, *, path: str) -> str:
    """The hunks with three lines around them; empty where nothing differs."""
    if present == new:
        return ""
    lines = list(_marked(_pieces(present), _pieces(new)))
    head = f"--- {path} (now)\n" if present else "--- /dev/null\n"
    return head + f"+++ {path} (recommended)\n" + "".join(_hunks(lines))


def _pieces(text: str) -> list[tuple[str, ...]]:
    pieces: list[list[str]] = [[]]
    for line in text.splitlines(keepends=True):
        if _PIECE_STARTS.match(line):
            pieces.append([])
        pieces[-1].append(line)
    return [tuple(piece) for piece in pieces]


def _marked(present: Sequence[tuple[str, ...]], new: Sequence[tuple[str, ...]]) -> Iterator[_Line]:
    for tag, from_present, to_present, from_new, to_new in SequenceMatcher(None, present, new, False).get_opcodes():
        if tag == "equal":
            yield from (_Line(" ", line) for piece in present[from_present:to_present] for line in piece)
            continue
        pairs = zip_longest(present[from_present:to_present], new[from_new:to_new], fillvalue=())
        for before, after in pairs:
            yield from _marked_lines(before, after)


def _marked_lines(before: Sequence[str], after: Sequence[str]) -> Iterator[_Line]:
    for tag, from_before, to_before, from_after, to_after in SequenceMatcher(None, before, after, False).get_opcodes():
        if tag == "equal":
            yield from (_Line(" ", line) for line in before[from_before:to_before])
            continue
        yield from (_Line("-", line) for line in before[from_before:to_before])
        yield from (_Line("+", line) for line in after[from_after:to_after])


def _hunks(lines: Sequence[_Line]) -> Iterator[str]:
    changed = [at for at, line in enumerate(lines) if line.mark != " "]
    hunks: list[list[int]] = []
    for at in changed:
        if hunks and at - hunks[-1][1] <= 2 * CONTEXT_LINES:
            hunks[-1][1] = at
        else:
            hunks.append([at, at])
    counted, present_at, new_at = 0, 1, 1
    for first, last in hunks:
        start, end = max(0, first - CONTEXT_LINES), min(len(lines), last + CONTEXT_LINES + 1)
        for line in lines[counted:start]:
            present_at += line.mark != "+"
            new_at += line.mark != "-"
        shown = lines[start:end]
        of_present, of_new = (sum(line.mark != mark for line in shown) for mark in "+-")
        yield f"@@ -{_span(present_at, of_present)} +{_span(new_at, of_new)} @@\n"
        yield from (line.mark + line.text for line in shown)
        counted, present_at, new_at = end, present_at + of_present, new_at + of_new


def _span(start: int, count: int) -> str:
    return f"{start if count else start - 1},{count}"

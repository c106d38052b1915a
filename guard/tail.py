"""How much of an unfinished text may go out: what could still become part of something found is held back.

A stream cuts texts anywhere. A number or an address is held from its first character until something else follows; an
account number also until the words behind it are there, for they may say what it is. Held is at most `HELD_MAXIMUM`
characters: no number and no address that is looked for is longer, and an answer must go on.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from guard.personal import CONTEXT_BEHIND, plain

HELD_MAXIMUM = 160
_NUMBER_TAIL = re.compile(r"[+(]?[0-9][0-9 ()\-.]*\Z")
_OPENED = re.compile(r"[+(]\Z")
_ADDRESS_TAIL = re.compile(r"[A-Za-z0-9._%+\-]+(?:@[A-Za-z0-9가-힣.\-]*)?\Z")
_LONG_NUMBER = re.compile(r"[+(]?[0-9][0-9 ().\-]{7,}[0-9]")
_TELLING = re.compile(r"[0-9@\uff10-\uff19\uff20]")


@dataclass(frozen=True, kw_only=True)
class Hold:
    """`numbers`: hold what may become a number or an address. `characters`: hold that many in any case."""

    numbers: bool = False
    characters: int = 0

    def cut(self, pending: str) -> int:
        """`pending[:cut]` may go out once it has been looked at."""
        cut = len(pending) - self.characters
        if self.numbers:
            cut = min(cut, _before_numbers(pending))
        return max(cut, len(pending) - HELD_MAXIMUM - self.characters, 0)

    def worth_a_look(self, text: str) -> bool:
        """Whether anything can be in it at all. Every number has a digit, every address an @."""
        return self.characters > 0 or _TELLING.search(text) is not None


def _before_numbers(pending: str) -> int:
    window_start = max(0, len(pending) - HELD_MAXIMUM - 1)
    window = plain(pending[window_start:])
    cut = len(window)
    for pattern in (_NUMBER_TAIL, _OPENED, _ADDRESS_TAIL):
        found = pattern.search(window)
        if found is not None:
            cut = min(cut, found.start())
    for found in _LONG_NUMBER.finditer(window):
        if found.end() > len(window) - CONTEXT_BEHIND:
            cut = min(cut, found.start())
    return window_start + cut

"""Stop strings across legs: each engine sees only its own text, so the relay looks at the seam and holds text back.

Engines are asked to include the stop string and therefore hold nothing back. What could be the beginning of a stop
string is held here instead, as vLLM would, and survives the engine.
"""

from collections.abc import Sequence


class StopStrings:
    """The text of one answer on its way out."""

    def __init__(self, stops: Sequence[str], *, include: bool) -> None:
        self._stops, self._include = stops, include
        self._reach = max(map(len, stops)) - 1
        self._held = ""  # not yet out
        self._before, self._since = "", ""  # the end of the text before the seam, the beginning after it
        self._all_tail = ""  # the last `reach` characters of all text

    def leg_begins(self) -> None:
        """What comes next is another engine's text."""
        self._before, self._since = self._all_tail, ""

    def add(self, text: str, *, enough: bool, last: bool, stop: str | None) -> tuple[str, str | None]:
        """(text that may go out, the stop string that was completed across the seam, if any).

        `enough`: the answer is longer than min_tokens. `last`: the engine says that it is over, by `stop` if by one."""
        found = None
        if self._before and len(self._since) < self._reach:
            known = len(self._since)
            self._since += text
            found = self._across(known) if enough else None
        self._held += text
        self._all_tail = (self._all_tail + text)[-self._reach :] if self._reach else ""
        if found is not None:
            stop, excess = found
            return self._cut(stop, excess), stop
        if last:
            out, self._held = self._held, ""
            return self._without(out, stop), None
        if self._include or not self._reach:
            out, self._held = self._held, ""
        else:
            out, self._held = self._held[: -self._reach], self._held[-self._reach :]
        return out, None

    def switch(self) -> str:
        """What follows is another kind of text (an answer after a thought). Returns what was held of the last."""
        out, self._held = self._held, ""
        self._before = self._since = self._all_tail = ""
        return out

    def _without(self, text: str, stop: str | None) -> str:
        if stop is not None and not self._include and text.endswith(stop):
            return text[: -len(stop)]
        return text

    def _across(self, known: int) -> tuple[str, int] | None:
        """A stop string that begins before the seam and ends in what is new: (it, characters behind it)."""
        joined, seam = self._before + self._since, len(self._before)
        for stop in self._stops:
            at = joined.find(stop, max(0, seam + known - len(stop) + 1 if known else seam - len(stop) + 1))
            if 0 <= at < seam < at + len(stop):
                return stop, len(joined) - at - len(stop)
        return None

    def _cut(self, stop: str, excess: int) -> str:
        end = len(self._held) - excess
        out = self._held[: end if self._include else max(0, end - len(stop))]
        self._held = ""
        return out

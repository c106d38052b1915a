"""Thoughts: where raw text stops being a thought and becomes the answer, as the engine's reasoning parser would say.

Continuing legs are completions, which no parser reads. Qwen's mark is plain text; Gemma 4's is a special token, which
an engine shows only if asked to.
"""


class ThoughtEnd:
    """Looks for the mark that ends a thought, also across chunks."""

    def __init__(self, mark: str, *, special: bool) -> None:
        self._mark, self.special = mark, special
        self._held = ""  # the beginning of a mark, perhaps

    def split(self, text: str, *, last: bool) -> tuple[str, str | None]:
        """(what still belongs to the thought, what is behind its end; None = the thought goes on)."""
        mark, joined = self._mark, self._held + text
        before, found, behind = joined.partition(mark)
        if found:
            self._held = ""
            return before, self.without(behind)
        held = 0 if last else next((n for n in range(len(mark) - 1, 0, -1) if joined.endswith(mark[:n])), 0)
        self._held = joined[len(joined) - held :]
        return joined[: len(joined) - held], None

    def without(self, text: str) -> str:
        """An answer's text as vLLM's parsers give it, which drop a mark that comes once more."""
        return text.replace(self._mark, "")

"""Pace: how long text may wait to be joined, from how much the gateway is being handed at this moment.

A gateway pays for every chunk (LiteLLM 0.2 to 0.4 ms of a core). `n` answers of which none leaves more often than every
`p` seconds are at most `n / p` chunks a second, so  p = n / chunks_per_second  keeps them below that, and p is never
longer than `longest_seconds`. Few answers are not touched: at 500 chunks a second ten of them may each have a chunk
every 20 ms. The pause follows from a count, not from a measurement, so it cannot swing.
"""


class Pace:
    """Of one relay."""

    def __init__(self, *, longest_seconds: float, chunks_per_second: float) -> None:
        self._longest_seconds, self._chunks_per_second = longest_seconds, chunks_per_second
        self.streams_count = 0
        """Answers whose first byte has left and whose last has not."""

    def seconds(self) -> float:
        """The pause that a piece of text may wait now. 0 chunks a second: always the longest."""
        if not self._chunks_per_second:
            return self._longest_seconds
        return min(self._longest_seconds, self.streams_count / self._chunks_per_second)

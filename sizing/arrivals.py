"""Arrivals: when requests come and how long they are. Same seed, same requests.

open      Poisson (exponential gaps) or constant gaps at a rate: nobody waits for anybody
closed    a number of people, each of whom sends, reads the whole answer, thinks, and sends again
trace     times that somebody recorded or made

Lengths are log-normal with a mean and a standard deviation as a share of it, as in `benchmarks/load.py`; a spread of 0
makes every length the mean. They are drawn from a table of equally likely quantiles, which keeps the asked mean.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from heapq import heappop, heappush
from math import exp, inf, log, sqrt
from random import Random
from typing import Literal, Protocol

QUANTILES_COUNT = 2048


@dataclass(frozen=True, kw_only=True)
class Lengths:
    """Log-normal lengths in tokens."""

    mean_tokens: int
    spread_ratio: float = 0.0
    maximum_tokens: int | None = None

    def table(self) -> tuple[int, ...]:
        """Equally likely lengths, at least 1 token each."""
        return _table(self.mean_tokens, self.spread_ratio, self.maximum_tokens)

    def quantile_tokens(self, ratio: float) -> int:
        """The length that this share of the requests does not exceed."""
        table = self.table()
        return table[min(len(table) - 1, int(ratio * len(table)))]


@cache
def _table(mean_tokens: int, spread_ratio: float, maximum_tokens: int | None) -> tuple[int, ...]:
    if spread_ratio == 0:
        return (max(1, min(mean_tokens, maximum_tokens or mean_tokens)),)
    from statistics import NormalDist  # noqa: PLC0415 - slow to import, and every verb would wait for it

    variance = log(1 + spread_ratio**2)
    normal = NormalDist(log(mean_tokens) - variance / 2, sqrt(variance))
    lengths = [exp(normal.inv_cdf((number + 0.5) / QUANTILES_COUNT)) for number in range(QUANTILES_COUNT)]
    return tuple(max(1, min(round(length), maximum_tokens or round(length) + 1)) for length in lengths)


class Source(Protocol):
    """Where requests come from. `next_seconds` is the time of the next one, infinite where none is to come yet."""

    next_seconds: float

    def take(self) -> tuple[int, int]:
        """Prompt and output tokens of the request at `next_seconds`; moves on to the following one."""

    def finished(self, now_seconds: float) -> None:
        """A request has been answered."""


class OpenSource:
    """Requests at a rate, whatever becomes of them."""

    def __init__(
        self,
        rate_per_second: float,
        prompt: Lengths,
        output: Lengths,
        *,
        gaps: Literal["poisson", "constant"] = "poisson",
        seed: int = 0,
    ) -> None:
        self._random = Random(f"{seed}/open").random  # noqa: S311 - arrivals, no secrets
        self._gap_seconds = 1 / rate_per_second
        self._poisson = gaps == "poisson"
        self._prompts, self._outputs = prompt.table(), output.table()
        self.next_seconds = 0.0
        self._step()

    def _step(self) -> None:
        gap = self._gap_seconds
        self.next_seconds += -log(1.0 - self._random()) * gap if self._poisson else gap

    def take(self) -> tuple[int, int]:
        random, prompts, outputs = self._random, self._prompts, self._outputs
        gap = self._gap_seconds
        self.next_seconds += -log(1.0 - random()) * gap if self._poisson else gap
        return prompts[int(random() * len(prompts))], outputs[int(random() * len(outputs))]

    def finished(self, now_seconds: float) -> None:
        """Nobody waits for it."""


class ClosedSource:
    """People who wait for their answer and think before they ask again (exponential with the mean that is given).

    They start spread evenly over one thinking time, so that the beginning is no stampede.
    """

    def __init__(
        self, people_count: int, think_seconds: float, prompt: Lengths, output: Lengths, *, seed: int = 0
    ) -> None:
        self._random = Random(f"{seed}/closed").random  # noqa: S311 - arrivals, no secrets
        self._think_seconds = think_seconds
        self._prompts, self._outputs = prompt.table(), output.table()
        self._due = [think_seconds * number / people_count for number in range(people_count)]
        self.next_seconds = self._due[0]

    def take(self) -> tuple[int, int]:
        heappop(self._due)
        self.next_seconds = self._due[0] if self._due else inf
        random = self._random
        return (
            self._prompts[int(random() * len(self._prompts))],
            self._outputs[int(random() * len(self._outputs))],
        )

    def finished(self, now_seconds: float) -> None:
        heappush(self._due, now_seconds - log(1.0 - self._random()) * self._think_seconds)
        self.next_seconds = self._due[0]


class TraceSource:
    """Requests at given times."""

    def __init__(self, requests: Sequence[tuple[float, int, int]]) -> None:
        self._rest: Iterator[tuple[float, int, int]] = iter(sorted(requests, key=lambda one: one[0]))
        self._coming = next(self._rest, (inf, 0, 0))
        self.next_seconds = self._coming[0]

    def take(self) -> tuple[int, int]:
        _, prompt_tokens, output_tokens = self._coming
        self._coming = next(self._rest, (inf, 0, 0))
        self.next_seconds = self._coming[0]
        return prompt_tokens, output_tokens

    def finished(self, now_seconds: float) -> None:
        """Nobody waits for it."""


def burst_of(
    people_count: int, within_seconds: float, prompt: Lengths, output: Lengths, *, seed: int = 0
) -> TraceSource:
    """Everybody asks once, at a random moment of a short time: nine o'clock."""
    random = Random(f"{seed}/burst").random  # noqa: S311 - arrivals, no secrets
    prompts, outputs = prompt.table(), output.table()
    return TraceSource(
        [
            (
                random() * within_seconds,
                prompts[int(random() * len(prompts))],
                outputs[int(random() * len(outputs))],
            )
            for _ in range(people_count)
        ]
    )

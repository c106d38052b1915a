"""Demand: what people will ask of the engines of one model, and how fast they want it. Times are those of the engine.

One of four loads: `users_count` requests always in flight; `people_count` people who each send, read, think
`think_seconds` on average and send again; `rate_per_second` requests, whatever becomes of them; a `trace` of requests
that were recorded, whose mean rate and lengths stand beside it for the coarse bounds.
"""

from dataclasses import dataclass, replace
from typing import Literal

from sizing.arrivals import ClosedSource, Lengths, OpenSource, Source, TraceSource
from sizing.errors import SizingError
from sizing.trace import Trace, hastened, thinned

Certainty = Literal["safe", "likely"]

PERCENTILES = (50, 90, 95, 99)
DEFAULT_PERCENTILE = 95
MOST_PER_SECOND = 100_000.0
MOST_PEOPLE = 1_000_000
LONGEST_RATIO = 0.999
LONGEST_THINKING_SECONDS = 86_400.0


@dataclass(frozen=True, kw_only=True)
class Objectives:
    """The slowest tolerable answer, for `percentile` of the requests; `safe`: also at the slow end of the interval."""

    ttft_ms: float | None = None
    tpot_ms: float | None = None
    percentile: int = DEFAULT_PERCENTILE
    certainty: Certainty = "safe"

    @property
    def any(self) -> bool:
        """Whether there is a time to be met."""
        return self.ttft_ms is not None or self.tpot_ms is not None

    def text(self) -> str:
        """As a person says it."""
        parts = []
        if self.ttft_ms is not None:
            parts.append(f"first token within {self.ttft_ms:g} ms")
        if self.tpot_ms is not None:
            parts.append(f"{self.tpot_ms:g} ms a token")
        return f"{' and '.join(parts)} for {self.percentile} % of the requests" if parts else "no times wished"


@dataclass(frozen=True, kw_only=True)
class Demand:
    """The load on all engines of one model together."""

    prompt: Lengths
    output: Lengths
    users_count: int | None = None
    people_count: int | None = None
    think_seconds: float | None = None
    rate_per_second: float | None = None
    trace: Trace | None = None
    prefix_hit_ratio: float = 0.0
    objectives: Objectives = Objectives()

    @classmethod
    def of_trace(cls, trace: Trace, *, prefix_hit_ratio: float, objectives: Objectives) -> "Demand":
        """The demand of recorded requests."""
        return cls(
            prompt=_lengths_of([prompt for _, prompt, _ in trace]),
            output=_lengths_of([output for _, _, output in trace]),
            rate_per_second=len(trace) / trace[-1][0],
            trace=trace,
            prefix_hit_ratio=prefix_hit_ratio,
            objectives=objectives,
        )

    @property
    def is_open(self) -> bool:
        return self.rate_per_second is not None

    @property
    def clients_count(self) -> int:
        """Who waits for answers; 0 of an open load."""
        return self.people_count or self.users_count or 0

    @property
    def pause_seconds(self) -> float:
        return self.think_seconds or 0.0

    @property
    def context_tokens(self) -> float:
        """What a request holds on average while it decodes."""
        return self.prompt.mean_tokens + self.output.mean_tokens / 2

    def times(self, factor: float) -> "Demand":
        """More or less of the same; a load of clients is whole."""
        if self.rate_per_second is not None:
            trace = None if self.trace is None else hastened(self.trace, factor)
            return replace(self, rate_per_second=self.rate_per_second * factor, trace=trace)
        if self.people_count is not None:
            return replace(self, people_count=max(1, round(self.people_count * factor)))
        return replace(self, users_count=max(1, round((self.users_count or 1) * factor)))

    def share(self, engine_count: int) -> "Demand":
        """What one of so many engines gets; clients are rounded up: the fullest engine is judged."""
        if self.rate_per_second is not None:
            trace = None if self.trace is None else thinned(self.trace, engine_count)
            return replace(self, rate_per_second=self.rate_per_second / engine_count, trace=trace)
        if self.people_count is not None:
            return replace(self, people_count=-(-self.people_count // engine_count))
        return replace(self, users_count=-(-(self.users_count or 1) // engine_count))

    def window_tokens(self, step_tokens: int) -> int:
        """A window that holds the longest of its requests but one in a thousand; of a trace, every one."""
        if self.trace is not None:
            return -(-max(prompt + output for _, prompt, output in self.trace) // step_tokens) * step_tokens
        longest = self.prompt.quantile_tokens(LONGEST_RATIO) + self.output.quantile_tokens(LONGEST_RATIO)
        if self.prompt.spread_ratio == 0 and self.output.spread_ratio == 0:
            return longest
        return -(-longest // step_tokens) * step_tokens

    @property
    def seconds(self) -> float | None:
        """How long a trace is; None of loads that go on."""
        return None if self.trace is None else self.trace[-1][0]

    def with_users(self, users_count: int) -> "Demand":
        """The same requests from so many clients that wait for nothing but their answers."""
        return replace(
            self, users_count=users_count, people_count=None, think_seconds=None, rate_per_second=None, trace=None
        )

    def within(self, window_tokens: int | None) -> "Demand":
        """No prompt longer than what the window leaves beside a usual answer, and the other way round."""
        if window_tokens is None or self.trace is not None:
            return self
        prompt, output = self.prompt.mean_tokens, self.output.mean_tokens
        room = window_tokens - prompt - output
        of_prompt = prompt + room * prompt // (prompt + output)
        return replace(
            self,
            prompt=replace(self.prompt, maximum_tokens=of_prompt),
            output=replace(self.output, maximum_tokens=window_tokens - of_prompt),
        )

    def source(self, *, seed: int = 0) -> Source:
        """Its requests."""
        if self.trace is not None:
            return TraceSource(self.trace)
        if self.rate_per_second is not None:
            return OpenSource(self.rate_per_second, self.prompt, self.output, seed=seed)
        return ClosedSource(self.clients_count, self.pause_seconds, self.prompt, self.output, seed=seed)

    def who(self) -> str:
        """Who asks, as a person says it."""
        if self.trace is not None:
            return f"{len(self.trace):,} recorded requests in {self.trace[-1][0]:,.0f} s"
        if self.rate_per_second is not None:
            return f"{self.rate_per_second:g} requests per second"
        if self.people_count is not None:
            return f"{self.people_count:,} people who think {self.pause_seconds:g} s between answers"
        return f"{self.users_count:,} requests in flight"

    def text(self) -> str:
        """Who asks what."""
        return f"{self.who()}, prompts of {self.prompt.mean_tokens:,} and answers of {self.output.mean_tokens:,} tokens"


def check_demand(demand: Demand, *, context_tokens: int | None) -> None:
    """Raises SizingError, in one line, for loads that nobody can mean."""
    _check_load(demand)
    if demand.trace is not None and context_tokens is not None:
        longest = max(prompt + output for _, prompt, output in demand.trace)
        if longest > context_tokens:
            raise SizingError(
                f"--trace holds a request of {longest} tokens, beyond the window of {context_tokens}; ask for a window "
                "of at least that"
            )
    objectives = demand.objectives
    for name, value in (("ttft-ms", objectives.ttft_ms), ("tpot-ms", objectives.tpot_ms)):
        if value is not None and not 0 < value < float("inf"):
            raise SizingError(f"--{name} is {value:g}; a time must be above 0 ms")
    if objectives.percentile not in PERCENTILES:
        raise SizingError(
            f"--percentile is {objectives.percentile}; it must be one of {', '.join(map(str, PERCENTILES))}"
        )
    if not 0 <= demand.prefix_hit_ratio < 1:
        raise SizingError(f"--prefix-hits is {demand.prefix_hit_ratio:g}; it must be at least 0 and below 1")
    for name, lengths in (("prompt", demand.prompt), ("output", demand.output)):
        if not 0 <= lengths.spread_ratio <= MOST_SPREAD:
            raise SizingError(
                f"--spread is {lengths.spread_ratio:g} ({name}s); it must lie between 0 and {MOST_SPREAD:g}"
            )
    wanted = demand.prompt.mean_tokens + demand.output.mean_tokens
    if context_tokens is not None and demand.output.mean_tokens >= context_tokens:
        raise SizingError(
            f"answers of {demand.output.mean_tokens} tokens leave no room for a prompt in a window of {context_tokens} "
            f"tokens; ask for a window of at least {wanted}"
        )
    if context_tokens is not None and wanted > context_tokens:
        raise SizingError(
            f"prompts of {demand.prompt.mean_tokens} and answers of {demand.output.mean_tokens} tokens are {wanted} "
            f"together, beyond the window of {context_tokens}; ask for a window of at least {wanted}"
        )


MOST_SPREAD = 5.0


def _lengths_of(tokens: list[int]) -> Lengths:
    """Mean and spread of recorded lengths."""
    mean = sum(tokens) / len(tokens)
    spread = (sum((one - mean) ** 2 for one in tokens) / len(tokens)) ** 0.5
    return Lengths(mean_tokens=max(1, round(mean)), spread_ratio=spread / mean, maximum_tokens=max(tokens))


def _check_load(demand: Demand) -> None:
    if demand.think_seconds is not None and demand.people_count is None:
        raise SizingError("--think-seconds belongs to --people; requests in flight and rates do not think")
    loads = [
        name
        for name, value in (
            ("--users", demand.users_count),
            ("--people", demand.people_count),
            ("--rate", demand.rate_per_second),
        )
        if value is not None
    ]
    if len(loads) != 1:
        said = f"{' and '.join(loads)} say it differently" if loads else "none is given"
        raise SizingError(f"give one of --users, --people, --rate: {said}")
    if demand.people_count is not None and demand.think_seconds is None:
        raise SizingError("--people needs --think-seconds: how long a person reads and types between two answers")
    if demand.think_seconds is not None and not 0 <= demand.think_seconds <= LONGEST_THINKING_SECONDS:
        raise SizingError(f"--think-seconds is {demand.think_seconds:g}; it must lie between 0 and a day")
    if demand.people_count is not None and not 1 <= demand.people_count <= MOST_PEOPLE:
        raise SizingError(f"--people is {demand.people_count}; it must lie between 1 and {MOST_PEOPLE:,}")
    rate = demand.rate_per_second
    if rate is not None and not 0 < rate <= MOST_PER_SECOND:
        raise SizingError(
            f"--rate is {rate:g} requests per second; it must be above 0 and at most {MOST_PER_SECOND:,.0f}"
        )

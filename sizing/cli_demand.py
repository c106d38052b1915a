"""What was said about the load on the command line, as a wish; contradictions end here, in one line."""

from dataclasses import dataclass
from pathlib import Path

import typer

from sizing.arrivals import Lengths
from sizing.cli_inputs import quantity
from sizing.demand import Certainty, Demand, Objectives, check_demand
from sizing.request import Objective, Quality
from sizing.trace import read_trace
from sizing.wish import Wish

DEFAULT_USERS_COUNT = 8
DEFAULT_SPREAD = 0.3
"""As in the workloads of benchmarks/: people do not write prompts of equal length."""

WINDOW_STEP_TOKENS = 256


@dataclass(frozen=True, kw_only=True)
class Said:
    """The options, as they came."""

    context: str | None
    users: int | None
    people: int | None
    think_seconds: float | None
    rate: float | None
    trace: Path | None
    prompt_tokens: str | None
    output_tokens: str | None
    ttft_ms: float | None
    tpot_ms: float | None
    percentile: int
    certainty: Certainty
    spread: float
    prefix_hits: float

    @property
    def about_speed(self) -> bool:
        """Whether the answer is also about times."""
        times = (self.people, self.rate, self.trace, self.think_seconds, self.ttft_ms, self.tpot_ms)
        return any(one is not None for one in times) or self.prefix_hits > 0


def wish_of(said: Said, *, objective: Objective, quality: Quality) -> Wish:
    """The wish; raises BadParameter or SizingError for what contradicts itself."""
    window_tokens = None if said.context is None else quantity(said.context)
    if window_tokens is not None and window_tokens < 1:
        raise typer.BadParameter(f"--context is {window_tokens}; it must be at least 1 token")
    if said.trace is not None:
        return _of_trace(said, said.trace, window_tokens=window_tokens, objective=objective, quality=quality)
    lengths = _lengths(said)
    if not said.about_speed:
        users = DEFAULT_USERS_COUNT if said.users is None else said.users
        if lengths is None:
            return Wish(context_tokens=window_tokens, users_count=users, objective=objective, quality=quality)
        usual = sum(lengths)
        if window_tokens is not None and window_tokens < usual:
            raise typer.BadParameter(f"--context {said.context} is shorter than prompt and answer together, {usual}")
        return Wish(
            context_tokens=window_tokens or usual,
            users_count=users,
            objective=objective,
            quality=quality,
            request_tokens=usual,
        )
    if lengths is None:
        raise typer.BadParameter("times depend on lengths: give --prompt-tokens and --output-tokens")
    return _with_demand(said, *lengths, window_tokens=window_tokens, objective=objective, quality=quality)


def _of_trace(said: Said, path: Path, *, window_tokens: int | None, objective: Objective, quality: Quality) -> Wish:
    """The wish of recorded requests, which say themselves how many and how long they are."""
    also = [
        name
        for name, value in (
            ("--users", said.users),
            ("--people", said.people),
            ("--think-seconds", said.think_seconds),
            ("--rate", said.rate),
            ("--prompt-tokens", said.prompt_tokens),
            ("--output-tokens", said.output_tokens),
        )
        if value is not None
    ]
    if also:
        raise typer.BadParameter(f"--trace says when requests come and how long they are; leave out {', '.join(also)}")
    demand = Demand.of_trace(read_trace(path), prefix_hit_ratio=said.prefix_hits, objectives=_objectives(said))
    check_demand(demand, context_tokens=window_tokens)
    return Wish(
        context_tokens=window_tokens or demand.window_tokens(WINDOW_STEP_TOKENS),
        users_count=1,
        objective=objective,
        quality=quality,
        request_tokens=demand.prompt.mean_tokens + demand.output.mean_tokens,
        demand=demand,
    )


def _objectives(said: Said) -> Objectives:
    return Objectives(ttft_ms=said.ttft_ms, tpot_ms=said.tpot_ms, percentile=said.percentile, certainty=said.certainty)


def _with_demand(
    said: Said, prompt: int, output: int, *, window_tokens: int | None, objective: Objective, quality: Quality
) -> Wish:
    nobody = said.users is None and said.people is None and said.rate is None
    demand = Demand(
        prompt=Lengths(mean_tokens=prompt, spread_ratio=said.spread),
        output=Lengths(mean_tokens=output, spread_ratio=said.spread),
        users_count=DEFAULT_USERS_COUNT if nobody and said.think_seconds is None else said.users,
        people_count=said.people,
        think_seconds=said.think_seconds,
        rate_per_second=said.rate,
        prefix_hit_ratio=said.prefix_hits,
        objectives=_objectives(said),
    )
    check_demand(demand, context_tokens=window_tokens)
    return Wish(
        context_tokens=window_tokens or demand.window_tokens(WINDOW_STEP_TOKENS),
        users_count=demand.users_count or 1,
        objective=objective,
        quality=quality,
        request_tokens=prompt + output,
        demand=demand.within(window_tokens),
    )


def _lengths(said: Said) -> tuple[int, int] | None:
    """Prompt and answer of a usual request; None where nothing was said."""
    if (said.prompt_tokens is None) != (said.output_tokens is None):
        raise typer.BadParameter("--prompt-tokens and --output-tokens belong together")
    if said.prompt_tokens is None or said.output_tokens is None:
        return None
    prompt, output = quantity(said.prompt_tokens), quantity(said.output_tokens)
    if prompt < 1 or output < 1:
        raise typer.BadParameter("--prompt-tokens and --output-tokens must each be at least 1 token")
    return prompt, output

"""Prospect: what people would see of equal engines under a demand, simulated, with the interval of the step times.

Every engine gets its share of the load (an open one is split at random, which is what the simulation of one engine with
a share of the rate shows; a router that looks at queues does better). The interval is that of the step times, carried
through the simulation: a slower engine also queues, so its times grow by more than its steps.
"""

from dataclasses import dataclass, replace
from math import inf

from sizing.bounds import alone, steady
from sizing.demand import Demand
from sizing.engine_settings import EngineConfiguration, settings_of
from sizing.estimate import Estimate
from sizing.serving import EngineLimits, Served, simulate
from sizing.speed import SpeedProvenance, StepTime
from sizing.step_seconds import steps_of
from sizing.units import ceil_div

MEASURED_REQUESTS = 1200
"""Enough for a 95th percentile within about a tenth (60 requests lie above it)."""

GIVE_UP_MARGIN = 1.5
"""The number of requests of a time is known within this much beforehand."""

KEPT_UP_RATIO = 0.95
"""An open load is served if so much of what came in the measured time was answered in it; the rest is its edges."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """Equal engines as the simulation needs them."""

    limits: EngineLimits
    times: StepTime
    engine_count: int


@dataclass(frozen=True, kw_only=True)
class Prospect:
    """Under one demand: what is likely, and the ends of the interval."""

    demand: Demand
    engine_count: int
    likely: Served
    fast: Served
    slow: Served
    provenance: SpeedProvenance

    @property
    def judged(self) -> Served:
        """The one that the objectives are asked of."""
        return self.slow if self.demand.objectives.certainty == "safe" else self.likely

    @property
    def ends(self) -> tuple[Served, Served, Served]:
        """Fast, likely, slow."""
        return self.fast, self.likely, self.slow

    @property
    def in_flight(self) -> float:
        """Over all engines."""
        return self.likely.in_flight_mean * self.engine_count


def group_of(configuration: EngineConfiguration, answer: Estimate, demand: Demand, *, engine_count: int) -> Group:
    """The engines of a configuration."""
    settings = settings_of(configuration)
    times = StepTime.of(configuration, calibration=configuration.device.calibration)
    per_token, fixed = 0.0, 0.0
    typical = demand.prompt.mean_tokens + demand.output.mean_tokens
    for group in settings.geometry.groups:
        if group.state_blocks is not None:
            fixed += group.state_blocks
        elif group.window_tokens is None:
            per_token += 1 / group.block_tokens
            fixed += 0.5
        else:
            fixed += ceil_div(min(group.window_tokens, typical), group.block_tokens) + 1
    limits = EngineLimits(
        max_num_batched_tokens=settings.max_num_batched_tokens,
        max_num_seqs=settings.max_num_seqs,
        kv_blocks=float(answer.kv_cache_gpu_blocks - 1),
        blocks_per_token=per_token,
        fixed_blocks=fixed,
        prefix_hit_ratio=demand.prefix_hit_ratio,
        runs_ahead=times.host_overlaps,
    )
    return Group(limits=limits, times=times, engine_count=engine_count)


def served_by(
    group: Group,
    demand: Demand,
    *,
    slowness_ratio: float = 1.0,
    requests: int = MEASURED_REQUESTS,
    to_the_end: bool = True,
    seed: int = 0,
) -> Served:
    """One simulation: what the fullest of the engines shows. `to_the_end` False: it may end once the objectives are
    missed for certain; its quantiles are then beyond the wish, and not those of the whole time."""
    share = demand.share(group.engine_count)
    step = steps_of(group.times, slowness_ratio=slowness_ratio)
    usual = steady(share, group.limits, step)
    first = alone(share, group.limits, step).ttft_seconds
    stay_seconds = first + share.output.mean_tokens * usual.step_seconds
    warm_up_seconds = 1.5 * stay_seconds + share.pause_seconds
    rate = share.rate_per_second or usual.requests_per_second
    seconds = warm_up_seconds + max(requests / rate, stay_seconds)
    if share.seconds is not None:
        # Recorded requests are asked once each, from an engine that was idle before; the last one needs its time too.
        warm_up_seconds, seconds = 0.0, share.seconds + stay_seconds
    objectives, first_token_ratio = demand.objectives, group.times.first_token_at(slowness_ratio)
    allowed = (1 - objectives.percentile / 100) * GIVE_UP_MARGIN * rate * (seconds - warm_up_seconds)
    served = simulate(
        group.limits,
        step,
        share.source(seed=seed),
        seconds=seconds,
        warm_up_seconds=warm_up_seconds,
        ttft_seconds=inf if objectives.ttft_ms is None else objectives.ttft_ms / 1000 / first_token_ratio,
        tpot_seconds=inf if objectives.tpot_ms is None else objectives.tpot_ms / 1000,
        give_up_count=inf if to_the_end else allowed,
    )
    return replace(served, ttft_seconds=served.ttft_seconds.times(first_token_ratio))


def prospect_of(group: Group, demand: Demand, *, requests: int = MEASURED_REQUESTS) -> Prospect:
    """Likely, fast and slow."""
    low, high = group.times.interval_ratio
    likely, fast, slow = (
        served_by(group, demand, slowness_ratio=ratio, requests=requests) for ratio in (1.0, low, high)
    )
    return Prospect(
        demand=demand,
        engine_count=group.engine_count,
        likely=likely,
        fast=fast,
        slow=slow,
        provenance=group.times.provenance,
    )


@dataclass(frozen=True, kw_only=True)
class Shortfall:
    """A bound that is broken, and how many times it would have to be wider."""

    text: str
    ratio: float


def shortfall_of(served: Served, demand: Demand) -> Shortfall | None:
    """Which bound is broken, and by how much; None where all hold."""
    objectives, at = demand.objectives, demand.objectives.percentile
    if served.refused_count:
        return Shortfall(text="a request is longer than the whole KV cache", ratio=inf)
    answered, offered = served.requests_per_second, served.offered_per_second
    if served.overloaded or (demand.is_open and answered < KEPT_UP_RATIO * offered):
        text = "the queue grows without end"
        if answered:
            text = f"on each engine {answered:.2f} of {offered:.2f} requests a second are answered, and {text}"
        return Shortfall(text=text, ratio=max(1.0, offered / answered) if answered else inf)
    for name, seen, wished_ms in (
        ("TTFT", served.ttft_seconds.at(at), objectives.ttft_ms),
        ("TPOT", served.tpot_seconds.at(at), objectives.tpot_ms),
    ):
        if wished_ms is not None and seen * 1000 > wished_ms:
            text = f"{name} of {at} % is {seen * 1000:,.0f} ms, {over_text(seen * 1000, wished_ms)}"
            return Shortfall(text=text, ratio=seen * 1000 / wished_ms)
    return None


def over_text(seen_ms: float, wished_ms: float) -> str:
    """By how much a time is too long."""
    ratio = seen_ms / wished_ms
    if ratio < 2:  # noqa: PLR2004 - beyond twice, percent says less than times
        return f"{max(ratio - 1, 0.01):.0%} over the wished {wished_ms:,g} ms"
    return f"{ratio:,.1f} times the wished {wished_ms:,g} ms"

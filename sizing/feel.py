"""Feel: what the people see of the engines that were chosen - now, with more of them, with one engine less, at nine.

All from the simulation of the same configuration; nothing is chosen here. The load is varied and the engines stay.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from sizing.arrivals import burst_of
from sizing.candidates import Candidate, rank_of
from sizing.demand import Demand
from sizing.gateway_load import GatewayLoad, Stream, Streaming, gateway_loads
from sizing.loaded import slowness_of
from sizing.prospect import Group, group_of, served_by, shortfall_of
from sizing.reasons import alternative_text
from sizing.request import Objective
from sizing.serving import simulate
from sizing.speed import SpeedProvenance
from sizing.step_seconds import steps_of
from sizing.wish import Wish

LOAD_FACTORS = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0)
OBJECTIVES: tuple[Objective, ...] = ("throughput", "latency", "context")
POINT_REQUESTS = 400
SEARCH_REQUESTS = 600
MOST_GROWTH = 16.0
SEARCH_STEPS = 6
MOST_RIVALS = 3
MOST_DOUBLINGS = 9
BURST_SECONDS = 1.0
BURST_ENDS_SECONDS = 36_000.0


@dataclass(frozen=True, kw_only=True)
class Range:
    """A figure with its interval."""

    low: float
    likely: float
    high: float


@dataclass(frozen=True, kw_only=True)
class LoadPoint:
    """One load on the same engines; the times are of the percentile that was asked for."""

    load: float
    ttft_seconds: Range
    tpot_seconds: Range
    output_tokens_per_second: Range
    meets: bool


@dataclass(frozen=True, kw_only=True)
class Rival:
    """One candidate at ever more requests in flight: seconds a token of the median, tokens per second and GPU."""

    label: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True, kw_only=True)
class Growth:
    """How many times the load is still met; `then`: what breaks next."""

    factor: float
    then: str


@dataclass(frozen=True, kw_only=True)
class Feel:
    """Of the engines of one model. `lost`: what is missed with one engine dead, None where there is only one, and
    `lost_times`: TTFT and TPOT then; `burst`: everybody asks within a second, None of a load without people."""

    demand: Demand
    candidate: Candidate
    provenance: SpeedProvenance
    ttft_seconds: Range
    tpot_seconds: Range
    e2e_seconds: Range
    median_tpot_seconds: Range
    output_tokens_per_second: Range
    requests_per_second: Range
    in_flight: Range
    saturation_per_second: Range
    points: tuple[LoadPoint, ...]
    growth: Growth
    lost: str | None
    lost_times: tuple[Range, Range] | None
    burst: Range | None
    rivals: tuple[Rival, ...] = ()
    others: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Felt:
    """All models, and the gateway before them."""

    by_model: dict[str, Feel]
    gateway: tuple[GatewayLoad, ...]


def with_rivals(felt_so_far: Felt, weighed: Mapping[str, Sequence[Candidate]]) -> Felt:
    """For the picture of throughput against latency: the taken one and the next best of the others."""
    by_model = {}
    for model, feel in felt_so_far.by_model.items():
        others = [one for one in weighed[model] if one.prospect is not None and one is not feel.candidate]
        chosen = [feel.candidate, *others][:MOST_RIVALS]
        by_model[model] = replace(feel, rivals=tuple(_rival(one, model, feel.demand) for one in chosen))
    return replace(felt_so_far, by_model=by_model)


def _rival(candidate: Candidate, model: str, demand: Demand) -> Rival:
    name = alternative_text(candidate.configuration, candidate.shape, wished_model=model)
    alone_on_it = demand.with_users(1)
    group = group_of(candidate.configuration, candidate.answer, demand, engine_count=1)
    points = []
    for doubling in range(MOST_DOUBLINGS):
        users = 2**doubling
        if users * demand.context_tokens * group.limits.blocks_per_token > group.limits.kv_blocks:
            break
        roomy = replace(group, limits=replace(group.limits, max_num_seqs=max(users, group.limits.max_num_seqs)))
        seen = served_by(roomy, replace(alone_on_it, users_count=users), requests=POINT_REQUESTS)
        points.append((seen.tpot_seconds.p50, seen.output_tokens_per_second / candidate.shape.gpu_count))
    return Rival(label=name, points=tuple(points))


def felt(taken: Mapping[str, tuple[Candidate, Sequence[Candidate]]], wish: Wish, streaming: Streaming) -> Felt:
    """For each model the candidate that was taken, and all that were weighed."""
    feels = {
        model: feel_of(candidate, others=tuple(_other_objectives(candidate, weighed, wish, model)))
        for model, (candidate, weighed) in taken.items()
    }
    return felt_from(feels, streaming)


def felt_from(feels: dict[str, Feel], streaming: Streaming) -> Felt:
    """With the gateway that all of it passes."""
    streams = [
        Stream(
            requests_per_second=feel.requests_per_second.likely,
            output_tokens=feel.demand.output.mean_tokens,
            tpot_seconds=feel.median_tpot_seconds.likely,
        )
        for feel in feels.values()
    ]
    return Felt(by_model=feels, gateway=gateway_loads(streams, streaming))


def _other_objectives(taken: Candidate, weighed: Sequence[Candidate], wish: Wish, model: str) -> Iterator[str]:
    """What the other objectives would have taken, and what that would be worth."""
    meeting = [one for one in weighed if one.meets_the_wish and one.prospect is not None]
    for objective in OBJECTIVES:
        if objective == wish.objective:
            continue
        best = min(meeting, key=lambda one: rank_of(one, replace(wish, objective=objective)), default=taken)
        if best is taken or best.prospect is None:
            yield f"objective {objective} would take the same"
            continue
        name = alternative_text(best.configuration, best.shape, wished_model=model)
        seen = best.prospect.likely
        yield (
            f"objective {objective} would take {best.engine_count} x ({name}), {best.gpu_count} GPUs instead of "
            f"{taken.gpu_count}: median E2E {seen.e2e_seconds.p50:.1f} s, "
            f"{seen.tpot_seconds.p50 * 1000:.1f} ms a token, "
            f"{best.answer.kv_cache_tokens * best.engine_count:,} tokens of KV cache"
        )


def feel_of(candidate: Candidate, *, others: Sequence[str] = ()) -> Feel:
    """Everything about a candidate that has a prospect."""
    prospect = candidate.prospect
    if prospect is None:
        raise ValueError("this candidate was not simulated")
    demand, count = prospect.demand, candidate.engine_count
    group = group_of(candidate.configuration, candidate.answer, demand, engine_count=count)
    at = demand.objectives.percentile

    def span(pick: str) -> Range:
        seen = [getattr(one, pick).at(at) for one in prospect.ends]
        return _range(*seen)

    def rate(pick: str) -> Range:
        seen = [getattr(one, pick) * count for one in (prospect.slow, prospect.likely, prospect.fast)]
        return _range(*seen)

    lost, lost_times = _one_less(group, demand)
    return Feel(
        demand=demand,
        candidate=candidate,
        provenance=prospect.provenance,
        ttft_seconds=span("ttft_seconds"),
        tpot_seconds=span("tpot_seconds"),
        e2e_seconds=span("e2e_seconds"),
        median_tpot_seconds=_range(*(one.tpot_seconds.p50 for one in prospect.ends)),
        output_tokens_per_second=rate("output_tokens_per_second"),
        requests_per_second=rate("requests_per_second"),
        in_flight=_range(*(one.in_flight_mean * count for one in prospect.ends)),
        saturation_per_second=_saturation(group, demand),
        points=tuple(_point(group, demand.times(factor)) for factor in LOAD_FACTORS),
        growth=_growth(group, demand),
        lost=lost,
        lost_times=lost_times,
        burst=_burst(group, demand),
        others=tuple(others),
    )


def _range(first: float, likely: float, last: float) -> Range:
    ordered = sorted((first, likely, last))
    return Range(low=ordered[0], likely=likely, high=ordered[2])


def _point(group: Group, demand: Demand) -> LoadPoint:
    low, high = group.times.interval_ratio
    at, count = demand.objectives.percentile, group.engine_count
    fast, likely, slow = (
        served_by(group, demand, slowness_ratio=ratio, requests=POINT_REQUESTS) for ratio in (low, 1.0, high)
    )
    judged = slow if demand.objectives.certainty == "safe" else likely
    return LoadPoint(
        load=demand.rate_per_second or float(demand.clients_count),
        ttft_seconds=_range(*(one.ttft_seconds.at(at) for one in (fast, likely, slow))),
        tpot_seconds=_range(*(one.tpot_seconds.at(at) for one in (fast, likely, slow))),
        output_tokens_per_second=_range(*(one.output_tokens_per_second * count for one in (slow, likely, fast))),
        meets=shortfall_of(judged, demand) is None,
    )


def _growth(group: Group, demand: Demand) -> Growth:
    """Bisection between what is met and what is not; with the same seed more load is never easier but for chance."""
    slowness = slowness_of(group, demand)

    def broken(factor: float, *, to_the_end: bool = False) -> str:
        more = demand.times(factor)
        seen = served_by(group, more, slowness_ratio=slowness, requests=SEARCH_REQUESTS, to_the_end=to_the_end)
        missed = shortfall_of(seen, more)
        return missed.text if missed else ""

    low, high, then = 1.0, 2.0, ""
    while high <= MOST_GROWTH:
        then = broken(high)
        if then:
            break
        low, high = high, high * 2
    if not then:
        return Growth(factor=low, then=f"nothing breaks up to {low:g} times the load")
    for _ in range(SEARCH_STEPS):
        middle = (low + high) / 2
        found = broken(middle)
        low, high, then = (low, middle, found) if found else (middle, high, then)
    return Growth(factor=low, then=broken(high, to_the_end=True) or then)


def _saturation(group: Group, demand: Demand) -> Range:
    """Requests per second with a queue that never empties: all that the engines can do."""
    crowd = demand.with_users(group.engine_count * 2 * group.limits.max_num_seqs)
    low, high = group.times.interval_ratio
    seen = [
        served_by(group, crowd, slowness_ratio=ratio, requests=SEARCH_REQUESTS).requests_per_second * group.engine_count
        for ratio in (high, 1.0, low)
    ]
    return _range(*seen)


def _one_less(group: Group, demand: Demand) -> tuple[str | None, tuple[Range, Range] | None]:
    """What is missed with an engine less, and TTFT and TPOT then; None where there is only one engine."""
    if group.engine_count == 1:
        return None, None
    fewer = replace(group, engine_count=group.engine_count - 1)
    low, high = group.times.interval_ratio
    ends = [served_by(fewer, demand, slowness_ratio=ratio, requests=SEARCH_REQUESTS) for ratio in (low, 1.0, high)]
    missed = shortfall_of(ends[-1] if demand.objectives.certainty == "safe" else ends[1], demand)
    at = demand.objectives.percentile
    times = (
        _range(*(one.ttft_seconds.at(at) for one in ends)),
        _range(*(one.tpot_seconds.at(at) for one in ends)),
    )
    return missed.text if missed else "", times


def _burst(group: Group, demand: Demand) -> Range | None:
    """TTFT of the percentile if everybody asks within the same second, the engines being idle before."""
    if demand.is_open:
        return None
    share = demand.share(group.engine_count)
    low, high = group.times.interval_ratio
    seen = [
        simulate(
            group.limits,
            steps_of(group.times, slowness_ratio=ratio),
            burst_of(share.clients_count, BURST_SECONDS, share.prompt, share.output),
            seconds=BURST_ENDS_SECONDS,
        ).ttft_seconds.at(demand.objectives.percentile)
        * group.times.first_token_at(ratio)
        for ratio in (low, 1.0, high)
    ]
    return _range(*seen)

"""Cost: what a token costs on the operator's own hardware, for each model.

    month of a model = months of the hosts, shared by the devices that its engines hold (idle ones are paid by all)
    price            = month of a model / what its engines serve in a month of their stated load x utilization

A prompt token and a token of the answer differ in what they cost the engine: seconds of a step with nothing but the
running requests in it, over these (answer), and what a prompt's chunks add to such steps, over its tokens (prompt).
The two prices stand in this proportion and bring in the month exactly, if the engines serve what was stated.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import ROUND_UP, Decimal

from sizing.candidates import Candidate
from sizing.costs import Costs
from sizing.demand import Demand
from sizing.monthly import SECONDS_A_MONTH, Month, sum_of
from sizing.prospect import Group, group_of, prospect_of
from sizing.served import EngineLimits, Served, StepSeconds
from sizing.speed import SpeedProvenance
from sizing.step_seconds import steps_of

WRITTEN_DIGITS = 3
"""A price that is written into a plan has so many digits, rounded up: short enough to be read, and never a loss."""

SMALLEST_PRICE = Decimal("1e-15")
"""The bill keeps so many decimals (appliance.usage.cost)."""


@dataclass(frozen=True, kw_only=True)
class CostedEngine:
    """One engine: which devices of which machine it holds, and its share of the load (None: fewer clients than engines,
    and this one has none)."""

    model: str
    machine: str
    device_count: int
    candidate: Candidate
    share: Demand | None


@dataclass(frozen=True, kw_only=True)
class Price:
    """Per token, with the interval of the step times."""

    low: float
    likely: float
    high: float

    @property
    def written(self) -> float:
        """As it stands in a plan."""
        exact = Decimal(repr(self.likely))
        step = max(Decimal(1).scaleb(exact.adjusted() - WRITTEN_DIGITS + 1), SMALLEST_PRICE)
        return float((exact / step).to_integral_value(rounding=ROUND_UP) * step)


@dataclass(frozen=True, kw_only=True)
class ModelCost:
    """What one model costs and serves in a month, and so what its tokens cost."""

    model: str
    engine_count: int
    device_count: int
    month: Month
    share_ratio: float
    demand: Demand
    utilization_ratio: float
    prompt_seconds: float
    output_seconds: float
    prompt_tokens_per_month: float
    output_tokens_per_month: float
    input_price: Price
    output_price: Price
    provenance: SpeedProvenance


@dataclass(frozen=True, kw_only=True)
class Pace:
    """What one engine serves, and what a token of either kind takes of its time."""

    requests_per_second: float
    prompt_seconds: float
    output_seconds: float


def model_costs(engines: Sequence[CostedEngine], months: Mapping[str, Month], costs: Costs) -> tuple[ModelCost, ...]:
    """Every model, in the order of its first engine. Machines without an engine are paid by all."""
    used = {engine.machine: 0 for engine in engines}
    for engine in engines:
        used[engine.machine] += engine.device_count
    own = [months[engine.machine].times(engine.device_count / used[engine.machine]) for engine in engines]
    everything = sum_of(months.values()).total
    spread_ratio = everything / sum_of(own).total
    by_model: dict[str, list[tuple[CostedEngine, Month]]] = {}
    for engine, month in zip(engines, own, strict=True):
        by_model.setdefault(engine.model, []).append((engine, month.times(spread_ratio)))
    paces: dict[tuple[int, Demand], tuple[tuple[Pace, Pace, Pace], SpeedProvenance]] = {}
    found = []
    for model, mine in by_model.items():
        for engine, _ in mine:
            if engine.share is not None and (id(engine.candidate), engine.share) not in paces:
                paces[id(engine.candidate), engine.share] = _paces(engine.candidate, engine.share)
        if any(engine.share is not None for engine, _ in mine):
            found.append(_model_cost(model, mine, paces, everything=everything, utilization=costs.utilization_ratio))
    return tuple(found)


def token_prices(month: float, paces: Sequence[Pace], demand: Demand, *, utilization: float) -> tuple[float, float]:
    """(prompt, answer) per token, so that what the engines serve at their load for that share of the month brings in
    the month."""
    prompt, output = mean_tokens(demand)
    rate = sum(one.requests_per_second for one in paces)
    prompt_seconds = sum(one.requests_per_second * one.prompt_seconds for one in paces) / rate
    output_seconds = sum(one.requests_per_second * one.output_seconds for one in paces) / rate
    each_second = month / (SECONDS_A_MONTH * utilization * rate * (prompt * prompt_seconds + output * output_seconds))
    return each_second * prompt_seconds, each_second * output_seconds


def engine_seconds(demand: Demand, limits: EngineLimits, step: StepSeconds, *, decoding: int) -> tuple[float, float]:
    """Seconds of the engine for a billed prompt token and for a token of the answer, `decoding` requests running."""
    context = int(decoding * demand.context_tokens)
    alone = step(decoding, context, 0, 0.0)
    prompt = demand.prompt.mean_tokens
    rest = max(1, round(prompt * (1 - limits.prefix_hit_ratio)))
    added = 0.0
    while rest > 0:
        chunk = min(rest, max(1, limits.max_num_batched_tokens - decoding))
        added += step(decoding, context, chunk, chunk * (prompt - rest + (chunk + 1) / 2)) - alone
        rest -= chunk
    return max(added, 0.0) / prompt, alone / decoding


def shares_of(demand: Demand, engine_count: int) -> tuple[Demand | None, ...]:
    """What each engine gets; clients are whole, and no more of them than there are."""
    if demand.rate_per_second is not None:
        return (demand.share(engine_count),) * engine_count
    each, more = divmod(demand.clients_count, engine_count)
    counts = [each + (number < more) for number in range(engine_count)]
    if demand.people_count is not None:
        return tuple(replace(demand, people_count=count) if count else None for count in counts)
    return tuple(replace(demand, users_count=count) if count else None for count in counts)


def mean_tokens(demand: Demand) -> tuple[float, float]:
    """Of prompt and answer as they come, which a window may have cut."""
    prompts, outputs = demand.prompt.table(), demand.output.table()
    return sum(prompts) / len(prompts), sum(outputs) / len(outputs)


def _model_cost(
    model: str,
    mine: Sequence[tuple[CostedEngine, Month]],
    paces: Mapping[tuple[int, Demand], tuple[tuple[Pace, Pace, Pace], SpeedProvenance]],
    *,
    everything: float,
    utilization: float,
) -> ModelCost:
    shares = [(engine, engine.share) for engine, _ in mine if engine.share is not None]
    seen = [paces[id(engine.candidate), share] for engine, share in shares]
    demand, month = shares[0][1], sum_of(own for _, own in mine)
    likely, fast, slow = (
        token_prices(month.total, [three[number] for three, _ in seen], demand, utilization=utilization)
        for number in range(3)
    )
    rate = sum(three[0].requests_per_second for three, _ in seen)
    requests = rate * SECONDS_A_MONTH * utilization
    prompt, output = mean_tokens(demand)
    return ModelCost(
        model=model,
        engine_count=len(mine),
        device_count=sum(engine.device_count for engine, _ in mine),
        month=month,
        share_ratio=month.total / everything,
        demand=demand,
        utilization_ratio=utilization,
        prompt_seconds=sum(three[0].requests_per_second * three[0].prompt_seconds for three, _ in seen) / rate,
        output_seconds=sum(three[0].requests_per_second * three[0].output_seconds for three, _ in seen) / rate,
        prompt_tokens_per_month=requests * prompt,
        output_tokens_per_month=requests * output,
        input_price=_price(likely[0], fast[0], slow[0]),
        output_price=_price(likely[1], fast[1], slow[1]),
        provenance="extrapolated" if any(how == "extrapolated" for _, how in seen) else "calibrated",
    )


def _price(likely: float, fast: float, slow: float) -> Price:
    return Price(low=min(likely, fast, slow), likely=likely, high=max(likely, fast, slow))


def _paces(candidate: Candidate, share: Demand) -> tuple[tuple[Pace, Pace, Pace], SpeedProvenance]:
    """Likely, fast and slow."""
    group = group_of(candidate.configuration, candidate.answer, share, engine_count=1)
    known = candidate.prospect  # what the placement was judged by, where that was this share
    prospect = known if known is not None and known.demand == share else prospect_of(group, share)
    low, high = group.times.interval_ratio
    likely, fast, slow = (
        _pace(served, share, group, slowness_ratio=ratio)
        for served, ratio in ((prospect.likely, 1.0), (prospect.fast, low), (prospect.slow, high))
    )
    return (likely, fast, slow), prospect.provenance


def _pace(served: Served, share: Demand, group: Group, *, slowness_ratio: float) -> Pace:
    running = served.requests_per_second * share.output.mean_tokens * served.tpot_seconds.p50
    decoding = min(max(1, round(running)), group.limits.max_num_seqs)
    step = steps_of(group.times, slowness_ratio=slowness_ratio)
    prompt_seconds, output_seconds = engine_seconds(share, group.limits, step, decoding=decoding)
    return Pace(
        requests_per_second=served.requests_per_second, prompt_seconds=prompt_seconds, output_seconds=output_seconds
    )

"""Loaded: how many equal engines of one configuration meet the objectives of a demand, and with which batch limits.

Coarse to fine: a request alone on an engine and the average step (sizing/bounds.py) say at once what no number of
engines can meet and how few might do; from there on engines are added until a simulation meets the objectives.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import ceil, inf

from sizing.bounds import alone, steady
from sizing.demand import Demand
from sizing.estimate import EngineConfiguration, Estimate, estimate
from sizing.prospect import Group, Prospect, Shortfall, group_of, over_text, prospect_of, served_by, shortfall_of
from sizing.serving import EngineLimits
from sizing.step_seconds import steps_of
from sizing.vllm_options import SMALL_BATCH_TOKENS, sequences_for

SCREENING_REQUESTS = 600
FEWEST_PLACES = 32

Configure = Callable[[int], EngineConfiguration]
"""The configuration of an engine that so many requests in flight are expected on."""


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """The fewest engines that do, or the most that there are with the reason why they do not."""

    configuration: EngineConfiguration
    answer: Estimate
    engine_count: int
    prospect: Prospect | None
    shortfall: Shortfall | None

    @property
    def rejection(self) -> str:
        return self.shortfall.text if self.shortfall else ""


def under_load(
    configuration: EngineConfiguration,
    answer: Estimate,
    demand: Demand,
    *,
    fewest: int,
    slots: int,
    configure: Configure | None = None,
) -> Loaded:
    """As few engines as meet the objectives, at most `slots`."""
    group = group_of(configuration, answer, demand, engine_count=1)
    hopeless = nobody_could(group, demand) or too_few_could(group, demand, slots)
    if hopeless is not None:
        return Loaded(configuration=configuration, answer=answer, engine_count=slots, prospect=None, shortfall=hopeless)
    batching = configure or _batching(configuration)
    tried = _fewest(
        lambda count: _tried(configuration, demand, count, batching),
        first=max(fewest, hopeful_count(group, demand, slots)),
        slots=slots,
    )
    if tried.rejection:
        return _simulated(batching, demand, tried.engine_count, to_the_end=True)
    settled = group_of(tried.configuration, tried.answer, demand, engine_count=tried.engine_count)
    return replace(tried, prospect=prospect_of(settled, demand))


def _fewest(attempt: Callable[[int], Loaded], *, first: int, slots: int) -> Loaded:
    """In growing strides until it works, then halving the last stride."""
    found, failed, stride = attempt(min(first, slots)), first - 1, 1
    while found.rejection and found.engine_count < slots:
        failed = found.engine_count
        found = attempt(min(slots, failed + stride))
        stride *= 2
    while not found.rejection and found.engine_count - failed > 1:
        middle = (failed + found.engine_count) // 2
        other = attempt(middle)
        if other.rejection:
            failed = middle
        else:
            found = other
    return found


def slowness_of(group: Group, demand: Demand) -> float:
    """What the objectives are asked of: the likely steps, or the slow end of their interval."""
    return group.times.interval_ratio[1] if demand.objectives.certainty == "safe" else 1.0


def _batching(configuration: EngineConfiguration) -> Configure:
    """Room for bursts: twice what memory planning takes, because a request that waits for a place waits for its first
    token; less where that memory is not there."""

    def configure(in_flight: int) -> EngineConfiguration:
        roomy, usual = (
            _with_sequences(configuration, sequences_for(configuration.device, users))
            for users in (max(FEWEST_PLACES, 2 * in_flight), in_flight)
        )
        return roomy if estimate(roomy).verdict == "fits" else usual

    return configure


def _with_sequences(configuration: EngineConfiguration, sequences: int) -> EngineConfiguration:
    batch = max(configuration.max_num_batched_tokens or 0, sequences)
    return replace(configuration, max_num_seqs=sequences, max_num_batched_tokens=batch)


def _tried(base: EngineConfiguration, demand: Demand, count: int, configure: Configure) -> Loaded:
    """So many engines: with the usual batch, and a small one where prompts get in the way of tokens."""
    first = _simulated(configure, demand, count)
    batch = base.max_num_batched_tokens or 0
    if "TPOT" not in first.rejection or batch <= SMALL_BATCH_TOKENS or base.device.accelerator == "cpu":
        return first

    def small(in_flight: int) -> EngineConfiguration:
        found = configure(in_flight)
        return replace(found, max_num_batched_tokens=max(SMALL_BATCH_TOKENS, found.max_num_seqs or 0))

    second = _simulated(small, demand, count)
    return first if second.rejection else second


def _simulated(configure: Configure, demand: Demand, count: int, *, to_the_end: bool = False) -> Loaded:
    share = demand.share(count)
    in_flight = share.users_count or 0
    if not in_flight:
        guess = configure(1)
        group = group_of(guess, estimate(guess), demand, engine_count=count)
        usual = steady(share, _unbounded(group), steps_of(group.times, slowness_ratio=slowness_of(group, demand)))
        in_flight = max(1, ceil(usual.in_flight))
    missed: Shortfall | None = None
    for _ in range(3):
        configuration = configure(in_flight)
        answer = estimate(configuration)
        if answer.verdict != "fits":
            text = f"{answer.refusals[0].message.rstrip('.')} with max-num-seqs {configuration.max_num_seqs}"
            missed = Shortfall(text=text, ratio=inf)
            break
        group = group_of(configuration, answer, demand, engine_count=count)
        seen = served_by(
            group,
            demand,
            slowness_ratio=slowness_of(group, demand),
            requests=SCREENING_REQUESTS,
            to_the_end=to_the_end,
        )
        missed = shortfall_of(seen, demand)
        if seen.in_flight_mean <= in_flight or missed is None:
            break
        in_flight = ceil(seen.in_flight_mean)
    if missed is not None:
        gpus = configuration.tensor_parallel_size * configuration.pipeline_parallel_size
        what = f"{count} engine{'s' if count > 1 else ''} of {gpus} x {configuration.device.name} under the load"
        missed = replace(missed, text=f"{what}: {missed.text}{_end(demand)}")
    return Loaded(configuration=configuration, answer=answer, engine_count=count, prospect=None, shortfall=missed)


def _end(demand: Demand) -> str:
    return " (at the slow end of the interval)" if demand.objectives.certainty == "safe" else ""


def _unbounded(group: Group) -> EngineLimits:
    return replace(group.limits, max_num_seqs=10**6)


def nobody_could(group: Group, demand: Demand) -> Shortfall | None:
    """What even a request that is alone on an engine breaks."""
    objectives = demand.objectives
    # The percentile of the lengths alone: no queue, no neighbour.
    prompt = demand.prompt.quantile_tokens(objectives.percentile / 100)
    step = steps_of(group.times, slowness_ratio=slowness_of(group, demand))
    best = alone(demand, group.limits, step, prompt_tokens=prompt)
    for seen, wished_ms, what, bound in (
        (
            best.ttft_seconds * 1000,
            objectives.ttft_ms,
            f"a prompt of {prompt:,} tokens alone on an engine takes {best.ttft_seconds * 1000:,.0f} ms to its first "
            "token",
            "computing power",
        ),
        (
            best.tpot_seconds * 1000,
            objectives.tpot_ms,
            f"a request alone on an engine takes {best.tpot_seconds * 1000:.1f} ms a token",
            "reading the weights",
        ),
    ):
        if wished_ms is not None and seen > wished_ms:
            over = f"{_end(demand)}, {over_text(seen, wished_ms)}"
            text = f"{what}{over}: {bound} is the bound, and more engines do not help"
            return Shortfall(text=text, ratio=seen / wished_ms)
    return None


def too_few_could(group: Group, demand: Demand, slots: int) -> Shortfall | None:
    """What all the engines that there is room for break already on average."""
    step = steps_of(group.times, slowness_ratio=slowness_of(group, demand))
    usual = steady(demand.share(slots), _unbounded(group), step)
    engines = "one engine answers" if slots == 1 else f"all {slots} engines answer"
    if not usual.stable:
        most = usual.requests_per_second * slots
        if demand.rate_per_second is None:
            text = f"{engines} at most {most:,.2f} requests per second{_end(demand)}, and the people queue"
            return Shortfall(text=text, ratio=1.0)
        ratio = demand.rate_per_second / most
        text = f"{engines} at most {most:,.2f} requests per second{_end(demand)}; asked are {ratio:,.1f} times that"
        return Shortfall(text=text, ratio=ratio)
    wished_ms = demand.objectives.tpot_ms
    seen_ms = usual.step_seconds * 1000
    if wished_ms is not None and seen_ms > wished_ms:
        text = (
            f"with all {slots} engines a token takes {seen_ms:,.1f} ms on average{_end(demand)}, "
            f"{over_text(seen_ms, wished_ms)}"
        )
        return Shortfall(text=text, ratio=seen_ms / wished_ms)
    return None


def hopeful_count(group: Group, demand: Demand, slots: int) -> int:
    """The fewest engines whose average step could do; at most `slots`."""
    step = steps_of(group.times, slowness_ratio=slowness_of(group, demand))
    limits = _unbounded(group)
    wished_ms = demand.objectives.tpot_ms

    def could(count: int) -> bool:
        usual = steady(demand.share(count), limits, step)
        return usual.stable and (wished_ms is None or usual.step_seconds * 1000 <= wished_ms)

    low, high = 1, max(1, slots)
    if not could(high):
        return high
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if could(middle) else (middle + 1, high)
    return low

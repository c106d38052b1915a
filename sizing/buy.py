"""Buy: the cheapest hardware of the catalogue for a wish; without prices the smallest, by GPU memory in total.

Branch and bound: for every GPU the fewest engines that could do by average steps (sizing/bounds.py) give a cost that
the real one cannot undercut. GPUs are simulated in that order until enough of them are settled and no other one can be
cheaper than the best.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Literal

from sizing.candidates import Candidate, candidates_for, loaded
from sizing.costs import GpuPrice
from sizing.device import GpuFacts, known_gpus
from sizing.islands import Pool, Shape, engine_slots, pool_of_catalogue
from sizing.loaded import hopeful_count, nobody_could, too_few_could
from sizing.model_facts import ModelFacts
from sizing.prices import Bill, Prices, bill_for
from sizing.prospect import Prospect, Shortfall, group_of
from sizing.units import GIB
from sizing.wish import Wish

GPUS_OF_A_HOST = 8
MOST_HOSTS = 16
SETTLED_OPTIONS = 6
DEAREST_RATIO = 4.0
"""What costs so many times the best is no option, and not searched for."""

SIZES = (1, 2, 4, 8)
"""Ranks of an engine that are tried: what boards come with."""


@dataclass(frozen=True, kw_only=True)
class Refused:
    """A GPU that cannot do, why, and by how much it is too slow; infinite where memory already says no."""

    gpu: str
    reason: str
    ratio: float


@dataclass(frozen=True, kw_only=True)
class Option:
    """One kind of GPU: how many, for which engines of each model; `rejection` where it cannot do."""

    row: GpuFacts
    gpu_count: int
    host_count: int
    bill: Bill | None
    cost: float
    engines: tuple[Candidate, ...]
    rejection: "Refused | None" = None


@dataclass(frozen=True, kw_only=True)
class Options:
    """The settled ones, cheapest first; what is not among them costs more by its bounds, or cannot do."""

    settled: tuple[Option, ...]
    dearer: tuple[tuple[str, float], ...]
    rejected: tuple[Refused, ...]

    @property
    def nearest(self) -> Refused | None:
        """The least too slow."""
        return min(self.rejected, key=lambda one: one.ratio, default=None)


@dataclass(frozen=True, kw_only=True)
class _Prospects:
    """One kind of GPU before anything is simulated: for each model the candidates, the cheapest first by bound."""

    row: GpuFacts
    price: GpuPrice | None
    pool: Pool
    by_model: tuple[tuple[tuple[int, Candidate], ...], ...]
    bound: float


def what_to_buy(models: Sequence[ModelFacts], wish: Wish, *, prices: Prices | None) -> Options:
    """The options for all models together on one kind of GPU."""
    rows: list[tuple[GpuFacts, GpuPrice | None]] = [(row, None) for row in known_gpus()]
    if prices is not None:
        rows = list(prices.rows())
    prospects: list[_Prospects] = []
    rejected: list[Refused] = []
    for row, price in rows:
        if row.memory_total_mib is None:
            continue
        one = _prospects(models, wish, row, price, prices)
        if isinstance(one, Refused):
            rejected.append(one)
        else:
            prospects.append(one)
    prospects.sort(key=lambda one: (one.bound, one.row.nvml_name))
    settled: list[Option] = []
    waiting = list(prospects)
    while waiting:
        best = min((one.cost for one in settled), default=inf)
        if waiting[0].bound >= (best if len(settled) >= SETTLED_OPTIONS else DEAREST_RATIO * best):
            break
        option = _settled(waiting.pop(0), wish, prices, most=DEAREST_RATIO * best)
        if option.rejection:
            rejected.append(option.rejection)
        else:
            settled.append(option)
    settled.sort(key=lambda one: (one.cost, one.row.nvml_name))
    return Options(
        settled=tuple(settled),
        dearer=tuple((one.row.nvml_name, one.bound) for one in waiting),
        rejected=tuple(rejected),
    )


def _pool(row: GpuFacts, prices: Prices | None) -> Pool:
    size = GPUS_OF_A_HOST if prices is None else prices.host.gpus_at_most
    return replace(pool_of_catalogue(row.as_gpu(), size), host_count=MOST_HOSTS)


def _cost(row: GpuFacts, price: GpuPrice | None, prices: Prices | None, gpu_count: int) -> float:
    if prices is None or price is None:
        return gpu_count * (row.memory_total_mib or 0) / 1024
    return bill_for(prices, row, price, gpu_count).total


def _prospects(
    models: Sequence[ModelFacts], wish: Wish, row: GpuFacts, price: GpuPrice | None, prices: Prices | None
) -> _Prospects | Refused:
    pool = _pool(row, prices)
    by_model: list[tuple[tuple[int, Candidate], ...]] = []
    for model in models:
        found: list[tuple[int, Candidate]] = []
        refused: list[Refused] = []
        for candidate in candidates_for(model, pool, wish=replace(wish, demand=None)):
            if not candidate.meets_the_wish or candidate.shape.gpu_count not in SIZES:
                if candidate.shape.gpu_count in SIZES:
                    refused.append(Refused(gpu=row.nvml_name, reason=candidate.rejection, ratio=inf))
                continue
            count, missed = _fewest(candidate, pool, wish)
            if missed is not None:
                refused.append(Refused(gpu=row.nvml_name, reason=missed.text, ratio=missed.ratio))
            else:
                found.append((count * candidate.shape.gpu_count, candidate))
        if not found:
            nothing = Refused(gpu=row.nvml_name, reason=f"vLLM does not run {model.name} on it", ratio=inf)
            return min(reversed(refused), key=lambda one: one.ratio, default=nothing)
        by_model.append(tuple(sorted(found, key=lambda one: (one[0], one[1].fp8_steps))))
    fewest = sum(many[0][0] for many in by_model)
    bound = _cost(row, price, prices, fewest)
    return _Prospects(row=row, price=price, pool=pool, by_model=tuple(by_model), bound=bound)


def _fewest(candidate: Candidate, pool: Pool, wish: Wish) -> tuple[int, Shortfall | None]:
    """Engines that could do, by their average step."""
    if wish.demand is None:
        return candidate.engine_count, None
    group = group_of(candidate.configuration, candidate.answer, wish.demand, engine_count=1)
    slots = _slots(pool, candidate.shape)
    missed = nobody_could(group, wish.demand) or too_few_could(group, wish.demand, slots)
    return max(candidate.engine_count, hopeful_count(group, wish.demand, slots)), missed


def _slots(pool: Pool, shape: Shape) -> int:
    return engine_slots(pool.island_sizes, shape) * pool.host_count


def _settled(one: _Prospects, wish: Wish, prices: Prices | None, *, most: float) -> Option:
    """Simulated: for each model the candidate with the fewest GPUs."""
    engines: list[Candidate] = []
    rejection: Refused | None = None
    for many in one.by_model:
        best: Candidate | None = None
        for bound_count, candidate in many:
            if best is not None and bound_count > best.gpu_count:
                break
            if best is not None and bound_count == best.gpu_count and candidate.fp8_steps >= best.fp8_steps:
                continue
            affordable = 1
            while affordable < _slots(one.pool, candidate.shape) and (
                _cost(one.row, one.price, prices, (affordable + 1) * candidate.shape.gpu_count) <= most
            ):
                affordable += 1
            judged = loaded(candidate, one.pool, wish, engines_at_most=affordable)
            if not judged.meets_the_wish:
                seen = Refused(gpu=one.row.nvml_name, reason=judged.rejection, ratio=judged.shortfall_ratio or inf)
                rejection = seen if rejection is None or seen.ratio < rejection.ratio else rejection
            elif best is None or (judged.gpu_count, judged.fp8_steps) < (best.gpu_count, best.fp8_steps):
                best = judged
        if best is None:
            return Option(row=one.row, gpu_count=0, host_count=0, bill=None, cost=inf, engines=(), rejection=rejection)
        engines.append(best)
    gpu_count = sum(engine.gpu_count for engine in engines)
    bill = None if prices is None or one.price is None else bill_for(prices, one.row, one.price, gpu_count)
    size = GPUS_OF_A_HOST if prices is None else prices.host.gpus_at_most
    return Option(
        row=one.row,
        gpu_count=gpu_count,
        host_count=-(-gpu_count // size),
        bill=bill,
        cost=_cost(one.row, one.price, prices, gpu_count),
        engines=tuple(engines),
    )


def span_ms(prospect: Prospect, field: Literal["ttft_seconds", "tpot_seconds"]) -> tuple[float, float, float]:
    """Low, likely and high of a time of the percentile that was asked for."""
    at = prospect.demand.objectives.percentile
    ends = [getattr(one, field).at(at) * 1000 for one in prospect.ends]
    return min(ends), ends[1], max(ends)


def span_text(prospect: Prospect, field: Literal["ttft_seconds", "tpot_seconds"]) -> str:
    """The same in milliseconds, as a person reads it."""
    low, likely, high = span_ms(prospect, field)
    digits = 1 if likely < 100 else 0  # noqa: PLR2004 - three digits are enough
    return f"{likely:,.{digits}f} ({low:,.{digits}f} to {high:,.{digits}f})"


def memory_text(option: Option) -> str:
    """Its GPU memory in total."""
    return f"{option.gpu_count * (option.row.memory_total_mib or 0) * 1024 * 1024 / GIB:,.0f} GiB"

"""Changes: what would meet a wish that the devices cannot, the cheapest first.

Without prices the order is a rule, not a sum of money: what costs a share of the wish (a shorter window, fewer requests
in flight) costs that share; an FP8 KV cache counts as a tenth of it, FP8 weights a little more; a purchase comes after
all of them. Only what really meets the wish is offered: every change is tried with the same arithmetic.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from sizing.candidates import LENGTH_STEP_TOKENS, Candidate, candidates_for, fp8_release_of
from sizing.device import Device, known_gpus
from sizing.islands import Pool, pool_of_catalogue
from sizing.model_facts import ModelFacts
from sizing.reasons import devices_text
from sizing.units import gib_text
from sizing.wish import Wish

CO_TENANTS_COST = 0.05
FP8_CACHE_COST = 0.10
FP8_WEIGHTS_COST = 0.15
PURCHASE_COST = 1.0
"""Guesses that put the changes in order; a change of the wish costs the share of it that is given up."""

LOAD_SHARES = (0.9, 0.75, 0.5, 0.25, 0.1)
GPUS_OF_A_HOST = 8
LARGER_GPU_RATIO = 1.1
"""Another GPU is offered only where it has a tenth more memory: less is no reason to buy one."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """One change that meets the wish, in words, and what kind it is."""

    kind: str
    text: str
    cost: float


def changes_for(
    model: ModelFacts, pools: Sequence[Pool], wish: Wish, *, engines_at_most: int | None = None
) -> tuple[Change, ...]:
    """What would meet the wish for one model alone on the devices, the cheapest first.

    `engines_at_most` 1: the wish is one for a single engine, as in a site whose request counts the replicas.
    """
    trial = _Trial(model, wish, engines_at_most)
    found = [*_without_co_tenants(trial, pools), *_less_of_the_wish(trial, pools), *_fp8(trial, pools)]
    found += _less_load(trial, pools)
    found += [*_more_gpus(trial, pools), *_another_gpu(trial, pools)]
    return tuple(sorted(found, key=lambda change: change.cost))


def changes_text(changes: Sequence[Change]) -> str:
    """The end of an error line."""
    if not changes:
        return "no single change of window, users, number format or GPU would meet the wish"
    first, *others = changes
    text = f"cheapest change: {first.text}"
    return text + (f"; or {'; or '.join(change.text for change in others)}" if others else "")


@dataclass(frozen=True)
class _Trial:
    """The model and its wish, to be tried again with one thing changed."""

    model: ModelFacts
    wish: Wish
    engines_at_most: int | None

    def candidates(self, pools: Sequence[Pool], wish: Wish | None = None) -> list[Candidate]:
        wished = wish or self.wish
        return [
            candidate
            for pool in pools
            for candidate in candidates_for(self.model, pool, wish=wished, engines_at_most=self.engines_at_most)
        ]

    def meeting(self, pools: Sequence[Pool], wish: Wish | None = None) -> list[Candidate]:
        return [candidate for candidate in self.candidates(pools, wish) if candidate.meets_the_wish]


def _without_co_tenants(trial: _Trial, pools: Sequence[Pool]) -> Iterator[Change]:
    used_bytes = sum(pool.device.memory_used_bytes * pool.device_count for pool in pools)
    alone = [replace(pool, device=replace(pool.device, memory_used_bytes=0)) for pool in pools]
    if used_bytes and trial.meeting(alone):
        text = f"without the other processes, which hold {gib_text(used_bytes)} of these GPUs (--co-tenants leave)"
        yield Change(kind="co_tenants", text=text, cost=CO_TENANTS_COST)


def _less_of_the_wish(trial: _Trial, pools: Sequence[Pool]) -> Iterator[Change]:
    wish, wished = trial.wish, trial.wish.context_tokens
    if wished is not None:
        shorter = replace(wish, context_tokens=None, request_tokens=None, objective="context")
        windows = [candidate.answer.at_tokens for candidate in trial.meeting(pools, shorter)]
        longest = max((window for window in windows if window < wished), default=0)
        if longest >= LENGTH_STEP_TOKENS:
            cost = 1 - longest / wished
            yield Change(kind="context", text=f"a window of {longest} tokens instead of {wished}", cost=cost)
    held = [one.capacity_count * one.engine_count for one in trial.candidates(pools) if _starts(one)]
    most = max(held, default=0)
    if wish.demand is None and 0 < most < wish.users_count and trial.meeting(pools, replace(wish, users_count=most)):
        cost = 1 - most / wish.users_count
        text = f"{most} request{'s' if most > 1 else ''} in flight instead of {wish.users_count}"
        yield Change(kind="users", text=text, cost=cost)


def _less_load(trial: _Trial, pools: Sequence[Pool]) -> Iterator[Change]:
    """The largest of a few shares of the load that is met."""
    demand = trial.wish.demand
    for share in LOAD_SHARES if demand is not None else ():
        less = replace(trial.wish, demand=demand.times(share)) if demand else trial.wish
        if demand and less.demand != demand and trial.meeting(pools, less):
            yield Change(kind="load", text=f"{share:.0%} of the load: {demand.times(share).who()}", cost=1 - share)
            return


def _starts(candidate: Candidate) -> bool:
    return candidate.answer.verdict == "fits" and candidate.answer.interval.kv_cache_tokens[0] > 0


def _fp8(trial: _Trial, pools: Sequence[Pool]) -> Iterator[Change]:
    """The FP8 candidates that quality balanced would add; both together only where one of them is not enough."""
    if trial.wish.quality == "balanced":
        return
    meeting = trial.meeting(pools, replace(trial.wish, quality="balanced"))
    release = fp8_release_of(trial.model)
    name = release.name if release is not None else ""
    cached = any(one.configuration.model.name == trial.model.name for one in meeting)
    weighed = any(one.configuration.kv_cache_dtype == "auto" for one in meeting)
    if cached:
        yield Change(kind="fp8_kv_cache", text="an FP8 KV cache (quality balanced)", cost=FP8_CACHE_COST)
    if weighed:
        yield Change(kind="fp8_weights", text=f"FP8 weights, {name} (quality balanced)", cost=FP8_WEIGHTS_COST)
    if meeting and not cached and not weighed:
        text = f"FP8 weights, {name}, with an FP8 KV cache (quality balanced)"
        yield Change(kind="fp8", text=text, cost=FP8_CACHE_COST + FP8_WEIGHTS_COST)


def _more_gpus(trial: _Trial, pools: Sequence[Pool]) -> Iterator[Change]:
    """The smallest number of further equal GPUs in one host, for the kind that needs the fewest."""
    for more, pool, larger in larger_pools(pools):
        meeting = trial.meeting([larger])
        if any(candidate.shape.pipeline == 1 or len(larger.islands) > 1 for candidate in meeting):
            yield more_gpus(more, pool)
            return


def more_gpus(more: int, pool: Pool) -> Change:
    """So many further GPUs of a kind."""
    text = f"{more} more {pool.device.name}, {pool.device_count + more} in all"
    return Change(kind="more_gpus", text=text, cost=PURCHASE_COST + more / GPUS_OF_A_HOST)


def larger_pools(pools: Sequence[Pool]) -> Iterator[tuple[int, Pool, Pool]]:
    """Each kind with one more GPU, then each with two, up to what a host holds: how many more, before, after."""
    for more in range(1, GPUS_OF_A_HOST):
        for pool in pools:
            fits = pool.device_count + more <= GPUS_OF_A_HOST
            if fits and pool.joinable and pool.device.accelerator == "cuda":
                yield more, pool, _larger(pool, more)


def _larger(pool: Pool, more: int) -> Pool:
    """Further GPUs join the island where there is one, and stand alone where the others do."""
    count = pool.device_count
    if len(pool.islands) == 1 and count > 1:
        return replace(pool, islands=(tuple(range(count + more)),))
    if count == 1:
        row = next((row for row in known_gpus() if row.nvml_name == pool.device.name), None)
        if row is not None and row.memory_total_mib is not None:
            return replace(pool, islands=pool_of_catalogue(row.as_gpu(), 1 + more).islands)
    return replace(pool, islands=(*pool.islands, *((count + one,) for one in range(more))))


def _another_gpu(trial: _Trial, pools: Sequence[Pool]) -> Iterator[Change]:
    """As many of the smallest GPU of the catalogue that does."""
    count = max((pool.device_count for pool in pools), default=1)
    present = max((pool.device.memory_usable_bytes for pool in pools), default=0)
    held = [one.answer.per_gpu.weights_bytes * one.shape.gpu_count for one in trial.candidates(pools)]
    weights_bytes = min((size for size in held if size), default=0)
    rows = [row for row in known_gpus() if row.memory_total_mib is not None]
    for row in sorted(rows, key=lambda row: (row.memory_total_mib or 0, row.nvml_name)):
        gpu = row.as_gpu()
        too_like = gpu.memory_usable_bytes < LARGER_GPU_RATIO * present
        if too_like and all(pool.device.accelerator == "cuda" for pool in pools):
            continue
        if gpu.memory_usable_bytes * count < weights_bytes:
            continue
        meeting = trial.meeting([pool_of_catalogue(gpu, count)])
        if meeting:
            used = min(meeting, key=lambda candidate: candidate.gpu_count)
            text = f"{_kind_text(used, Device.of_gpu(gpu))} instead"
            yield Change(kind="another_gpu", text=text, cost=PURCHASE_COST + 1)
            return


def _kind_text(candidate: Candidate, device: Device) -> str:
    count = candidate.gpu_count
    what = f"{count} x {device.name}" if count > 1 else devices_text(candidate.configuration)
    return f"{what} ({gib_text(device.memory_usable_bytes)} each)"

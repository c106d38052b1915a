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

FP8_CACHE_COST = 0.10
FP8_WEIGHTS_COST = 0.15
PURCHASE_COST = 1.0
"""Guesses that put the changes in order; a change of the wish costs the share of it that is given up."""

GPUS_OF_A_HOST = 8
LARGER_GPU_RATIO = 1.1
"""Another GPU is offered only where it has a tenth more memory: less is no reason to buy one."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """One change that meets the wish, in words, and what kind it is."""

    kind: str
    text: str
    cost: float


def changes_for(model: ModelFacts, pools: Sequence[Pool], wish: Wish) -> tuple[Change, ...]:
    """What would meet the wish for one model alone on the devices, the cheapest first."""
    found = [*_less_of_the_wish(model, pools, wish), *_fp8(model, pools, wish)]
    found += [*_more_gpus(model, pools, wish), *_another_gpu(model, pools, wish)]
    return tuple(sorted(found, key=lambda change: change.cost))


def changes_text(changes: Sequence[Change]) -> str:
    """The end of an error line."""
    if not changes:
        return "no single change of window, users, number format or GPU would meet the wish"
    first, *others = changes
    text = f"cheapest change: {first.text}"
    return text + (f"; or {'; or '.join(change.text for change in others)}" if others else "")


def _candidates(model: ModelFacts, pools: Sequence[Pool], wish: Wish) -> list[Candidate]:
    return [candidate for pool in pools for candidate in candidates_for(model, pool, wish=wish)]


def _meeting(model: ModelFacts, pools: Sequence[Pool], wish: Wish) -> list[Candidate]:
    return [candidate for candidate in _candidates(model, pools, wish) if candidate.meets_the_wish]


def _less_of_the_wish(model: ModelFacts, pools: Sequence[Pool], wish: Wish) -> Iterator[Change]:
    wished = wish.context_tokens
    if wished is not None:
        shorter = replace(wish, context_tokens=None, request_tokens=None, objective="context")
        windows = [candidate.answer.at_tokens for candidate in _meeting(model, pools, shorter)]
        longest = max((window for window in windows if window < wished), default=0)
        if longest >= LENGTH_STEP_TOKENS:
            cost = 1 - longest / wished
            yield Change(kind="context", text=f"a window of {longest} tokens instead of {wished}", cost=cost)
    held = [one.capacity_count * one.engine_count for one in _candidates(model, pools, wish) if _starts(one)]
    most = max(held, default=0)
    if 0 < most < wish.users_count and _meeting(model, pools, replace(wish, users_count=most)):
        cost = 1 - most / wish.users_count
        text = f"{most} request{'s' if most > 1 else ''} in flight instead of {wish.users_count}"
        yield Change(kind="users", text=text, cost=cost)


def _starts(candidate: Candidate) -> bool:
    return candidate.answer.verdict == "fits" and candidate.answer.interval.kv_cache_tokens[0] > 0


def _fp8(model: ModelFacts, pools: Sequence[Pool], wish: Wish) -> Iterator[Change]:
    """The FP8 candidates that quality balanced would add; both together only where one of them is not enough."""
    if wish.quality == "balanced":
        return
    meeting = _meeting(model, pools, replace(wish, quality="balanced"))
    release = fp8_release_of(model)
    cached = [one for one in meeting if one.configuration.model.name == model.name]
    weighed = [one for one in meeting if one.configuration.kv_cache_dtype == "auto"]
    name = release.name if release is not None else ""
    if cached:
        yield Change(kind="fp8_kv_cache", text="an FP8 KV cache (--quality balanced)", cost=FP8_CACHE_COST)
    if weighed:
        yield Change(kind="fp8_weights", text=f"FP8 weights, {name} (--quality balanced)", cost=FP8_WEIGHTS_COST)
    if meeting and not cached and not weighed:
        text = f"FP8 weights, {name}, with an FP8 KV cache (--quality balanced)"
        yield Change(kind="fp8", text=text, cost=FP8_CACHE_COST + FP8_WEIGHTS_COST)


def _more_gpus(model: ModelFacts, pools: Sequence[Pool], wish: Wish) -> Iterator[Change]:
    """The smallest number of further equal GPUs in one host, for the kind that needs the fewest."""
    for more in range(1, GPUS_OF_A_HOST):
        for pool in pools:
            if pool.device.accelerator == "cpu" or not pool.joinable:
                continue
            if pool.device_count + more > GPUS_OF_A_HOST:
                continue
            larger = _larger(pool, more)
            meeting = _meeting(model, [larger], wish)
            if any(candidate.shape.pipeline == 1 or len(larger.islands) > 1 for candidate in meeting):
                text = f"{more} more {pool.device.name}, {pool.device_count + more} in all"
                yield Change(kind="more_gpus", text=text, cost=PURCHASE_COST + more / GPUS_OF_A_HOST)
                return


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


def _another_gpu(model: ModelFacts, pools: Sequence[Pool], wish: Wish) -> Iterator[Change]:
    """As many of the smallest GPU of the catalogue that does."""
    count = max((pool.device_count for pool in pools), default=1)
    present = max((pool.device.memory_usable_bytes for pool in pools), default=0)
    rows = [row for row in known_gpus() if row.memory_total_mib is not None]
    for row in sorted(rows, key=lambda row: (row.memory_total_mib or 0, row.nvml_name)):
        gpu = row.as_gpu()
        if gpu.memory_usable_bytes < LARGER_GPU_RATIO * present and all(
            pool.device.accelerator == "cuda" for pool in pools
        ):
            continue
        meeting = _meeting(model, [pool_of_catalogue(gpu, count)], wish)
        if meeting:
            used = min(meeting, key=lambda candidate: candidate.gpu_count)
            text = f"{_kind_text(used, Device.of_gpu(gpu))} instead"
            yield Change(kind="another_gpu", text=text, cost=PURCHASE_COST + 1)
            return


def _kind_text(candidate: Candidate, device: Device) -> str:
    count = candidate.gpu_count
    what = f"{count} x {device.name}" if count > 1 else devices_text(candidate.configuration)
    return f"{what} ({gib_text(device.memory_usable_bytes)} each)"

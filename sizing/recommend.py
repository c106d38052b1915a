"""Recommend: "what should I run?" - one model or several together on the devices of one host, and a wish.

The answer ranks every candidate of each model and says why it is taken or not. Models that share a host never share a
GPU; where the best candidates of all do not fit side by side, those that save the most GPUs step back first.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil

from sizing.candidates import Candidate, candidates_for, rank_of
from sizing.changes import Change, changes_for, changes_text, larger_pools, more_gpus
from sizing.islands import FreeDevices, Pool
from sizing.model_facts import ModelFacts
from sizing.plan import Choice
from sizing.reasons import alternative_text, choices_of
from sizing.vllm_options import OptionValue, options_of, serve_command, utilization_for
from sizing.wish import Wish

LEAVES_NO_ROOM = "meets the wish, and leaves too few GPUs for the other models"


@dataclass(frozen=True, kw_only=True)
class Recommendation:
    """One ranked answer for one model; `rejection` is empty when it meets the wish.

    `devices`: for each engine of the one that is taken, the positions of its GPUs; empty for the others.
    """

    rank: int
    model: str
    checkpoint: str
    alternative: str
    replicas: int
    requests_in_flight: int
    devices: tuple[tuple[int, ...], ...]
    vllm_options: dict[str, OptionValue]
    estimate: dict[str, object]
    reason: str
    reasons: tuple[Choice, ...]
    rejection: str
    vllm_serve_line: str
    candidate: Candidate

    def as_json(self) -> dict[str, object]:
        """What a program reads: everything but the candidate itself, whose options and estimate are there already."""
        content: dict[str, object] = {name: getattr(self, name) for name in self.__dataclass_fields__}
        del content["candidate"]
        content["reasons"] = [choice.model_dump() for choice in self.reasons]
        return content


@dataclass(frozen=True, kw_only=True)
class Recommended:
    """The answer for one host; `unmet` is one line where the wish cannot be met, with the changes that would."""

    ranked: tuple[Recommendation, ...]
    unmet: str
    changes: tuple[Change, ...]

    def taken(self) -> dict[str, tuple[Candidate, tuple[Candidate, ...]]]:
        """For each model the candidate that got devices, and all that were weighed."""
        weighed: dict[str, tuple[Candidate, ...]] = {}
        for one in self.ranked:
            weighed[one.model] = (*weighed.get(one.model, ()), one.candidate)
        return {one.model: (one.candidate, weighed[one.model]) for one in self.ranked if one.devices}


@dataclass(frozen=True, kw_only=True)
class _Taken:
    candidate: Candidate
    devices: tuple[tuple[int, ...], ...]


def recommend(models: Sequence[ModelFacts], pools: Sequence[Pool], *, wish: Wish) -> Recommended:
    """Every candidate of each model on the devices, best first; the taken ones fit side by side."""
    weighed = [_candidates(model, pools, wish) for model in models]
    for model, candidates in zip(models, weighed, strict=True):
        if not any(candidate.meets_the_wish for candidate in candidates):
            return _unmet(models, weighed, pools, wish, hopeless=model)
    taken = _side_by_side([[one for one in candidates if one.meets_the_wish] for candidates in weighed], pools)
    if taken is None:
        return _unmet(models, weighed, pools, wish, hopeless=None)
    ranked: list[Recommendation] = []
    for model, candidates, one in zip(models, weighed, taken, strict=True):
        passed_over = candidates[: candidates.index(one.candidate)]
        ranked += _ranked(model, candidates, wish, taken=one, passed_over=passed_over)
    return Recommended(ranked=tuple(ranked), unmet="", changes=())


def _candidates(model: ModelFacts, pools: Sequence[Pool], wish: Wish) -> list[Candidate]:
    found = [candidate for pool in pools for candidate in candidates_for(model, pool, wish=wish)]
    return sorted(found, key=lambda candidate: rank_of(candidate, wish))


def _side_by_side(choices: Sequence[Sequence[Candidate]], pools: Sequence[Pool]) -> list[_Taken] | None:
    """One candidate for each model, all on devices of their own: the best ones, and smaller ones where they must."""
    index = [0] * len(choices)
    while True:
        placed = _placed([candidates[one] for candidates, one in zip(choices, index, strict=True)], pools)
        if placed is not None:
            return placed
        best_saving, step_back = 0, -1
        for number, (candidates, one) in enumerate(zip(choices, index, strict=True)):
            smaller = next(
                (at for at in range(one + 1, len(candidates)) if candidates[at].gpu_count < candidates[one].gpu_count),
                None,
            )
            if smaller is not None and candidates[one].gpu_count - candidates[smaller].gpu_count > best_saving:
                best_saving, step_back = candidates[one].gpu_count - candidates[smaller].gpu_count, number
                index_of_step = smaller
        if step_back < 0:
            return None
        index[step_back] = index_of_step


def _placed(candidates: Sequence[Candidate], pools: Sequence[Pool]) -> list[_Taken] | None:
    free = {pool.device: FreeDevices(pool) for pool in pools}
    devices: dict[int, list[tuple[int, ...]]] = {}
    largest_first = sorted(range(len(candidates)), key=lambda number: -candidates[number].shape.gpu_count)
    for number in largest_first:
        candidate = candidates[number]
        for _ in range(candidate.engine_count):
            positions = free[candidate.configuration.device].take(candidate.shape)
            if positions is None:
                return None
            devices.setdefault(number, []).append(positions)
    return [_Taken(candidate=candidate, devices=tuple(devices[number])) for number, candidate in enumerate(candidates)]


def _ranked(
    model: ModelFacts,
    candidates: Sequence[Candidate],
    wish: Wish,
    *,
    taken: _Taken | None = None,
    passed_over: Sequence[Candidate] = (),
) -> list[Recommendation]:
    best = [] if taken is None else [taken.candidate]
    ordered = [*best, *(one for one in candidates if one not in best and one not in passed_over), *passed_over]
    ordered.sort(key=lambda one: bool(one.rejection) or one in passed_over)
    return [
        _recommendation(
            model,
            candidate,
            wish,
            rank=rank,
            devices=taken.devices if taken is not None and candidate is taken.candidate else (),
            rejection=candidate.rejection or (LEAVES_NO_ROOM if candidate in passed_over else ""),
        )
        for rank, candidate in enumerate(ordered, start=1)
    ]


def _recommendation(
    model: ModelFacts,
    candidate: Candidate,
    wish: Wish,
    *,
    rank: int,
    devices: tuple[tuple[int, ...], ...],
    rejection: str,
) -> Recommendation:
    configuration, answer, engine_count = candidate.configuration, candidate.answer, max(1, candidate.engine_count)
    engines = f"{engine_count} engines hold" if engine_count > 1 else "holds"
    held = answer.max_concurrency * engine_count
    reason = f"{engines} {held:.1f} requests of {answer.at_tokens:,} tokens at once"
    if wish.request_tokens is not None and wish.request_tokens < answer.at_tokens:
        reason += f", {candidate.capacity_count * engine_count} of {wish.request_tokens:,}"
    if candidate.prospect is not None:
        wish = replace(wish, users_count=max(1, ceil(candidate.prospect.in_flight)))
        seen = candidate.prospect.likely
        reason += (
            f"; likely TTFT {seen.ttft_seconds.p50:.2f} s and {seen.tpot_seconds.p50 * 1000:.1f} ms a token (medians), "
            f"{seen.output_tokens_per_second * engine_count:,.0f} tokens per second, {candidate.prospect.provenance}"
        )
    return Recommendation(
        rank=rank,
        model=model.name,
        checkpoint=configuration.model.name,
        alternative=alternative_text(configuration, candidate.shape, wished_model=model.name),
        replicas=engine_count,
        requests_in_flight=candidate.capacity_count * engine_count,
        devices=devices,
        vllm_options=options_of(configuration, answer),
        estimate=answer.model_dump(mode="json"),
        reason=reason,
        reasons=choices_of(
            configuration,
            answer,
            candidate.shape,
            wish,
            wished_model=model.name,
            engine_count=engine_count,
            capacity_count=candidate.capacity_count,
            window_is_derived=wish.context_tokens is None,
        ),
        rejection=rejection,
        vllm_serve_line=serve_command(configuration, answer, model_path=configuration.model.name),
        candidate=candidate,
    )


def _unmet(
    models: Sequence[ModelFacts],
    weighed: Sequence[Sequence[Candidate]],
    pools: Sequence[Pool],
    wish: Wish,
    *,
    hopeless: ModelFacts | None,
) -> Recommended:
    ranked = [
        one
        for model, candidates in zip(models, weighed, strict=True)
        for one in _ranked(
            model, candidates, wish, passed_over=[] if hopeless else [one for one in candidates if one.meets_the_wish]
        )
    ]
    if hopeless is None:
        fewest = sum(min(one.gpu_count for one in many if one.meets_the_wish) for many in weighed)
        have = " and ".join(f"{pool.device_count} x {pool.device.name}" for pool in pools)
        names = " and ".join(model.name for model in models)
        line = (
            f"{names} each fit alone, but together they take at least {fewest} GPUs (engines never share one): {have}"
        )
        changes = _more_gpus_for_all(models, pools, wish)
        return Recommended(ranked=tuple(ranked), unmet=f"{line}; {changes_text(changes)}", changes=changes)
    changes = changes_for(hopeless, pools, wish)
    closest = _closest(weighed[models.index(hopeless)])
    reason = _nothing_free(pools) if closest is None else closest.rejection
    name = hopeless.name if closest is None else closest.configuration.model.name
    return Recommended(ranked=tuple(ranked), unmet=f"{name}: {reason}; {changes_text(changes)}", changes=changes)


def _closest(candidates: Sequence[Candidate]) -> Candidate | None:
    """The one that comes nearest to the wish: it is the least too slow, or holds the most requests, else it has the
    most GPUs."""

    def nearness(candidate: Candidate) -> tuple[float, ...]:
        held = candidate.capacity_count * candidate.engine_count
        accepted = candidate.answer.verdict != "refused"
        speed = 1 / candidate.shortfall_ratio if candidate.shortfall_ratio else 0.0
        return (accepted, candidate.answer.verdict == "fits", speed, held, candidate.shape.gpu_count)

    return max(candidates, key=nearness, default=None)


def _more_gpus_for_all(models: Sequence[ModelFacts], pools: Sequence[Pool], wish: Wish) -> tuple[Change, ...]:
    for more, pool, larger in larger_pools(pools):
        enlarged = [larger if one is pool else one for one in pools]
        weighed = [[one for one in _candidates(model, enlarged, wish) if one.meets_the_wish] for model in models]
        if all(weighed) and _side_by_side(weighed, enlarged) is not None:
            return (more_gpus(more, pool),)
    return ()


def _nothing_free(pools: Sequence[Pool]) -> str:
    full = [pool.device.name for pool in pools if utilization_for(pool.device) <= 0]
    return f"other processes hold all memory of {', '.join(full)}" if full else "there is no GPU"

"""Replicas: how many engines of each model the load of a site takes, where the request states a load and no number.

Equal hosts count as one larger one; where kinds of GPU differ, the kind decides that the objective ranks first. The
placement then judges every engine again with its share of the load.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from sizing.candidates import Candidate, candidates_for, rank_of
from sizing.errors import DoesNotFit
from sizing.gateway_load import Stream, Streaming, gateway_loads
from sizing.hardware import Hardware
from sizing.islands import Pool, pools_of
from sizing.model_facts import ModelFacts
from sizing.placement import Placement
from sizing.request import ModelRequest, Objective, Quality
from sizing.site_wish import demand_of, wish_of

Wanted = tuple[ModelRequest, ModelFacts]


def with_replicas(
    requests: Sequence[Wanted], hardware: Mapping[str, Hardware], *, objective: Objective, quality: Quality
) -> tuple[list[Wanted], list[str]]:
    """The requests with their replicas, and a line of reason for each that was derived."""
    found: list[Wanted] = []
    reasons: list[str] = []
    for request, facts in requests:
        demand = demand_of(request)
        if demand is None or "replicas" in request.model_fields_set:
            found.append((request, facts))
            continue
        wish = wish_of(request, objective=objective, quality=quality)
        candidates = [
            one
            for pool in _pools(request, hardware)
            for one in candidates_for(facts, pool, wish=wish, engines_at_most=_most(pool))
        ]
        best = min(candidates, key=lambda one: rank_of(one, wish), default=None)
        if best is None or not best.meets_the_wish:
            nearest = min(candidates, key=_distance, default=None)
            why = "there is no device" if nearest is None else nearest.rejection
            raise DoesNotFit(f"{request.name}: no number of replicas on these hosts meets its load: {why}")
        count = best.engine_count
        found.append((request.model_copy(update={"replicas": count}), facts))
        reasons.append(f"{request.name}: {count} replicas, the fewest for {demand.who()}: {demand.objectives.text()}")
    return found, reasons


def gateway_reasons(placement: Placement) -> tuple[str, ...]:
    """What the gateway needs for these loads, where there are some; the request decides about its workers."""
    mine = [placed.candidate.prospect for placed in placement.engines]
    streams = [
        Stream(
            requests_per_second=prospect.likely.requests_per_second,
            output_tokens=prospect.demand.output.mean_tokens,
            tpot_seconds=prospect.likely.tpot_seconds.p50,
        )
        for prospect in mine
        if prospect is not None
    ]
    if not streams:
        return ()
    loads = gateway_loads(streams, Streaming())
    chosen = next(one for one in loads if one.chosen)
    return (
        f"gateway: gateway_workers {chosen.workers} would do with stream-interval {chosen.interval_tokens} "
        f"({chosen.pieces_per_second:,.0f} pieces a second), {loads[0].workers} with every token on its own",
    )


def _pools(request: ModelRequest, hardware: Mapping[str, Hardware]) -> list[Pool]:
    """Equal pools of several hosts as one."""
    counts: dict[tuple[object, ...], list[Pool]] = {}
    for host, measured in sorted(hardware.items()):
        for pool in pools_of(measured) if request.hosts is None or host in request.hosts else ():
            counts.setdefault((pool.device, pool.island_sizes, pool.joinable), []).append(pool)
    return [replace(many[0], host_count=len(many)) for many in counts.values()]


def _most(pool: Pool) -> int:
    return pool.device_count * pool.host_count


def _distance(candidate: Candidate) -> float:
    """The least too slow first; what memory refuses last."""
    return candidate.shortfall_ratio or float("inf")

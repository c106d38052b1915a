"""Site wish: what one engine of a requested model must offer, from the site's request.

With a `load` the engine gets its share of it, and must be fast enough; without one, memory alone decides.
"""

from sizing.arrivals import Lengths
from sizing.demand import Demand, Objectives, check_demand
from sizing.request import ModelRequest, Objective, Quality
from sizing.units import ceil_div
from sizing.wish import Wish


def wish_of(request: ModelRequest, *, objective: Objective, quality: Quality) -> Wish:
    """What one of the request's engines must offer."""
    demand = demand_of(request)
    if demand is not None:
        return Wish(
            context_tokens=request.context_tokens,
            users_count=ceil_div(demand.users_count or 1, request.replicas),
            objective=objective,
            quality=quality,
            request_tokens=demand.prompt.mean_tokens + demand.output.mean_tokens,
            demand=demand.share(request.replicas),
        )
    return Wish(
        context_tokens=request.context_tokens,
        users_count=ceil_div(request.users, request.replicas),
        objective=objective,
        quality=quality,
    )


def demand_of(request: ModelRequest) -> Demand | None:
    """The load on all engines of a model; raises SizingError for one that nobody can mean."""
    load = request.load
    if load is None:
        return None
    demand = Demand(
        prompt=Lengths(mean_tokens=load.prompt_tokens, spread_ratio=load.spread_ratio),
        output=Lengths(mean_tokens=load.output_tokens, spread_ratio=load.spread_ratio),
        users_count=load.users,
        people_count=load.people,
        think_seconds=load.think_seconds,
        rate_per_second=load.rate,
        prefix_hit_ratio=load.prefix_hit_ratio,
        objectives=Objectives(
            ttft_ms=load.ttft_ms, tpot_ms=load.tpot_ms, percentile=load.percentile, certainty=load.certainty
        ),
    )
    check_demand(demand, context_tokens=request.context_tokens)
    return demand.within(request.context_tokens)

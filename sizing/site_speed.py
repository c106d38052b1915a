"""Site speed: what people will feel of a site's plan, for its page: every model that states a load.

The engines of a model share its load. Where they differ, the figures are those of as many like the first, as in
sizing/forecast.py.
"""

from dataclasses import replace

from sizing.candidates import Candidate
from sizing.demand import Demand
from sizing.feel import Felt, feel_of, felt_from, with_rivals
from sizing.gateway_load import Streaming
from sizing.placement import Placement
from sizing.prospect import group_of, prospect_of
from sizing.site_wish import demand_of


def felt_at_site(placement: Placement) -> Felt | None:
    """None where no model states a load."""
    feels, weighed = {}, {}
    for one in placement.weighed:
        demand = demand_of(one.request)
        mine = [placed.candidate for placed in placement.engines if placed.request.name == one.request.name]
        if demand is None or not mine:
            continue
        feels[one.request.name] = feel_of(_together(mine[0], demand, len(mine)))
        weighed[one.request.name] = one.candidates
    return with_rivals(felt_from(feels, Streaming()), weighed) if feels else None


def _together(candidate: Candidate, demand: Demand, count: int) -> Candidate:
    """Equal engines under the whole load of their model."""
    group = group_of(candidate.configuration, candidate.answer, demand, engine_count=count)
    return replace(candidate, engine_count=count, prospect=prospect_of(group, demand))

"""Site cost: what the tokens of each model of a site cost, from request, hardware and where the engines stand."""

from collections.abc import Mapping, Sequence

from sizing.cost import CostedEngine, ModelCost, model_costs, shares_of
from sizing.costs import Costs
from sizing.demand import Demand
from sizing.errors import SizingError
from sizing.hardware import Hardware
from sizing.monthly import Machine, months_of
from sizing.placement import Placed, Placement
from sizing.plan import Choice
from sizing.request import LoadRequest, ModelRequest
from sizing.site_wish import demand_of


def has_its_price(model: ModelRequest) -> bool:
    """Whether the request states one, which then counts."""
    return bool({"input_cost_per_token", "output_cost_per_token"} & model.model_fields_set)


def cost_of_site(
    placement: Placement, hardware: Mapping[str, Hardware], costs: Costs, *, usual: tuple[int, int] | None = None
) -> tuple[ModelCost, ...]:
    """Every model of a placement but those with a price of their own and no load, which only take their share of the
    month. `usual`: tokens of prompt and answer for those whose request states no load."""
    machines = [
        Machine(name=name, gpu_names=tuple(gpu.name for gpu in measured.gpus))
        for name, measured in sorted(hardware.items())
    ]
    by_model: dict[str, list[Placed]] = {}
    for placed in placement.engines:
        by_model.setdefault(placed.request.name, []).append(placed)
    engines = [
        CostedEngine(
            model=name,
            machine=placed.host,
            device_count=len(placed.gpu_uuids) or len(placed.cpu_cores),
            candidate=placed.candidate,
            share=share,
        )
        for name, mine in by_model.items()
        for placed, share in zip(mine, _shares(mine, usual), strict=True)
    ]
    return model_costs(engines, months_of(machines, costs), costs)


def price_choices(cost: ModelCost, currency: str) -> tuple[Choice, ...]:
    """The prices as decisions of the plan."""
    because = because_of(cost, currency)
    return (
        Choice(option="input_cost_per_token", value=price_text(cost.input_price.written), because=because),
        Choice(option="output_cost_per_token", value=price_text(cost.output_price.written), because=because),
    )


def because_of(cost: ModelCost, currency: str) -> str:
    """The reason in a line."""
    return (
        f"{cost.month.total:,.2f} {currency} a month for {cost.engine_count} engines, "
        f"{cost.prompt_tokens_per_month:,.0f} prompt and {cost.output_tokens_per_month:,.0f} answer tokens with its "
        f"load in {cost.utilization_ratio:.0%} of the month; a prompt token takes {cost.prompt_seconds * 1e6:,.1f} us "
        f"of an engine, a token of the answer {cost.output_seconds * 1e6:,.1f} us"
    )


def price_text(value: float) -> str:
    """Without an exponent."""
    return f"{value:.15f}".rstrip("0").rstrip(".") or "0"


def _shares(mine: Sequence[Placed], usual: tuple[int, int] | None) -> tuple[Demand | None, ...]:
    model = mine[0].request
    if model.load is None and usual is None and has_its_price(model):
        return (None,) * len(mine)
    return shares_of(_demand(mine, usual), len(mine))


def _demand(mine: Sequence[Placed], usual: tuple[int, int] | None) -> Demand:
    model = mine[0].request
    if model.load is None and usual is not None:
        prompt, output = usual
        if prompt + output > model.context_tokens:
            raise SizingError(
                f"{model.name}: prompts of {prompt} and answers of {output} tokens do not fit its window of "
                f"{model.context_tokens}; give shorter ones"
            )
        load = LoadRequest(users=model.users, prompt_tokens=prompt, output_tokens=output)
        model = model.model_copy(update={"load": load})
    demand = demand_of(model)
    if demand is None:
        raise SizingError(
            f"{model.name}: costs are declared, but not what a request takes; give the model a load (users, "
            "prompt_tokens, output_tokens) or its prices (input_cost_per_token, output_cost_per_token)"
        )
    return demand

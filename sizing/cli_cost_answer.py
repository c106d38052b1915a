"""How the answer to "what does a token cost?" is found and printed: tables, JSON, a page."""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from rich.table import Table
from rich.text import Text

from sizing.arrivals import Lengths
from sizing.cli_console import answer, human_console, say
from sizing.cli_demand import DEFAULT_SPREAD
from sizing.cost import CostedEngine, ModelCost, Price, model_costs, shares_of
from sizing.costs import Costs
from sizing.demand import Demand, check_demand
from sizing.errors import DoesNotFit
from sizing.islands import Pool
from sizing.model_facts import load_model_facts
from sizing.monthly import Machine, Month, months_of, sum_of
from sizing.recommend import recommend
from sizing.recommend_site import place_site
from sizing.site_cost import cost_of_site, has_its_price, price_text
from sizing.wish import Wish

MILLION = 1_000_000


@dataclass(frozen=True, kw_only=True)
class CostAnswer:
    """Costs and what follows from them; `stated`: prices (prompt, answer) that the request states, which count."""

    title: str
    costs: Costs
    month: Month
    models: tuple[ModelCost, ...]
    stated: Mapping[str, tuple[float, float]]

    @classmethod
    def of_site(
        cls,
        directory: Path,
        costs_of: Callable[[Mapping[str, Any], list[str]], Costs],
        *,
        usual: tuple[int, int] | None,
    ) -> Self:
        """Where `recommend --site` would place the engines now."""
        placed = place_site(directory)
        request, hardware = placed.site.request, placed.site.hardware
        own = {} if request.costs is None else request.costs.model_dump(exclude_unset=True)
        gpu_names = sorted({gpu.name for measured in hardware.values() for gpu in measured.gpus})
        costs = costs_of(own, gpu_names)
        machines = [Machine(name=name, gpu_names=tuple(g.name for g in one.gpus)) for name, one in hardware.items()]
        return cls(
            title=f"site {request.site}",
            costs=costs,
            month=sum_of(months_of(machines, costs).values()),
            models=cost_of_site(placed.placement, hardware, costs, usual=usual),
            stated={
                model.name: (model.input_cost_per_token, model.output_cost_per_token)
                for model in request.models
                if has_its_price(model)
            },
        )

    @classmethod
    def of_host(cls, models: Sequence[str], pools: Sequence[Pool], wish: Wish, costs: Costs) -> Self:
        """The engines that `recommend` would take on the devices of one host."""
        recommended = recommend([load_model_facts(name) for name in models], pools, wish=wish)
        if recommended.unmet or wish.demand is None:
            raise DoesNotFit(recommended.unmet or "no load is stated")
        gpu_names = [pool.device.name for pool in pools for _ in range(pool.device_count) if _is_gpu(pool)]
        machine = Machine(name="this host", gpu_names=tuple(gpu_names))
        engines = [
            CostedEngine(
                model=one.model, machine=machine.name, device_count=len(devices), candidate=one.candidate, share=share
            )
            for one in recommended.ranked
            if one.devices
            for devices, share in zip(one.devices, shares_of(wish.demand, len(one.devices)), strict=True)
        ]
        months = months_of([machine], costs)
        return cls(
            title=" and ".join(f"{pool.device_count} x {pool.device.name}" for pool in pools),
            costs=costs,
            month=sum_of(months.values()),
            models=model_costs(engines, months, costs),
            stated={},
        )


def with_load(wish: Wish, *, prompt_tokens: int) -> Wish:
    """The wish with its load as a demand, where nothing was said about times."""
    if wish.demand is not None:
        return wish
    output_tokens = (wish.request_tokens or 0) - prompt_tokens
    demand = Demand(
        prompt=Lengths(mean_tokens=prompt_tokens, spread_ratio=DEFAULT_SPREAD),
        output=Lengths(mean_tokens=output_tokens, spread_ratio=DEFAULT_SPREAD),
        users_count=wish.users_count,
    )
    check_demand(demand, context_tokens=wish.context_tokens)
    return replace(wish, demand=demand.within(wish.context_tokens))


def print_costs(found: CostAnswer, *, as_json: bool, html: Path | None) -> None:
    """On stdout; the page where it was asked for."""
    if html is not None:
        from sizing.cost_page import cost_page  # noqa: PLC0415 - templates only where a page is made

        page = cost_page(found.models, found.costs, found.month, title=found.title, stated=found.stated)
        html.write_text(page, encoding="utf-8")
        say(f"page: {html}")
    if as_json:
        answer(json.dumps(_json(found), indent=2, ensure_ascii=False))
        return
    console = human_console()
    currency = found.costs.currency
    console.print(
        Text.assemble(
            (f"{found.title}: {found.month.total:,.2f} {currency} a month", "bold"),
            f"  (hardware {found.month.hardware:,.2f}, power {found.month.power:,.2f}, other {found.month.other:,.2f}; "
            f"used {found.costs.utilization_ratio:.0%} of it)",
        ),
        soft_wrap=True,
    )
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("model", overflow="fold")
    for heading in ("month", "share", "M prompt", "M answer", f"{currency}/M prompt", f"{currency}/M answer"):
        table.add_column(heading, justify="right")
    for one in found.models:
        table.add_row(
            one.model,
            f"{one.month.total:,.0f}",
            f"{one.share_ratio:.0%}",
            f"{one.prompt_tokens_per_month / MILLION:,.1f}",
            f"{one.output_tokens_per_month / MILLION:,.1f}",
            per_million(one.input_price),
            per_million(one.output_price),
        )
    console.print(table)
    for one in found.models:
        for line in lines_of(one, found.stated.get(one.model), currency):
            console.print(f"  {line}", markup=False, soft_wrap=True)


def lines_of(one: ModelCost, stated: tuple[float, float] | None, currency: str) -> list[str]:
    """What stands below the table for one model."""
    lines = [
        f"{one.model}: input_cost_per_token {price_text(one.input_price.written)}, output_cost_per_token "
        f"{price_text(one.output_price.written)} ({one.provenance}; {one.demand.text()} on each engine; a prompt "
        f"token takes {one.prompt_seconds * MILLION:,.1f} us of an engine, one of the answer "
        f"{one.output_seconds * MILLION:,.1f} us)"
    ]
    if stated is not None:
        back = one.prompt_tokens_per_month * stated[0] + one.output_tokens_per_month * stated[1]
        lines.append(
            f"{one.model}: the request states {price_text(stated[0])} and {price_text(stated[1])}, which count; they "
            f"bring in {back:,.2f} of {one.month.total:,.2f} {currency}"
        )
    return lines


def per_million(price: Price) -> str:
    """With its interval."""
    low, likely, high = (_short(value * MILLION) for value in (price.low, price.likely, price.high))
    return likely if low == high else f"{likely} ({low}-{high})"


def _short(value: float) -> str:
    return f"{value:,.3g}" if value < 1000 else f"{value:,.0f}"  # noqa: PLR2004 - from here on, no decimals


def _is_gpu(pool: Pool) -> bool:
    return pool.device.accelerator == "cuda"


def _json(found: CostAnswer) -> dict[str, object]:
    models = []
    for one in found.models:
        content = dataclasses.asdict(one)
        content["demand"] = one.demand.text()
        for name, price in (("input_price", one.input_price), ("output_price", one.output_price)):
            content[name]["written"] = price.written
        content["month"]["total"] = one.month.total
        content["stated"] = found.stated.get(one.model)
        models.append(content)
    month = {**dataclasses.asdict(found.month), "total": found.month.total}
    return {"title": found.title, "costs": found.costs.model_dump(mode="json"), "month": month, "models": models}

"""The verb that answers "what does a token cost?": cost, of a planned site, or of models on the devices of a host."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from sizing.cli_demand import DEFAULT_SPREAD, Said, wish_of
from sizing.cli_inputs import choose_pools, quantity
from sizing.costs import Costs
from sizing.demand import DEFAULT_PERCENTILE
from sizing.documents import read_structured_file
from sizing.errors import DocumentError

COST_EXAMPLES = """\b
Examples:
  llm-size cost --site inventories/lab
  llm-size cost --site inventories/lab --utilization 0.2 --html cost.html
  llm-size cost --model Qwen/Qwen3-32B --gpu H100-SXM:2 --users 32 --prompt-tokens 2000 --output-tokens 400 \\
      --gpu-price 28000 --host-price 20000 --host-watts 900 --years 4 --power-price 0.22 --pue 1.4 --utilization 0.35
"""


def register(app: typer.Typer) -> None:
    """Adds the verb of this module."""
    app.command("cost", epilog=COST_EXAMPLES, short_help="What does a token cost on this hardware?")(cost_command)


@dataclass(frozen=True, kw_only=True)
class SaidCosts:
    """What flags say about money; None: nothing."""

    currency: str | None
    years: float | None
    gpu_price: float | None
    gpu_watts: float | None
    host_price: float | None
    host_watts: float | None
    rent_per_month: float | None
    power_price_per_kwh: float | None
    pue: float | None
    other_per_month: float | None
    utilization_ratio: float | None

    def over(self, declared: Mapping[str, Any], gpu_names: list[str]) -> Costs:
        """The declared costs with what flags say put over them."""
        content: dict[str, Any] = {
            **declared,
            "gpus": dict(declared.get("gpus") or {}),
            "host": dict(declared.get("host") or {}),
        }
        for name in ("currency", "years", "rent_per_month", "power_price_per_kwh", "pue", "other_per_month"):
            if getattr(self, name) is not None:
                content[name] = getattr(self, name)
        if self.utilization_ratio is not None:
            content["utilization_ratio"] = self.utilization_ratio
        for name, value in (("price", self.host_price), ("power_watts", self.host_watts)):
            if value is not None:
                content["host"][name] = value
        for gpu in gpu_names:
            for name, value in (("price", self.gpu_price), ("power_watts", self.gpu_watts)):
                if value is not None:
                    content["gpus"][gpu] = {"price": 0.0, **(content["gpus"].get(gpu) or {}), name: value}
        if "utilization_ratio" not in content:
            raise DocumentError(
                "costs: nothing says which share of the capacity is really used; give utilization_ratio (--utilization)"
            )
        return Costs.parse(content, origin="costs")


def cost_command(
    *,
    site: Annotated[
        Path | None, typer.Option(metavar="DIRECTORY", help="An inventory directory: all its models.")
    ] = None,
    model: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="Repeatable: models that share the host.")
    ] = None,
    gpu: Annotated[str | None, typer.Option(metavar="NAME[:COUNT]", help="A GPU of the catalogue.")] = None,
    hardware: Annotated[Path | None, typer.Option(metavar="FILE", help="What `llm-size probe` measured.")] = None,
    context: Annotated[str | None, typer.Option(metavar="TOKENS", help="Window: prompt and answer.")] = None,
    users: Annotated[int | None, typer.Option(metavar="N", min=1, help="Requests in flight, of each model.")] = None,
    people: Annotated[int | None, typer.Option(metavar="N", help="People, with --think-seconds.")] = None,
    think_seconds: Annotated[float | None, typer.Option(metavar="S", help="Between two questions of a person.")] = None,
    rate: Annotated[float | None, typer.Option(metavar="R", help="Requests per second, of each model.")] = None,
    prompt_tokens: Annotated[
        str | None, typer.Option(metavar="TOKENS", help="Of a usual request; with --site for models without a load.")
    ] = None,
    output_tokens: Annotated[str | None, typer.Option(metavar="TOKENS")] = None,
    prefix_hits: Annotated[
        float, typer.Option(metavar="RATIO", help="Share of each prompt that the prefix cache has.")
    ] = 0.0,
    costs: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The `costs` of a request.yml as a file, or a --prices file.")
    ] = None,
    gpu_price: Annotated[float | None, typer.Option(metavar="PRICE", help="Of each GPU.")] = None,
    gpu_watts: Annotated[
        float | None, typer.Option(metavar="W", help="Of each GPU. Default: the board's most.")
    ] = None,
    host_price: Annotated[float | None, typer.Option(metavar="PRICE", help="Of each engine host without GPUs.")] = None,
    host_watts: Annotated[float | None, typer.Option(metavar="W", help="Of each engine host without GPUs.")] = None,
    rent_per_month: Annotated[
        float | None, typer.Option(metavar="RENT", help="Of all engine hosts, instead of purchase.")
    ] = None,
    years: Annotated[float | None, typer.Option(metavar="N", help="Over which purchase is written off.")] = None,
    power_price: Annotated[float | None, typer.Option(metavar="PRICE", help="Per kWh.")] = None,
    pue: Annotated[
        float | None, typer.Option(metavar="RATIO", help="Power of the building per power of hosts.")
    ] = None,
    other_per_month: Annotated[float | None, typer.Option(metavar="COST", help="People, space, network.")] = None,
    utilization: Annotated[
        float | None, typer.Option(metavar="RATIO", help="Share of the month in which the load is there.")
    ] = None,
    currency: Annotated[str | None, typer.Option(metavar="NAME")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The answer as JSON on stdout.")] = False,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write one page with charts.")] = None,
) -> int:
    """What does a token cost on this hardware?

    The month of the hardware is shared by the models and divided by what they serve in a month of their load times
    the utilization. Nothing is written; `recommend --site ... --write` writes the prices into the plan where
    request.yml has `costs`.
    """
    said = SaidCosts(
        currency=currency,
        years=years,
        gpu_price=gpu_price,
        gpu_watts=gpu_watts,
        host_price=host_price,
        host_watts=host_watts,
        rent_per_month=rent_per_month,
        power_price_per_kwh=power_price,
        pue=pue,
        other_per_month=other_per_month,
        utilization_ratio=utilization,
    )
    declared = _declared(costs)
    if (prompt_tokens is None) != (output_tokens is None):
        raise typer.BadParameter("--prompt-tokens and --output-tokens belong together")
    from sizing.cli_cost_answer import CostAnswer, print_costs, with_load  # noqa: PLC0415 - tables only where there is an answer

    if site is not None:
        if any((model, gpu, hardware, context, users, people, think_seconds, rate, prefix_hits)):
            raise typer.BadParameter("--site reads models, hardware and loads from the site; give no other option")
        usual = None
        if prompt_tokens is not None and output_tokens is not None:
            usual = quantity(prompt_tokens), quantity(output_tokens)
        answered = CostAnswer.of_site(site, lambda own, gpus: said.over({**own, **declared}, gpus), usual=usual)
    else:
        if not model:
            raise typer.BadParameter("give --model (repeatable) or --site")
        if prompt_tokens is None:
            raise typer.BadParameter("what a token costs depends on lengths: give --prompt-tokens and --output-tokens")
        wish = with_load(
            wish_of(
                Said(
                    context=context,
                    users=users,
                    people=people,
                    think_seconds=think_seconds,
                    rate=rate,
                    prompt_tokens=prompt_tokens,
                    output_tokens=output_tokens,
                    ttft_ms=None,
                    tpot_ms=None,
                    percentile=DEFAULT_PERCENTILE,
                    certainty="likely",
                    spread=DEFAULT_SPREAD,
                    prefix_hits=prefix_hits,
                    trace=None,
                ),
                objective="throughput",
                quality="strict",
            ),
            prompt_tokens=quantity(prompt_tokens),
        )
        pools = choose_pools(gpu=gpu, hardware=hardware, co_tenants_stay=True)
        names = [pool.device.name for pool in pools if pool.device.accelerator == "cuda"]
        answered = CostAnswer.of_host(
            tuple(dict.fromkeys(model)), pools, wish, said.over(declared, list(dict.fromkeys(names)))
        )
    print_costs(answered, as_json=as_json, html=html)
    return 0


def _declared(path: Path | None) -> Mapping[str, Any]:
    if path is None:
        return {}
    content = read_structured_file(path)
    if not isinstance(content, dict):
        raise DocumentError(f"{path}: expected the costs as names and values")
    inner = content.get("costs", content)
    return inner if isinstance(inner, dict) else {}

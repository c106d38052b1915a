"""The verb routing: what the gateway does with requests, for people and for the gateway role."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from sizing.cli_console import answer, human_console
from sizing.gateway_routes import gateway_routes
from sizing.providers import load_providers
from sizing.routing import load_routing
from sizing.site import load_plan, load_request

EXAMPLES = """\b
Examples:
  llm-size routing inventories/lab
  llm-size routing inventories/lab --json
"""


def register(app: typer.Typer) -> None:
    """Adds the verb of this module."""
    app.command("routing", epilog=EXAMPLES, short_help="Which models does the gateway serve, from where?")(
        routing_command
    )


def routing_command(
    site: Annotated[Path, typer.Argument(metavar="SITE", help="An inventory directory.")],
    as_json: Annotated[bool, typer.Option("--json", help="As the gateway role takes it.")] = False,
) -> None:
    """Which models does the gateway serve, from where? From request, plan, providers.yml and routing.yml of a site."""
    request, providers, routing = load_request(site), load_providers(site), load_routing(site)
    routes = gateway_routes(request, load_plan(site), providers, routing)
    if as_json:
        answer(routes.model_dump_json(indent=2))
        return
    strategies = {group.group_name: group.routing_strategy for group in routes.routing_groups}
    chains = {name: chain for entry in routes.fallbacks for name, chain in entry.items()}
    places = {model.name: "our engines" for model in request.models}
    places |= {
        model.name: ", ".join(f"{one.name} ({'inside' if one.inside else 'outside'})" for _, one in there)
        for model, there in providers.served()
    }
    rows = Table("model", "from", "strategy", "falls back to", "data")
    for name, place in places.items():
        strategy = "relay" if place == "our engines" else strategies.get(name, request.routing.strategy)
        fallbacks = ", ".join(chains.get(name, routes.default_fallbacks)) or "-"
        rows.add_row(name, place, strategy, fallbacks, "internal" if name in routes.fence.internal else "any")
    human_console().print(rows)

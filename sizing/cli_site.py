"""The verbs about a planned site: check, explain."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from rich.table import Table
from rich.text import Text

from sizing.access import load_access
from sizing.alerts import load_alerts
from sizing.audit import load_audit
from sizing.caching import load_caching
from sizing.cli_console import answer, complain, human_console
from sizing.errors import SizingError
from sizing.explain import explain
from sizing.gateway_routes import data_classes, gateway_routes, served_names
from sizing.guardrails import load_guardrails
from sizing.providers import load_providers
from sizing.routing import load_routing
from sizing.site import check_freshness, load_plan, load_site
from sizing.tracing import load_tracing

CHECK_EXAMPLES = """\b
Examples:
  llm-size check inventories/lab
"""

EXPLAIN_EXAMPLES = """\b
Examples:
  llm-size explain --site inventories/lab
  llm-size explain --site inventories/lab --engine tiny-qwen3 --json
"""

Answer = TypeVar("Answer")

SiteOption = Annotated[Path, typer.Option("--site", metavar="DIRECTORY", help="An inventory directory.")]


def register(app: typer.Typer) -> None:
    """Adds the verbs of this module."""
    app.command("check", epilog=CHECK_EXAMPLES, short_help="Do all documents of a site agree?")(check_command)
    app.command("explain", epilog=EXPLAIN_EXAMPLES, short_help="How did each number of the plan come about?")(
        explain_command
    )


def check_command(site: Annotated[Path, typer.Argument(metavar="SITE", help="An inventory directory.")]) -> int:
    """Do all documents of a site agree? One line on stderr for each problem, exit code 2."""
    problems: list[SizingError] = []
    loaded = _tried(lambda: load_site(site), problems)
    plan = _tried(lambda: load_plan(site), problems)
    if loaded is not None and plan is not None:
        _tried(lambda: check_freshness(loaded, plan), problems)
    providers = _tried(lambda: load_providers(site), problems)
    routing = _tried(lambda: load_routing(site), problems)
    access = _tried(lambda: load_access(site), problems)
    if loaded is not None and providers is not None and routing is not None:
        keys, served = loaded.provider_keys, served_names(loaded.request, providers, routing)
        _tried(lambda: providers.check_keys(keys), problems)
        if plan is not None:
            request, made = loaded.request, plan
            _tried(lambda: gateway_routes(request, made, providers, routing), problems)
        if access is not None:
            _tried(lambda: access.check_models(served), problems)
    _tried(lambda: load_alerts(site), problems)
    _tried(lambda: load_audit(site), problems)
    caching = _tried(lambda: load_caching(site), problems)
    aliases = {key.alias for key in access.keys} if access is not None else None
    if caching is not None and loaded is not None:
        _tried(lambda: caching.check(gateway_hosts=len(loaded.groups["gateway"]), aliases=aliases), problems)
    tracing = _tried(lambda: load_tracing(site), problems)
    guardrails = _tried(lambda: load_guardrails(site), problems)
    if guardrails is not None:
        traced = next((one.name for one in tracing.receivers if one.content), None) if tracing is not None else None
        _tried(lambda: guardrails.check(aliases=aliases, traced=traced), problems)
    if tracing is not None and loaded is not None and providers is not None:
        keys, served_by = loaded.tracing_keys, data_classes(loaded.request, providers)
        internal = {name for name, is_internal in served_by.items() if is_internal}
        _tried(lambda: tracing.check(keys=keys, models=served_by, internal=internal), problems)
    for problem in problems:
        complain(problem)
    if problems:
        return max(problem.exit_code for problem in problems)
    if loaded is not None and plan is not None:
        engine_count = sum(1 for _ in plan.engines())
        what = f"{engine_count} engines behind {len(plan.gateway.relays)} relays"
        words = f"{site}: request, hardware of {', '.join(loaded.hardware)} and plan ({what}) agree"
        if providers is not None and (others := len(list(providers.served()))):
            words += f"; {others} further models are declared"
        if access is not None:
            words += f"; access declares {len(access.teams)} teams and {len(access.keys)} keys"
        answer(words)
    return 0


def explain_command(
    site: SiteOption,
    engine: Annotated[str | None, typer.Option(metavar="NAME", help="Only engines of this name.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON on stdout.")] = False,
) -> None:
    """How did each number of the plan come about?"""
    explained = [one for one in explain(load_plan(site)) if engine in (None, one.engine)]
    if not explained:
        raise SizingError(f"the plan of {site} has no engine {engine}")
    if as_json:
        answer(json.dumps([dataclasses.asdict(one) for one in explained], indent=2, ensure_ascii=False))
        return
    console = human_console()
    for one in explained:
        console.print(Text.assemble((f"{one.host} / {one.engine}", "bold"), f" serves {one.model}"))
        table = Table.grid(padding=(0, 2))
        table.add_column(no_wrap=True)
        table.add_column(justify="right", overflow="fold")
        table.add_column(style="dim", overflow="fold")
        for reason in one.reasons:
            table.add_row(f"  {reason.name}", reason.value, reason.because)
        console.print(table)
        for reason in one.choices:
            console.print(
                Text.assemble("  chosen: ", (f"{reason.name} {reason.value}", "green"), f": {reason.because}"),
                soft_wrap=True,
            )
        for reason in one.rejected:
            console.print(Text(f"  not: {reason.name}: {reason.because}", style="dim"), soft_wrap=True)


def _tried(act: Callable[[], Answer], problems: list[SizingError]) -> Answer | None:
    try:
        return act()
    except SizingError as error:
        problems.append(error)
        return None

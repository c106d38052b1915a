"""Command line of the failover suite on a whole site of lab hosts."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from benchmarks import suite_options as given
from benchmarks.errors import BadLoad
from benchmarks.failover.arrangements import chosen, line_of
from benchmarks.failover.cli import FAULTS
from benchmarks.failover.control import measured
from benchmarks.failover.lab import Lab, gateway_spend, relay_ledgers
from benchmarks.failover.lab_faults import Ground, lab_faults
from benchmarks.load import Lengths, Target, Workload
from benchmarks.result import SuiteResult
from benchmarks.running import Runner
from benchmarks.suite_carry_out import carry_out, tell
from benchmarks.suites.failover import Conditions, failover
from benchmarks.validity import Capacity
from sizing.plan import Plan, PlannedModel
from sizing.site import load_plan

SITE = "Site"


def failover_lab_command(
    *,
    host: given.Host,
    model_name: given.ModelName,
    site: Annotated[Path, typer.Option(help="the site's directory: inventories/NAME", rich_help_panel=SITE)],
    database_host: Annotated[str, typer.Option(help="host of PostgreSQL and Redis", rich_help_panel=SITE)],
    database: Annotated[str, typer.Option(help="LiteLLM's database", rich_help_panel=SITE)] = "litellm",
    lab: Annotated[Path | None, typer.Option(help="the lab's program", rich_help_panel=SITE)] = None,
    rolling_command: Annotated[
        str | None,
        typer.Option(help="command that restarts everything in turn, for that fault", rich_help_panel=FAULTS),
    ] = None,
    fault: Annotated[
        list[str] | None,
        typer.Option(help="only faults whose name contains this; may be repeated", rich_help_panel=FAULTS),
    ] = None,
    reference: Annotated[
        bool, typer.Option(help="hold texts against two undisturbed runs of the same load", rich_help_panel=FAULTS)
    ] = True,
    repeats: Annotated[int, typer.Option(min=1, help="runs per fault", rich_help_panel=FAULTS)] = 1,
    inject_at: Annotated[float, typer.Option(help="second at which it strikes", rich_help_panel=FAULTS)] = 10.0,
    heal_at: Annotated[float, typer.Option(help="second at which it is mended", rich_help_panel=FAULTS)] = 40.0,
    rate: Annotated[float, typer.Option(help="requests/s", rich_help_panel=given.WHAT)] = 2.0,
    duration: Annotated[float, typer.Option(help="seconds during which requests start")] = 60.0,
    unstreamed: Annotated[
        float, typer.Option(min=0, max=1, help="share of requests for one whole answer", rich_help_panel=given.WHAT)
    ] = 0.2,
    prompt_tokens: given.PromptTokens = 64,
    output_tokens: given.OutputTokens = 100,
    spread: given.Spread = 0.3,
    ignore_eos: given.IgnoreEos = True,
    key_variable: given.KeyVariable = "LLM_API_KEY",
    ca_file: given.CaFile = None,
    output: given.Output = None,
    json_output: given.Json = False,
) -> None:
    """What do clients of a whole site see while its hosts break? Run it in the lab's network:
    `tests/lab/lab net -- .venv/bin/python -m benchmarks suite failover-lab ...`"""
    plan = load_plan(site)
    ground = Ground(
        lab=Lab(program=lab.resolve()) if lab else Lab(),
        plan=plan,
        model=_model(plan, model_name),
        database_host=database_host,
        repeats=repeats,
        rolling_command=shlex.split(rolling_command or ""),
    )
    conditions = Conditions(
        workload=Workload(
            language="mixed",
            prompt=Lengths(mean_tokens=prompt_tokens, spread_ratio=spread),
            output=Lengths(mean_tokens=output_tokens, spread_ratio=spread),
            unstreamed_ratio=unstreamed,
            ignore_eos=ignore_eos,
        ),
        rate_per_second=rate,
        seconds=duration,
        inject_at_seconds=inject_at,
        heal_at_seconds=heal_at,
    )
    target = given.target(host, model_name, key_variable, ca_file)
    manner = given.Manner(output=output, processes=1, calibrate=False, json=json_output)
    code = carry_out(
        "failover",
        lambda run, capacity: _carry_out(run, capacity, target, ground, conditions, fault or [], database, reference),
        manner=manner,
        inline=True,
    )
    raise typer.Exit(code)


def _carry_out(  # noqa: PLR0917  handed through
    run: Runner,
    capacity: Capacity | None,
    target: Target,
    ground: Ground,
    conditions: Conditions,
    words: list[str],
    database: str,
    reference: bool,
) -> SuiteResult:
    faults = chosen(lab_faults(ground), words)
    return failover(
        run,
        target,
        faults=faults,
        conditions=conditions,
        control=measured(run, conditions.load(target, name="failover")) if reference else None,
        books=[
            relay_ledgers(ground.lab, ground.plan.gateway.hosts),
            gateway_spend(ground.lab, database_host=ground.database_host, database=database),
        ],
        capacity=capacity,
        tell=lambda found: tell(line_of(found)),
    )


def _model(plan: Plan, name: str) -> PlannedModel:
    for model in plan.models:
        if model.name == name:
            return model
    raise BadLoad(f"the plan has no model {name}; there are {', '.join(model.name for model in plan.models)}")

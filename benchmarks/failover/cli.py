"""Command line of the failover suite: which engines, what stands before them, how they are broken."""

import os
from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from benchmarks import suite_options as given
from benchmarks.errors import BadLoad
from benchmarks.failover import loopback
from benchmarks.failover.arrangements import Arrangement, side_by_side
from benchmarks.failover.faults import Trial
from benchmarks.failover.vllm_process import VllmSettings
from benchmarks.load import Lengths, Workload
from benchmarks.suite_carry_out import carry_out, tell
from benchmarks.suites.failover import Conditions

ENGINES = "Engines"
FAULTS = "Faults"


class Kind(StrEnum):
    """What is broken."""

    fault = "fault"
    vllm = "vllm"


def failover_command(
    *,
    engine_kind: Annotated[
        Kind, typer.Option("--engines", help="fault: fault engines; vllm: real ones", rich_help_panel=ENGINES)
    ] = Kind.fault,
    count: Annotated[int, typer.Option(min=2, help="replicas", rich_help_panel=ENGINES)] = 2,
    itl_ms: Annotated[float, typer.Option(help="a fault engine's time per token", rich_help_panel=ENGINES)] = 50.0,
    vllm: Annotated[Path | None, typer.Option(help="vLLM's program, bin/vllm", rich_help_panel=ENGINES)] = None,
    model_directory: Annotated[Path | None, typer.Option(help="what vLLM serves", rich_help_panel=ENGINES)] = None,
    max_model_len: Annotated[int, typer.Option(help="of real engines", rich_help_panel=ENGINES)] = 2048,
    beside: Annotated[
        Path | None,
        typer.Option(
            help="LiteLLM's program, bin/litellm: the same faults with LiteLLM's defaults straight before the engines",
            rich_help_panel=ENGINES,
        ),
    ] = None,
    gateway: Annotated[
        bool,
        typer.Option("--gateway", help="LiteLLM, set as the role sets it, before the relay", rich_help_panel=ENGINES),
    ] = False,
    fault: Annotated[
        list[str] | None,
        typer.Option(help="only faults whose name contains this; may be repeated", rich_help_panel=FAULTS),
    ] = None,
    repeats: Annotated[
        int, typer.Option(min=1, help="runs per fault; engines are broken in turn", rich_help_panel=FAULTS)
    ] = 1,
    inject_at: Annotated[float, typer.Option(help="second at which it strikes", rich_help_panel=FAULTS)] = 8.0,
    heal_at: Annotated[float, typer.Option(help="second at which it is mended", rich_help_panel=FAULTS)] = 15.0,
    stall_seconds: Annotated[float, typer.Option(help="the relay's stall timer", rich_help_panel=FAULTS)] = 2.0,
    rate: Annotated[float, typer.Option(help="requests/s", rich_help_panel=given.WHAT)] = 20.0,
    duration: Annotated[float, typer.Option(help="seconds during which requests start")] = 20.0,
    unstreamed: Annotated[
        float, typer.Option(min=0, max=1, help="share of requests for one whole answer", rich_help_panel=given.WHAT)
    ] = 0.2,
    language: given.Language = "mixed",
    prompt_tokens: given.PromptTokens = 64,
    output_tokens: given.OutputTokens = 60,
    spread: given.Spread = 0.3,
    ignore_eos: given.IgnoreEos = False,
    output: given.Output = None,
    calibrate: given.Calibrate = False,
    json_output: given.Json = False,
) -> None:
    """What do clients see while something breaks? A relay before engines of this machine, broken fault by fault."""
    conditions = Conditions(
        workload=Workload(
            language=given.workload(
                language=language, prompt_tokens=prompt_tokens, output_tokens=output_tokens, spread=spread
            ).language,
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
    if gateway and beside is None:
        raise BadLoad("--gateway needs LiteLLM's program: --beside")
    key = os.environ[loopback.KEY_VARIABLE] = loopback.fresh_key()
    directory = (output or Path("results") / "failover").resolve()
    if (directory / "processes").exists():
        raise BadLoad(f"{directory}: holds a run already; name another --output")
    with ExitStack() as stack:
        if engine_kind is Kind.fault:
            running = stack.enter_context(loopback.fault_engines(count, key=key, pace={"itl_ms": itl_ms}))
            model, window = loopback.FAULT_MODEL, loopback.FAULT_MODEL_LEN
        else:
            if vllm is None or model_directory is None:
                raise BadLoad("--engines vllm needs --vllm and --model-directory")
            model, window = model_directory.name, max_model_len
            settings = VllmSettings(
                program=vllm, model_directory=model_directory.resolve(), served_model_name=model,
                max_model_len=window, key=key, log_directory=directory / "processes",
            )  # fmt: skip
            cores = [str(number % (os.cpu_count() or 1)) for number in range(count)]
            running = stack.enter_context(loopback.vllm_engines(settings, cores))
        arrangement = Arrangement(
            model=model, max_model_len=window, key=key, engines=running, litellm=beside,
            trial=Trial(stall_seconds=stall_seconds, repeats=repeats), words=fault or [], whole_gateway=gateway,
        )  # fmt: skip
        manner = given.Manner(output=directory, processes=1, calibrate=calibrate, json=json_output)
        code = carry_out(
            "failover",
            lambda run, capacity: side_by_side(
                run, directory / "processes", arrangement, conditions, capacity=capacity, tell=tell
            ),
            manner=manner,
            inline=True,
        )
    raise typer.Exit(code)

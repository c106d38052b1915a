"""Command line of the suites: `python -m benchmarks suite NAME`. Options in, one call, exit code out."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from benchmarks import suite_options as given
from benchmarks.errors import BadLoad
from benchmarks.failover.cli import failover_command
from benchmarks.failover.cli_crowd import crowd_command
from benchmarks.failover.cli_lab import failover_lab_command
from benchmarks.load import Target
from benchmarks.probes import EngineLogContains, MemoryOf, command_finds, command_tells_memory, log_files_contain
from benchmarks.probes import memory_of as memory_of_processes
from benchmarks.suite_carry_out import carry_out, tell
from benchmarks.suites.context import context
from benchmarks.suites.gateway_overhead import gateway_overhead
from benchmarks.suites.gateway_scaling import Scaling
from benchmarks.suites.smoke import smoke
from benchmarks.suites.soak import soak
from benchmarks.suites.throughput import throughput

suites = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="One question each, answered with numbers. Exit 0: passed, 1: failed, 2: wrong options, 7: the client was "
    "overloaded and the numbers say nothing.",
)
KEY = "LLM_API_KEY"
RETRIES = 2
suites.command("failover")(failover_command)
suites.command("crowd")(crowd_command)
suites.command("failover-lab")(failover_lab_command)


@suites.command("smoke")
def smoke_command(
    *,
    host: given.Host,
    model_name: given.ModelName,
    key_variable: given.KeyVariable = KEY,
    ca_file: given.CaFile = None,
    rate: Annotated[float, typer.Option(help="requests/s")] = 1.0,
    duration: Annotated[float, typer.Option(help="seconds during which requests start")] = 60.0,
    slo_ttft_ms: given.SloTtft = None,
    slo_tpot_ms: given.SloTpot = None,
    slo_e2e_ms: given.SloE2e = None,
    output: given.Output = None,
    processes: given.Processes = 1,
    calibrate: given.Calibrate = True,
    retries: given.Retries = RETRIES,
    json_output: given.Json = False,
) -> None:
    """Does the site answer every request, with whole and unmixed texts? A minute."""
    where = given.target(host, model_name, key_variable, ca_file)
    goal = given.objective(slo_ttft_ms, slo_tpot_ms, slo_e2e_ms)
    manner = given.Manner(output=output, processes=processes, calibrate=calibrate, retries=retries, json=json_output)
    code = carry_out(
        "smoke",
        lambda run, capacity: smoke(
            run, where, seconds=duration, rate_per_second=rate, objective=goal, capacity=capacity
        ),
        manner=manner,
    )
    raise typer.Exit(code)


@suites.command("throughput")
def throughput_command(
    *,
    host: given.Host,
    model_name: given.ModelName,
    key_variable: given.KeyVariable = KEY,
    ca_file: given.CaFile = None,
    first_rate: Annotated[float, typer.Option(help="requests/s to begin with; climbs by half")] = 1.0,
    duration: Annotated[float, typer.Option(help="seconds per run")] = 60.0,
    warmup: Annotated[float, typer.Option(help="seconds left out at the start of each run")] = 15.0,
    repeats: Annotated[int, typer.Option(min=1, help="runs per rate")] = 3,
    halvings: Annotated[int, typer.Option(min=0, help="steps towards the edge after the climb")] = 2,
    agreed_tokens_per_second: Annotated[float | None, typer.Option(help="fail below this output")] = None,
    language: given.Language = "en",
    prompt_tokens: given.PromptTokens = 128,
    output_tokens: given.OutputTokens = 64,
    spread: given.Spread = 0.3,
    shared_prefix: given.SharedPrefix = 0.0,
    turns: given.Turns = 1,
    ignore_eos: given.IgnoreEos = False,
    tokenizer: given.Tokenizer = None,
    slo_ttft_ms: given.SloTtft = None,
    slo_tpot_ms: given.SloTpot = None,
    slo_e2e_ms: given.SloE2e = None,
    output: given.Output = None,
    processes: given.Processes = 1,
    calibrate: given.Calibrate = True,
    retries: given.Retries = RETRIES,
    json_output: given.Json = False,
) -> None:
    """How much does the site sustain before its queue grows?"""
    _longer_than_warm_up(duration, warmup)
    where = given.target(host, model_name, key_variable, ca_file)
    what = given.workload(
        language=language, prompt_tokens=prompt_tokens, output_tokens=output_tokens, spread=spread,
        shared_prefix=shared_prefix, turns=turns, ignore_eos=ignore_eos, tokenizer=tokenizer,
    )  # fmt: skip
    goal = given.objective(slo_ttft_ms, slo_tpot_ms, slo_e2e_ms)
    manner = given.Manner(output=output, processes=processes, calibrate=calibrate, retries=retries, json=json_output)
    code = carry_out(
        "throughput",
        lambda run, capacity: throughput(
            run, where, workload=what, first_rate=first_rate, seconds=duration, warmup_seconds=warmup, repeats=repeats,
            halvings=halvings, objective=goal, agreed_tokens_per_second=agreed_tokens_per_second, capacity=capacity,
            tell=tell,
        ),
        manner=manner,
    )  # fmt: skip
    raise typer.Exit(code)


@suites.command("gateway_overhead")
def gateway_overhead_command(
    *,
    host: given.Host,
    engine_host: Annotated[str, typer.Option(help="base URL of the engine behind it", rich_help_panel=given.WHERE)],
    model_name: given.ModelName,
    engine_model_name: Annotated[
        str | None, typer.Option(help="the engine's own name of the model", rich_help_panel=given.WHERE)
    ] = None,
    key_variable: given.KeyVariable = KEY,
    engine_key_variable: Annotated[
        str, typer.Option(help="environment variable with the engine's key", rich_help_panel=given.WHERE)
    ] = "VLLM_API_KEY",
    ca_file: given.CaFile = None,
    rate: Annotated[float, typer.Option(help="requests/s that both sides sustain")] = 1.0,
    pairs: Annotated[int, typer.Option(min=2, help="pairs of runs, in the order A B B A")] = 6,
    duration: Annotated[float, typer.Option(help="seconds per run")] = 20.0,
    warmup: Annotated[float, typer.Option(help="seconds left out at the start of each run")] = 2.0,
    agreed_ttft_ms: Annotated[float | None, typer.Option(help="fail if more is added to TTFT p50")] = None,
    agreed_itl_ms: Annotated[float | None, typer.Option(help="fail if more is added to ITL p50")] = None,
    workers: Annotated[
        list[str] | None,
        typer.Option(help="N=URL: a gateway with N workers, for chunks/s per worker; give 1=... and 2=... or more"),
    ] = None,
    scaling_rounds: Annotated[int, typer.Option(min=2, help="rounds over these gateways")] = 3,
    language: given.Language = "en",
    prompt_tokens: given.PromptTokens = 128,
    output_tokens: given.OutputTokens = 64,
    spread: given.Spread = 0.0,
    output: given.Output = None,
    processes: given.Processes = 1,
    calibrate: given.Calibrate = True,
    retries: given.Retries = RETRIES,
    json_output: given.Json = False,
) -> None:
    """What does the way through the gateway add, and how much passes through one worker, and through more?"""
    _longer_than_warm_up(duration, warmup)
    gateway = given.target(host, model_name, key_variable, ca_file)
    engine = given.target(engine_host, engine_model_name or model_name, engine_key_variable, ca_file)
    what = given.workload(language=language, prompt_tokens=prompt_tokens, output_tokens=output_tokens, spread=spread)
    gateways = _gateways(workers or [], gateway)
    scaled = Scaling(gateways=gateways, engine=engine, workload=what, rounds=scaling_rounds) if gateways else None
    manner = given.Manner(output=output, processes=processes, calibrate=calibrate, retries=retries, json=json_output)
    code = carry_out(
        "gateway_overhead",
        lambda run, capacity: gateway_overhead(
            run, gateway=gateway, engine=engine, workload=what, rate_per_second=rate, pairs=pairs, seconds=duration,
            warmup_seconds=warmup, agreed_ttft_ms=agreed_ttft_ms, agreed_itl_ms=agreed_itl_ms, scaled=scaled,
            capacity=capacity,
        ),
        manner=manner,
    )  # fmt: skip
    raise typer.Exit(code)


@suites.command("context")
def context_command(
    *,
    host: given.Host,
    model_name: given.ModelName,
    max_input_tokens: Annotated[int, typer.Option(min=100, help="longest prompt that is promised")],
    window_tokens: Annotated[int, typer.Option(min=200, help="prompt and answer together")],
    tokenizer: given.Tokenizer = None,
    engine_log: Annotated[
        list[Path] | None, typer.Option(help="log file of an engine on this machine; one option per engine")
    ] = None,
    engine_log_command: Annotated[
        str | None,
        typer.Option(help="command that is given a request id and exits 0 if an engine logged it, 1 if none did"),
    ] = None,
    key_variable: given.KeyVariable = KEY,
    ca_file: given.CaFile = None,
    output: given.Output = None,
    calibrate: given.Calibrate = True,
    retries: given.Retries = RETRIES,
    json_output: given.Json = False,
) -> None:
    """Does the window hold what was promised, and is what passes it refused before an engine sees it?"""
    where = given.target(host, model_name, key_variable, ca_file)
    logs = _engine_logs(engine_log or [], engine_log_command)
    manner = given.Manner(output=output, processes=1, calibrate=calibrate, retries=retries, json=json_output)
    code = carry_out(
        "context",
        lambda run, capacity: context(
            run, where, max_input_tokens=max_input_tokens, window_tokens=window_tokens,
            tokenizer=tokenizer.resolve() if tokenizer else None,
            engine_log_contains=logs, capacity=capacity,
        ),
        manner=manner,
    )  # fmt: skip
    raise typer.Exit(code)


@suites.command("soak")
def soak_command(
    *,
    host: given.Host,
    model_name: given.ModelName,
    rate: Annotated[float, typer.Option(help="requests/s that the site sustains easily")] = 1.0,
    duration: Annotated[float, typer.Option(help="seconds during which requests start")] = 3600.0,
    warmup: Annotated[float, typer.Option(help="seconds left out at the start")] = 60.0,
    watch: Annotated[
        list[str] | None, typer.Option(help="NAME=PID: a process of this machine whose memory must not grow")
    ] = None,
    watch_command: Annotated[
        str | None, typer.Option(help="command that prints a JSON object: bytes of memory per service")
    ] = None,
    watch_every: Annotated[float, typer.Option(help="seconds between looks at memory")] = 10.0,
    key_variable: given.KeyVariable = KEY,
    ca_file: given.CaFile = None,
    language: given.Language = "mixed",
    prompt_tokens: given.PromptTokens = 128,
    output_tokens: given.OutputTokens = 64,
    spread: given.Spread = 0.3,
    turns: given.Turns = 1,
    output: given.Output = None,
    processes: given.Processes = 1,
    calibrate: given.Calibrate = True,
    retries: given.Retries = 0,
    json_output: given.Json = False,
) -> None:
    """Does latency or memory grow while the load stays the same?"""
    _longer_than_warm_up(duration, warmup)
    where = given.target(host, model_name, key_variable, ca_file)
    what = given.workload(
        language=language, prompt_tokens=prompt_tokens, output_tokens=output_tokens, spread=spread, turns=turns
    )
    memory = _memory(watch or [], watch_command)
    manner = given.Manner(output=output, processes=processes, calibrate=calibrate, retries=retries, json=json_output)
    code = carry_out(
        "soak",
        lambda run, capacity: soak(
            run, where, workload=what, rate_per_second=rate, seconds=duration, warmup_seconds=warmup, memory=memory,
            memory_every_seconds=watch_every, capacity=capacity,
        ),
        manner=manner,
    )  # fmt: skip
    raise typer.Exit(code)


def _longer_than_warm_up(duration: float, warmup: float) -> None:
    if duration <= warmup:
        raise BadLoad(f"--duration {duration:g} leaves nothing after --warmup {warmup:g}; lengthen the one")


def _gateways(pairs: Sequence[str], gateway: Target) -> dict[int, Target]:
    found = {}
    for pair in pairs:
        count, separator, url = pair.partition("=")
        if not separator or not count.isdecimal() or int(count) < 1:
            raise BadLoad(f"--workers {pair}: give N=URL, as in 2=http://gateway:4000/v1")
        found[int(count)] = given.target(url, gateway.model, gateway.key_variable, gateway.ca_file)
    return found


def _engine_logs(files: Sequence[Path], command: str | None) -> EngineLogContains | None:
    if files and command:
        raise BadLoad("give --engine-log or --engine-log-command, not both")
    if command:
        return command_finds(shlex.split(command))
    return log_files_contain(files) if files else None


def _memory(processes: Sequence[str], command: str | None) -> MemoryOf | None:
    if processes and command:
        raise BadLoad("give --watch or --watch-command, not both")
    if command:
        return command_tells_memory(shlex.split(command))
    named = [pair.partition("=") for pair in processes]
    wrong = [pair for pair, (_, _, process) in zip(processes, named, strict=True) if not process.isdecimal()]
    if wrong:
        raise BadLoad(f"--watch {wrong[0]}: give NAME=PID, as in litellm=1234")
    return memory_of_processes({name: int(process) for name, _, process in named}) if named else None

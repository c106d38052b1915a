"""Command line of the failover suite: which engines, what stands before them, how they are broken."""

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from benchmarks import suite_options as given
from benchmarks.errors import BadLoad
from benchmarks.failover import loopback
from benchmarks.failover.control import Control, computed, measured
from benchmarks.failover.faults import Trial
from benchmarks.failover.site import Engine, Site
from benchmarks.failover.vllm_process import VllmSettings
from benchmarks.load import Lengths, Load, Workload
from benchmarks.result import FaultResult, SuiteResult
from benchmarks.running import Runner
from benchmarks.suite_carry_out import carry_out, tell
from benchmarks.suites.failover import Conditions, Fault, failover
from benchmarks.validity import Capacity

ENGINES = "Engines"
FAULTS = "Faults"
KEY_VARIABLE = loopback.KEY_VARIABLE


class Kind(StrEnum):
    """What is broken."""

    fault = "fault"
    vllm = "vllm"


@dataclass(frozen=True, kw_only=True)
class Arrangement:
    """Engines with what may stand before them."""

    model: str
    max_model_len: int
    key: str
    engines: Sequence[Engine]
    litellm: Path | None
    trial: Trial
    words: Sequence[str]


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
    key = os.environ[KEY_VARIABLE] = loopback.fresh_key()
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
            trial=Trial(stall_seconds=stall_seconds, repeats=repeats), words=fault or [],
        )  # fmt: skip
        manner = given.Manner(output=directory, processes=1, calibrate=calibrate, json=json_output)
        code = carry_out(
            "failover",
            lambda run, capacity: _carry_out(run, capacity, directory / "processes", arrangement, conditions),
            manner=manner,
            inline=True,
        )
    raise typer.Exit(code)


def _carry_out(
    run: Runner, capacity: Capacity | None, directory: Path, arrangement: Arrangement, conditions: Conditions
) -> SuiteResult:
    control: Control | None = None
    results = []
    for open_site in (_with_relay, _with_litellm):
        with open_site(directory, arrangement) as site:
            if site is None:
                continue
            if control is None:
                control = _control(run, conditions.load(site.target, name="failover"), arrangement)
            result = failover(
                run,
                site.target,
                faults=chosen(site.faults, arrangement.words),
                conditions=conditions,
                control=control,
                books=site.books,
                arrangement=site.name,
                capacity=capacity,
                tell=lambda found: tell(line_of(found)),
            )
            results.append(result.model_copy(update={"measurements": tuple(site.meters())}))
    first, *others = results
    return first.model_copy(
        update={
            "faults": tuple(found for result in results for found in result.faults),
            "objections": tuple(objection for result in results for objection in result.objections),
            "histories": tuple(name for result in results for name in result.histories),
            "duration_seconds": sum(result.duration_seconds for result in results),
            "verdict": "invalid" if any(result.verdict == "invalid" for result in results) else first.verdict,
            "notes": (*first.notes, *([] if others else ["LiteLLM's defaults were not run beside: no --beside"])),
        }
    )


@contextmanager
def _with_relay(directory: Path, given: Arrangement) -> Iterator[Site | None]:
    with loopback.relay_site(
        directory / "relay", given.engines, model=given.model, max_model_len=given.max_model_len, key=given.key,
        trial=given.trial,
    ) as site:  # fmt: skip
        yield site


@contextmanager
def _with_litellm(directory: Path, given: Arrangement) -> Iterator[Site | None]:
    if given.litellm is None:
        yield None
        return
    with loopback.litellm_site(
        given.litellm, directory / "litellm", given.engines, model=given.model, key=given.key, trial=given.trial
    ) as site:
        yield site


def _control(run: Runner, load: Load, arrangement: Arrangement) -> Control:
    if arrangement.model == loopback.FAULT_MODEL:
        return computed(load, character={"max_model_len": arrangement.max_model_len})
    return measured(run, load)


def chosen(faults: Sequence[Fault], words: Sequence[str]) -> list[Fault]:
    """Those whose name contains one of the words; all without any."""
    found = [fault for fault in faults if not words or any(word in fault.name for word in words)]
    if not found:
        raise BadLoad(
            f"no fault is named like {', '.join(words)}; there are {', '.join(fault.name for fault in faults)}"
        )
    return found


def line_of(found: FaultResult) -> str:
    """One fault's result as a line of progress."""
    return (
        f"{found.arrangement}: {found.name}: {found.failed} of {found.requests} failed; {found.broken_in_flight} of "
        f"{found.in_flight} in flight broken; silence p50 {_seconds(found.gap_p50_seconds)}, "
        f"p99 {_seconds(found.gap_p99_seconds)}, longest {_seconds(found.gap_max_seconds)}; "
        f"ejected after {_seconds(found.ejected_seconds)}; {found.texts_compared} texts compared, "
        f"{found.duplicated} doubled, {found.lost_or_altered} lost or altered"
    )


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} s"

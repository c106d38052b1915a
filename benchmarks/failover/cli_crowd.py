"""Command line of the crowd suite: many requests at once, one fault in their midst, round after round."""

import asyncio
import os
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer
import uvloop
from rich.console import Console

from benchmarks import suite_options as given
from benchmarks.errors import BadLoad
from benchmarks.failover import loopback
from benchmarks.failover.arrangements import chosen
from benchmarks.failover.cli import ENGINES, FAULTS, Kind
from benchmarks.failover.crowd import Crowd, Round
from benchmarks.failover.crowd_result import criteria, fault_results, measurements, table_of
from benchmarks.failover.faults import Trial, faults_of
from benchmarks.failover.hard_questions import mixed
from benchmarks.failover.nursery import Nursery
from benchmarks.failover.questions import Question, agreed, computed, questions, unreadable_prompts
from benchmarks.failover.relay_process import RelayProcess
from benchmarks.failover.site import Engine
from benchmarks.failover.vllm_process import VllmSettings, environment_for
from benchmarks.result import SuiteResult
from benchmarks.suite_carry_out import carry_out, tell
from benchmarks.suites.failover import Fault
from benchmarks.suites.outcome import Logbook

QUESTION = "Many requests at once lose an engine: does each get the answer it would have had, and after what silence?"
ROUNDS = "rounds.jsonl"
UNSTABLE_MAX_RATIO = 0.5
VOCABULARY = 1000  # ids that every model at hand has, special ones left out
FIRST_ID = 300
CONTROL_RUNS = 2
VLLM_OPTIONS = (
    *("--generation-config", "vllm", "--dtype", "float32"),
    *("--enable-auto-tool-choice", "--tool-call-parser", "hermes"),
    *("--structured-outputs-config", '{"backend": "xgrammar", "disable_any_whitespace": true}'),
)


def crowd_command(
    *,
    engine_kind: Annotated[
        Kind, typer.Option("--engines", help="fault: fault engines; vllm: real ones", rich_help_panel=ENGINES)
    ] = Kind.fault,
    count: Annotated[int, typer.Option(min=2, help="replicas", rich_help_panel=ENGINES)] = 2,
    vllm: Annotated[Path | None, typer.Option(help="vLLM's program, bin/vllm", rich_help_panel=ENGINES)] = None,
    model_directory: Annotated[Path | None, typer.Option(help="what vLLM serves", rich_help_panel=ENGINES)] = None,
    reasoning_parser: Annotated[
        str | None, typer.Option(help="vLLM's, for a model that thinks", rich_help_panel=ENGINES)
    ] = None,
    itl_ms: Annotated[
        float, typer.Option(help="time per token; a real engine sleeps so long in each step", rich_help_panel=ENGINES)
    ] = 100.0,
    fault: Annotated[
        list[str] | None,
        typer.Option(help="only faults whose name contains this; may be repeated", rich_help_panel=FAULTS),
    ] = None,
    rounds: Annotated[
        int, typer.Option("--rounds", "--kills", min=1, help="of each fault", rich_help_panel=FAULTS)
    ] = 2,
    strike: Annotated[float, typer.Option(help="second at which it strikes", rich_help_panel=FAULTS)] = 2.0,
    stall_seconds: Annotated[float, typer.Option(help="the relay's stall timer", rich_help_panel=FAULTS)] = 2.0,
    streams: Annotated[int, typer.Option(min=2, help="requests of one round", rich_help_panel=given.WHAT)] = 400,
    tokens: Annotated[int, typer.Option(help="of an answer, about", rich_help_panel=given.WHAT)] = 40,
    spread: Annotated[float, typer.Option(help="seconds over which they start", rich_help_panel=given.WHAT)] = 3.0,
    whole_ratio: Annotated[float, typer.Option(help="share of answers that must be right")] = 0.999,
    seconds: Annotated[float, typer.Option(help="no round begins after so long", rich_help_panel=FAULTS)] = 3600.0,
    earlier: Annotated[
        list[Path] | None,
        typer.Option("--with", help=f"a {ROUNDS} of an earlier run, to be counted in; may be repeated"),
    ] = None,
    output: given.Output = None,
    json_output: given.Json = False,
) -> None:
    """Many requests at once lose an engine. Exit 0: every fault kept what was agreed. Real engines: --engines vllm."""
    key = os.environ[loopback.KEY_VARIABLE] = loopback.fresh_key()
    directory = (output or Path("results") / "crowd").resolve()
    if (directory / "processes").exists():
        raise BadLoad(f"{directory}: holds a run already; name another --output")
    known = [one for path in earlier or [] for one in Round.read(path)]
    book = Logbook(suite="crowd", question=QUESTION)
    until = time.monotonic() + seconds
    with ExitStack() as stack:
        if engine_kind is Kind.fault:
            engines = stack.enter_context(loopback.fault_engines(count, key=key, pace={"itl_ms": itl_ms}))
            model, window = loopback.FAULT_MODEL, loopback.FAULT_MODEL_LEN
            asked = questions(streams, model=model, tokens=tokens, unreadable=unreadable_prompts(), special={})
            asked = computed(asked, max_model_len=window)
        else:
            if vllm is None or model_directory is None:
                raise BadLoad("--engines vllm needs --vllm and --model-directory")
            model, window = model_directory.name, 2048
            nursery = stack.enter_context(
                Nursery(
                    vllm,
                    environment=environment_for(vllm, directory / "processes"),
                    log=directory / "processes" / "nursery.log",
                )
            )
            settings = VllmSettings(
                program=vllm,
                model_directory=model_directory.resolve(),
                served_model_name=model,
                max_model_len=window,
                key=key,
                log_directory=directory / "processes",
                step_seconds=itl_ms / 1000,
                nursery=nursery,
                options=(
                    *VLLM_OPTIONS,
                    *(("--reasoning-parser", reasoning_parser) if reasoning_parser else ()),
                    *("--max-num-seqs", str(streams)),
                ),
            )
            cores = [str(number % (os.cpu_count() or 1)) for number in range(count)]
            engines = stack.enter_context(loopback.vllm_engines(settings, cores))
            ids = [[FIRST_ID + (n * 131 + k * 17) % (VOCABULARY - FIRST_ID) for k in range(24)] for n in range(streams)]
            asked = mixed(streams, model=model, tokens=tokens, unreadable=ids)
        relay = stack.enter_context(
            _relay(
                directory / "processes",
                engines,
                model=model,
                key=key,
                window=window,
                stall=stall_seconds,
                streams=streams,
            )
        )
        trial = Trial(
            stall_seconds=stall_seconds,
            ejected=lambda engine: relay.state_of(engine.name) == "ejected",
            outstanding=lambda engine: relay.outstanding_at(engine.name),
        )
        crowd = Crowd(relay=relay, key=key, subject=model, spread_seconds=spread)
        kinds = chosen(faults_of(engines, trial), fault or [])
        faults = [one for _ in range(rounds) for one in kinds]  # in turn: a run that is cut short has some of each

        def suite() -> SuiteResult:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                return runner.run(
                    _rounds(
                        crowd,
                        asked,
                        faults,
                        strike=strike,
                        until=until,
                        directory=directory,
                        known=known,
                        book=book,
                        whole_ratio=whole_ratio,
                    )
                )

        manner = given.Manner(output=directory, processes=1, calibrate=False, json=json_output)
        code = carry_out("crowd", lambda _, __: suite(), manner=manner, inline=True)
    raise typer.Exit(code)


def _relay(
    directory: Path, engines: Sequence[Engine], *, model: str, key: str, window: int, stall: float, streams: int
) -> RelayProcess:
    replicas = {engine.name: engine.address for engine in engines}
    tuning = {"stall_seconds": stall, "concurrent_requests_per_replica": max(256, streams)}
    relay = RelayProcess(directory / "relay", replicas, model=model, key=key, max_model_len=window, tuning=tuning)
    relay.ready()
    return relay


async def _rounds(
    crowd: Crowd,
    asked: Sequence[Question],
    faults: Sequence[Fault],
    *,
    strike: float,
    until: float,
    directory: Path,
    known: list[Round],
    book: Logbook,
    whole_ratio: float,
) -> SuiteResult:
    if asked[0].text is None:
        tell(f"one run to warm up, {CONTROL_RUNS} undisturbed runs at equal load")
        await crowd.undisturbed(asked)  # grammars are compiled, kernels chosen
        controls = [await crowd.undisturbed(asked) for _ in range(CONTROL_RUNS)]
        asked, unstable = agreed(asked, *controls)
        book.notes.append(
            f"{crowd.subject}: {len(asked) - unstable} answers known from {CONTROL_RUNS} undisturbed runs at equal "
            f"load, {unstable} left out, because these differ"
        )
        tell(book.notes[-1])
        if unstable > UNSTABLE_MAX_RATIO * len(asked):
            book.objections.append(book.notes[-1])
    for number, fault in enumerate(faults):
        if time.monotonic() > until:
            book.notes.append(f"{len(faults) - number} of {len(faults)} rounds left out: the time was over")
            break
        # Not always at the same place of an answer.
        found = await crowd.round(asked, fault, strike_seconds=strike * (0.6 + 0.1 * (number * 3 % 9)))
        found.write(directory / ROUNDS)
        known.append(found)
        tell(
            f"round {number + 1} of {len(faults)}, {found.fault}: {found.met} of {found.requests} met it, {found.new} "
            f"came later, {found.bad} not right, silence at most {max(found.gaps, default=0.0):.2f} s, load "
            f"{found.load_average}"
        )
        for line in found.first_bad:
            tell(f"  {line}")
    differing = await crowd.books_differ()
    Console(width=160, stderr=True).print(table_of(known))
    return book.result(
        criteria(known, whole_ratio=whole_ratio, books_differ=differing, booked=len(crowd.used_tokens)),
        faults=fault_results(known),
        measurements=measurements(known),
    )

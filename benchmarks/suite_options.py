"""Suite options: what all suites are told on the command line, under the names that Locust's own command line uses."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.load import Load, Target, Workload
from benchmarks.metrics import Objective

WHERE, WHAT, HOW = "Where to", "What is sent", "How"
Host = Annotated[
    str, typer.Option(help="base URL, as OpenAI's clients take it: http://HOST:PORT/v1", rich_help_panel=WHERE)
]
ModelName = Annotated[str, typer.Option(help="model that requests name", rich_help_panel=WHERE)]
KeyVariable = Annotated[str, typer.Option(help="environment variable with the API key", rich_help_panel=WHERE)]
CaFile = Annotated[Path | None, typer.Option(help="certificate authority of the server", rich_help_panel=WHERE)]
Language = Annotated[str, typer.Option(help="of the prompts: en, ko or mixed", rich_help_panel=WHAT)]
PromptTokens = Annotated[int, typer.Option(help="mean length of prompts", rich_help_panel=WHAT)]
OutputTokens = Annotated[int, typer.Option(help="mean length asked for", rich_help_panel=WHAT)]
Spread = Annotated[float, typer.Option(help="standard deviation of both as a share of the mean", rich_help_panel=WHAT)]
SharedPrefix = Annotated[float, typer.Option(help="share of each prompt common to all (0..1)", rich_help_panel=WHAT)]
Turns = Annotated[int, typer.Option(help="questions per conversation", rich_help_panel=WHAT)]
IgnoreEos = Annotated[
    bool, typer.Option("--ignore-eos", help="always the whole length: for capacity only", rich_help_panel=WHAT)
]
Tokenizer = Annotated[
    Path | None, typer.Option(help="the model's tokenizer.json or its directory: exact lengths", rich_help_panel=WHAT)
]
SloTtft = Annotated[float | None, typer.Option(help="a good request's time to first token", rich_help_panel=HOW)]
SloTpot = Annotated[float | None, typer.Option(help="a good request's time per output token", rich_help_panel=HOW)]
SloE2e = Annotated[float | None, typer.Option(help="a good request's whole time", rich_help_panel=HOW)]
Output = Annotated[
    Path | None,
    typer.Option(
        help="directory for result, pictures and raw histories", show_default="results/SUITE-TIME", rich_help_panel=HOW
    ),
]
Processes = Annotated[int, typer.Option(min=1, help="load processes; each is one Locust worker", rich_help_panel=HOW)]
Calibrate = Annotated[
    bool,
    typer.Option(
        help="first measure what this machine can hold; a run past half of it is invalid", rich_help_panel=HOW
    ),
]
Retries = Annotated[
    int, typer.Option(min=0, help="how often a run is made again in which this client was late", rich_help_panel=HOW)
]
Json = Annotated[bool, typer.Option("--json", help="the result as JSON on stdout", rich_help_panel=HOW)]


@dataclass(frozen=True, kw_only=True)
class Manner:
    """How a suite is carried out, whichever it is."""

    output: Path | None
    processes: int
    calibrate: bool
    retries: int = 0
    json: bool


def target(host: str, model_name: str, key_variable: str, ca_file: Path | None) -> Target:
    """Where requests go; one line for the user where the address is none."""
    fields = {
        "base_url": host,
        "model": model_name,
        "key_variable": key_variable,
        "ca_file": ca_file.resolve() if ca_file else None,
    }
    return Load.parse({"target": fields}, origin="options").target


def workload(
    *,
    language: str,
    prompt_tokens: int,
    output_tokens: int,
    spread: float,
    shared_prefix: float = 0.0,
    turns: int = 1,
    ignore_eos: bool = False,
    tokenizer: Path | None = None,
) -> Workload:
    """What requests say."""
    fields = {
        "language": language,
        "prompt": {"mean_tokens": prompt_tokens, "spread_ratio": spread},
        "output": {"mean_tokens": output_tokens, "spread_ratio": spread},
        "shared_prefix_ratio": shared_prefix,
        "turns": turns,
        "ignore_eos": ignore_eos,
        "tokenizer": tokenizer.resolve() if tokenizer else None,
    }
    anywhere = {"base_url": "http://anywhere", "model": "any"}
    return Load.parse({"target": anywhere, "workload": fields}, origin="options").workload


def objective(ttft_ms: float | None, tpot_ms: float | None, e2e_ms: float | None) -> Objective:
    """What makes a request a good one."""
    return Objective(ttft_ms=ttft_ms, tpot_ms=tpot_ms, e2e_ms=e2e_ms)

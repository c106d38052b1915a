"""Compare tools: what one received chunk costs this generator, Locust with OpenAI's client, and GuideLLM, in CPU
time; and whether it tells the same numbers as `vllm bench serve` (see compare_vllm.py).

Every tool streams from the same paced null server (20 chunks/s per stream). Each runs with few and with many streams;
the difference in CPU seconds over the difference in chunks is the cost of a chunk without the cost of starting up. A
core holds 1 / (20 * cost) streams. Rounds are interleaved. The other tools live in virtual environments of their own,
made by `uv`; they are no dependencies. Locust's own `OpenAIUser` reads an answer whole before it looks at it, so it
cannot stream; what is measured is the streaming that its client offers inside a Locust user.
"""

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TypedDict

from benchmarks.calibrate import CHUNKS_PER_SECOND
from benchmarks.compare_vllm import compare
from benchmarks.errors import BadLoad
from benchmarks.null_process import ROOT, null_process

SECONDS = 6
TOKENS = SECONDS * CHUNKS_PER_SECOND
OPENAI_USER = f"""
import os
import gevent
from locust import User, task
from openai import OpenAI

client = OpenAI(base_url=os.environ["BASE_URL"], api_key="none")  # one for all: a client per user costs far more

class Streaming(User):
    @task
    def stream(self):
        stream = client.chat.completions.create(
            model="null", stream=True, max_tokens={TOKENS}, messages=[{{"role": "user", "content": "Write."}}],
            stream_options={{"include_usage": True}},
        )
        for _ in stream:
            pass
        gevent.sleep(3600)  # --run-time ends it
"""


@dataclass(frozen=True, kw_only=True)
class Tool:
    """A load generator: its command for so many streams, and the two numbers of streams it is tried with."""

    name: str
    command: Callable[[int, int, Path], Sequence[str]]  # streams, port, scratch directory
    few: int
    many: int


@dataclass(frozen=True, kw_only=True)
class Cost:
    """One run."""

    cpu_seconds: float
    chunks: int
    wall_seconds: float


class Row(TypedDict):
    """What one tool costs."""

    microseconds_per_chunk: float
    streams_per_core: float
    times_ours: float
    rounds: list[float]


def main() -> None:
    """Prints one line per tool and per quantity, or JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare_tools", description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--environments", type=Path, help="directory for the other tools' virtual environments: compare CPU per chunk")
    add("--rounds", type=int, default=3, help="of that comparison")
    add("--engine-python", type=Path, help="the Python of an engine's environment: compare with `vllm bench serve`")
    add("--tokenizer", type=Path, help="directory of any model's tokenizer, for `vllm bench serve`'s prompts")
    add("--pairs", type=int, default=5, help="of that comparison")
    add("--json", action="store_true")
    options = parser.parse_args()
    if not options.environments and not options.engine_python:
        parser.error("give --environments, --engine-python or both")
    if options.engine_python and not options.tokenizer:
        parser.error("--engine-python needs --tokenizer")
    try:
        _compare(options)
    except BadLoad as error:
        sys.exit(f"error: {error}")


def _compare(options: argparse.Namespace) -> None:
    costs = _costs(options.environments, rounds=options.rounds) if options.environments else {}
    agreements = []
    if options.engine_python:
        agreements = compare(
            engine_python=options.engine_python,
            tokenizer=options.tokenizer.resolve(),
            pairs=options.pairs,
            tell=lambda sentence: print(sentence, file=sys.stderr),
        )
    if options.json:
        found = [dataclasses.asdict(agreement) for agreement in agreements]
        print(json.dumps({"cost_per_chunk": costs, "vllm_bench_serve": found}, indent=2))
    for name, row in costs.items() if not options.json else ():
        print(
            f"{name}: {row['microseconds_per_chunk']:.1f} us of CPU per chunk, "
            f"{row['streams_per_core']:.0f} streams per core, {row['times_ours']:.1f} times ours"
        )
    for agreement in agreements if not options.json else ():
        print(
            f"{agreement.quantity}: {agreement.ours:.2f}, vllm bench serve {agreement.vllm:.2f}; differ by "
            f"{agreement.difference_ratio:.1%}, A/A spread {agreement.spread_ratio:.1%}: "
            f"{'agree' if agreement.agrees else 'DISAGREE'}"
        )
    if not all(agreement.agrees for agreement in agreements):
        sys.exit(1)


def _costs(environments: Path, *, rounds: int) -> dict[str, Row]:
    """CPU per chunk of every tool."""
    tools = _tools(environments)
    costs: dict[str, list[float]] = {tool.name: [] for tool in tools}
    with tempfile.TemporaryDirectory() as scratch:
        for _ in range(rounds):
            for tool in tools:
                few, many = (_measure(tool, streams, Path(scratch)) for streams in (tool.few, tool.many))
                spent = (many.cpu_seconds - few.cpu_seconds) / (many.chunks - few.chunks)
                costs[tool.name].append(spent)
                print(
                    f"{tool.name}: {spent * 1e6:.1f} us per chunk; {tool.many} streams took {many.wall_seconds:.1f} s "
                    f"(load average {os.getloadavg()[0]:.1f})",
                    file=sys.stderr,
                )
    ours = median(costs[tools[0].name])
    return {
        name: Row(
            microseconds_per_chunk=median(values) * 1e6,
            streams_per_core=1 / (CHUNKS_PER_SECOND * median(values)),
            times_ours=median(values) / ours,
            rounds=[value * 1e6 for value in values],
        )
        for name, values in costs.items()
    }


def _tools(environments: Path) -> list[Tool]:
    openai = _environment(environments / "openai", ["locust", "openai"])
    guidellm = _environment(environments / "guidellm", ["guidellm"])

    def ours(streams: int, port: int, scratch: Path) -> Sequence[str]:
        command = [sys.executable, "-m", "locust", "-f", str(ROOT / "benchmarks" / "locustfile.py"), "--headless"]
        command += ["--host", f"http://127.0.0.1:{port}/v1", "--arrivals", "constant", "--rate", str(streams)]
        command += ["--duration", "1", "--output-tokens", str(TOKENS), "--spread", "0", "--no-calibrate"]
        return [*command, "--only-summary", "--histories", str(scratch / "histories")]

    def locust_openai(streams: int, port: int, scratch: Path) -> Sequence[str]:
        file = scratch / "openai_user.py"
        file.write_text(OPENAI_USER, encoding="utf-8")
        command = [
            "env",
            f"BASE_URL=http://127.0.0.1:{port}/v1",
            str(openai / "locust"),
            "-f",
            str(file),
            "--headless",
            "--only-summary",
        ]
        return [
            *command,
            "-u",
            str(streams),
            "-r",
            str(streams),
            "--run-time",
            f"{SECONDS * 2}s",
            "--host",
            f"http://127.0.0.1:{port}/v1",
        ]

    def guide(streams: int, port: int, scratch: Path) -> Sequence[str]:
        data = scratch / f"prompts-{streams}.jsonl"
        data.write_text('{"prompt": "Write."}\n' * streams, encoding="utf-8")
        command = ["env", "HF_HUB_OFFLINE=1", str(guidellm / "guidellm"), "run", "--disable-console"]
        command += ["--backend", f"kind=openai_http,target=http://127.0.0.1:{port},model=nobody"]
        command += ["--profile", f"kind=concurrent,streams={streams}", "--data", f"kind=json_file,path={data}"]
        return [*command, "--output", f"kind=json,path={scratch / 'guidellm.json'}"]

    return [
        Tool(name="llm-appliance", command=ours, few=100, many=1000),
        Tool(name="Locust with OpenAI's client", command=locust_openai, few=20, many=100),
        Tool(name="GuideLLM", command=guide, few=20, many=400),
    ]


def _environment(path: Path, packages: Sequence[str]) -> Path:
    """The bin directory of a virtual environment with these packages."""
    if not (path / "bin" / packages[0]).exists():
        python = str(path / "bin" / "python")
        for command in (["uv", "venv", "-q", str(path)], ["uv", "pip", "install", "-q", "--python", python, *packages]):
            if subprocess.run(command, check=False).returncode:
                raise BadLoad(f"{' '.join(packages)} could not be installed; the comparison needs a package index")
    return path / "bin"


def _measure(tool: Tool, streams: int, scratch: Path) -> Cost:
    with null_process("--tokens", str(TOKENS), "--itl-ms", str(1000 / CHUNKS_PER_SECOND)) as (port, _):
        begun = time.monotonic()
        process = subprocess.Popen(
            [*tool.command(streams, port, scratch)], cwd=scratch,
            env=_quiet(os.environ), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        wall = time.monotonic() - begun
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/traffic", timeout=10) as answer:
            chunks = int(json.load(answer)["chunks"])
    if chunks < streams * TOKENS * 0.95:
        raise BadLoad(f"{tool.name}: {chunks} of {streams * TOKENS} chunks were read (exit {process.returncode})")
    return Cost(cpu_seconds=used.ru_utime + used.ru_stime, chunks=chunks, wall_seconds=wall)


def _quiet(environment: Mapping[str, str]) -> dict[str, str]:
    return {**environment, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}


if __name__ == "__main__":
    main()

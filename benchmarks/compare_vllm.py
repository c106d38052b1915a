"""Compare with `vllm bench serve`: two tools that measure the same paced server must tell the same numbers.

Pairs of runs alternate in the order A B B A: the same number of requests at the same constant rate, the same number of
tokens each. Throughput, median TTFT and median ITL agree if they lie within 5 %, or within what two neighbouring runs
of our own tool differ by (A/A), whichever is more.
"""

import json
import os
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median

from benchmarks.errors import BadLoad
from benchmarks.load import Arrivals, Lengths, Load, Target, Workload
from benchmarks.metrics import summarize
from benchmarks.null_process import null_process
from benchmarks.running import locust_runner

TTFT_MS, ITL_MS = 200, 50
TOKENS, RATE, REQUESTS = 64, 20, 160
AGREEMENT_RATIO = 0.05
NEARLY_CONSTANT = "10000"  # burstiness: vLLM's gaps are gamma distributed; this large they are all but equal


@dataclass(frozen=True, kw_only=True)
class Told:
    """What a tool says of one run."""

    tokens_per_second: float
    ttft_p50_ms: float
    itl_p50_ms: float


QUANTITIES = {
    "output tokens/s": "tokens_per_second",
    "median TTFT, ms": "ttft_p50_ms",
    "median ITL, ms": "itl_p50_ms",
}


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """One quantity: the medians over all runs, their difference, and what is allowed."""

    quantity: str
    ours: float
    vllm: float
    difference_ratio: float
    spread_ratio: float  # largest difference between neighbouring runs of ours
    agrees: bool


def agreement(quantity: str, ours: Sequence[float], vllm: Sequence[float]) -> Agreement:
    """Judges one quantity over all pairs."""
    middle, other = median(ours), median(vllm)
    spread = max((abs(a - b) / middle for a, b in pairwise(ours)), default=0.0)
    difference = abs(middle - other) / other
    return Agreement(
        quantity=quantity,
        ours=middle,
        vllm=other,
        difference_ratio=difference,
        spread_ratio=spread,
        agrees=difference <= max(AGREEMENT_RATIO, spread),
    )


def compare(*, engine_python: Path, tokenizer: Path, pairs: int, tell: Callable[[str], None]) -> list[Agreement]:
    """Runs the pairs and judges them."""
    ours: list[Told] = []
    theirs: list[Told] = []
    with (
        tempfile.TemporaryDirectory() as scratch,
        null_process("--ttft-ms", str(TTFT_MS), "--itl-ms", str(ITL_MS)) as (
            port,
            _,
        ),
    ):
        for number in range(pairs):
            for side in (ours, theirs) if number % 2 == 0 else (theirs, ours):
                if side is ours:
                    ours.append(_ours(port, Path(scratch) / f"ours-{number}"))
                else:
                    theirs.append(_vllm(port, Path(scratch), engine_python=engine_python, tokenizer=tokenizer))
                told = side[-1]
                tell(
                    f"{'llm-appliance' if side is ours else 'vllm bench serve'}, pair {number + 1}: "
                    f"{told.tokens_per_second:.1f} tokens/s, TTFT p50 {told.ttft_p50_ms:.1f} ms, "
                    f"ITL p50 {told.itl_p50_ms:.2f} ms (load average {os.getloadavg()[0]:.1f})"
                )
    return [
        agreement(quantity, [getattr(told, name) for told in ours], [getattr(told, name) for told in theirs])
        for quantity, name in QUANTITIES.items()
    ]


def _ours(port: int, directory: Path) -> Told:
    load = Load(
        name="compare",
        target=Target(base_url=f"http://127.0.0.1:{port}/v1", model="null", key_variable="LLM_NULL_KEY"),
        arrivals=Arrivals(kind="constant", rate_per_second=RATE, duration_seconds=REQUESTS / RATE),
        workload=Workload(output=Lengths(mean_tokens=TOKENS)),
    )
    summary = summarize(locust_runner(directory)(load).records)
    if summary.succeeded != REQUESTS:
        raise BadLoad(f"{summary.succeeded} of {REQUESTS} requests succeeded: {summary.failures}")
    spreads = summary.spreads
    return Told(
        tokens_per_second=summary.output_tokens_per_second,
        ttft_p50_ms=spreads["ttft_ms"].p50,
        itl_p50_ms=spreads["itl_ms"].p50,
    )


def _vllm(port: int, directory: Path, *, engine_python: Path, tokenizer: Path) -> Told:
    command = [str(engine_python), "-m", "vllm.entrypoints.cli.main", "bench", "serve", "--backend", "openai-chat"]
    command += ["--base-url", f"http://127.0.0.1:{port}", "--endpoint", "/v1/chat/completions", "--model", "null"]
    command += ["--tokenizer", str(tokenizer), "--dataset-name", "random", "--random-input-len", "128"]
    command += ["--random-output-len", str(TOKENS), "--num-prompts", str(REQUESTS), "--request-rate", str(RATE)]
    command += ["--burstiness", NEARLY_CONSTANT, "--disable-tqdm", "--save-result", "--result-dir", str(directory)]
    command += ["--result-filename", "vllm.json"]
    offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
    done = subprocess.run(command, env=os.environ | offline, capture_output=True, text=True, check=False, timeout=600)
    if done.returncode:
        raise BadLoad(f"vllm bench serve ended with {done.returncode}: {done.stderr.strip().splitlines()[-1:]}")
    said = json.loads((directory / "vllm.json").read_text(encoding="utf-8"))
    if said["completed"] != REQUESTS:
        raise BadLoad(f"vllm bench serve: {said['completed']} of {REQUESTS} requests succeeded")
    return Told(
        tokens_per_second=said["output_throughput"],
        ttft_p50_ms=said["median_ttft_ms"],
        itl_p50_ms=said["median_itl_ms"],
    )

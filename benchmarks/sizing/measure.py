"""Measures how long `llm-size` takes from a cold start, as a user waits for it, and how that grows with a site.

Every figure is of a process of its own: CPU seconds of it and its children (`ansible-inventory` counts), and its
largest resident memory. The bounds are what the project promises; a broken one is exit code 1.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.sizing import simulation
from benchmarks.sizing.sites import write_site

ESTIMATE = ("estimate", "--json", "--model", "Qwen/Qwen3-32B", "--gpu", "NVIDIA H100 80GB HBM3")
ONE_HOST = ("recommend", "--json", "--model", "Qwen/Qwen3-32B", "--gpu", "NVIDIA H100 80GB HBM3:8")
WISH = ("--context", "32K", "--users", "64")
THREE_MODELS = (
    *("recommend", "--json", "--model", "Qwen/Qwen3-8B", "--model", "Qwen/Qwen3-32B"),
    *("--model", "google/gemma-3-12b-it", "--gpu", "NVIDIA H100 80GB HBM3:8"),
)
TIMES = (
    *("--people", "100", "--think-seconds", "30", "--prompt-tokens", "2000", "--output-tokens", "300"),
    *("--ttft-ms", "2000", "--tpot-ms", "60"),
)
GPU_COUNTS = (1, 8, 40, 200, 1000)
REPEATS = 5
ANSWERS = (0, 3)
"""Exit codes that are answers: yes, and "does not fit"."""


@dataclass(frozen=True, kw_only=True)
class Bound:
    """What the project promises; None promises nothing."""

    cpu_seconds: float | None = None
    memory_mib: float | None = None


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One question: the median of its runs, and the largest memory of them."""

    question: str
    cpu_seconds: float
    wall_seconds: float
    memory_mib: float
    bound: Bound

    @property
    def holds(self) -> bool:
        limits = ((self.bound.cpu_seconds, self.cpu_seconds), (self.bound.memory_mib, self.memory_mib))
        return all(limit is None or seen <= limit for limit, seen in limits)


def main(arguments: Sequence[str]) -> int:
    """Measures, prints a table, and says whether the promises hold."""
    if list(arguments) == ["simulation"]:
        return simulation.main()
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sizing", description=__doc__)
    parser.add_argument("--repeats", type=int, default=REPEATS, help="runs of each question; the median counts")
    parser.add_argument("--gpus", type=int, nargs="+", default=list(GPU_COUNTS), help="sizes of the sites")
    options = parser.parse_args(arguments)
    rows = []
    print(f"{'question':<46}{'CPU s':>8}{'wall s':>8}{'MiB':>8}  promised", flush=True)
    for question in _questions(options.gpus):
        rows.append(_measured(*question, repeats=options.repeats))
        print(_line(rows[-1]), flush=True)
    return 0 if all(row.holds for row in rows) else 1


def _questions(gpu_counts: Sequence[int]) -> list[tuple[str, tuple[str, ...], int | None, Bound]]:
    """Name, arguments, GPUs of a site that is to be made first, bound."""
    questions: list[tuple[str, tuple[str, ...], int | None, Bound]] = [
        ("estimate, one model on one GPU", ESTIMATE, None, Bound(cpu_seconds=0.5)),
        ("recommend, one model on 8 GPUs", (*ONE_HOST, *WISH), None, Bound(cpu_seconds=1.0)),
        ("the same, FP8 allowed", (*ONE_HOST, *WISH, "--quality", "balanced"), None, Bound(cpu_seconds=1.0)),
        ("3 models on 8 GPUs, with times for people", (*THREE_MODELS, *TIMES), None, Bound(cpu_seconds=5.0)),
        ("the same, wish that cannot be met", (*ONE_HOST, "--context", "32K", "--users", "500"), None, Bound()),
    ]
    for count in gpu_counts:
        bound = Bound(cpu_seconds=5.0, memory_mib=500.0)
        questions.append((f"recommend --site, {count} GPUs", ("recommend", "--json"), count, bound))
    return questions


def _measured(
    question: str, arguments: tuple[str, ...], site_gpus: int | None, bound: Bound, *, repeats: int
) -> Measured:
    with tempfile.TemporaryDirectory(prefix="sizing-benchmark-") as scratch:
        if site_gpus is not None:
            site = write_site(Path(scratch), gpu_count=site_gpus)
            arguments = (*arguments, "--site", str(site))
        runs = [_run(arguments) for _ in range(repeats)]
    return Measured(
        question=question,
        cpu_seconds=statistics.median(cpu for cpu, _, _ in runs),
        wall_seconds=statistics.median(wall for _, wall, _ in runs),
        memory_mib=max(memory for _, _, memory in runs),
        bound=bound,
    )


def _run(arguments: Sequence[str]) -> tuple[float, float, float]:
    """CPU seconds, wall seconds and MiB of one process with its children."""
    began = os.times()
    process = subprocess.Popen(
        [sys.executable, "-m", "sizing", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in ANSWERS:
        raise SystemExit(f"llm-size {' '.join(arguments)} ended with exit code {process.returncode}")
    wall = os.times().elapsed - began.elapsed
    return usage.ru_utime + usage.ru_stime, wall, usage.ru_maxrss / 1024


def _line(row: Measured) -> str:
    promised = []
    if row.bound.cpu_seconds is not None:
        promised.append(f"{row.bound.cpu_seconds:g} s")
    if row.bound.memory_mib is not None:
        promised.append(f"{row.bound.memory_mib:g} MiB")
    verdict = "" if row.holds else "  BROKEN"
    figures = f"{row.cpu_seconds:>8.2f}{row.wall_seconds:>8.2f}{row.memory_mib:>8.0f}"
    return f"{row.question:<46}{figures}  {', '.join(promised)}{verdict}"

"""How fast the simulation of serving is, and whether its memory stays flat (`python -m benchmarks.sizing simulation`).

Real time is the time that a real engine would take for the same requests; the promise is 1,000 times faster at 100
requests a second on one engine. Memory is the largest of Python's own allocations while hours are simulated, which
must not grow with the hours. Processor time, so that neighbours on the machine do not count.
"""

import time
import tracemalloc
from dataclasses import dataclass

from sizing.arrivals import Lengths, OpenSource
from sizing.device import Device, find_gpu
from sizing.estimate import EngineConfiguration
from sizing.model_facts import load_model_facts
from sizing.serving import EngineLimits, simulate
from sizing.speed import StepTime
from sizing.step_seconds import steps_of

GPU = "NVIDIA H100 80GB HBM3"
PROMISED_RATIO = 1000
RATE_PER_SECOND = 100.0
SECONDS = 300.0
LIMITS = EngineLimits(max_num_batched_tokens=8192, max_num_seqs=1024, kv_blocks=30_000, blocks_per_token=1 / 16)
MEMORY_HOURS = (1, 4)
MEMORY_GROWTH_BYTES = 200_000


@dataclass(frozen=True, kw_only=True)
class Case:
    """One model under one load. `promised`: whether the ratio is held against the promise."""

    model: str
    rate_per_second: float
    prompt_tokens: int
    output_tokens: int
    promised: bool


CASES = (
    Case(model="Qwen/Qwen3-8B", rate_per_second=100, prompt_tokens=100, output_tokens=50, promised=True),
    Case(model="Qwen/Qwen3-8B", rate_per_second=100, prompt_tokens=100, output_tokens=150, promised=True),
    Case(model="Qwen/Qwen3-0.6B", rate_per_second=100, prompt_tokens=100, output_tokens=100, promised=False),
    Case(model="Qwen/Qwen3-8B", rate_per_second=5, prompt_tokens=1000, output_tokens=500, promised=False),
)


def main() -> int:
    """Prints both tables; exit code 1 where a promise is broken."""
    kept = True
    print(f"{'model on one H100':<22}{'requests/s':>11}{'prompt':>8}{'answer':>8}{'x real time':>13}{'us/request':>12}")
    for case in CASES:
        ratio, micros = _speed(case)
        broken = case.promised and ratio < PROMISED_RATIO
        kept = kept and not broken
        print(
            f"{case.model:<22}{case.rate_per_second:>11g}{case.prompt_tokens:>8}{case.output_tokens:>8}"
            f"{ratio:>13,.0f}{micros:>12.1f}  {'BROKEN' if broken else f'promised {PROMISED_RATIO:,}' * case.promised}",
            flush=True,
        )
    peaks = [_peak_bytes(hours) for hours in MEMORY_HOURS]
    for hours, peak in zip(MEMORY_HOURS, peaks, strict=True):
        print(f"memory of {hours} simulated hours at 2 requests/s: {peak / 1e6:.2f} MB", flush=True)
    return 0 if kept and peaks[-1] < peaks[0] + MEMORY_GROWTH_BYTES else 1


def _source(case: Case) -> OpenSource:
    return OpenSource(
        case.rate_per_second,
        Lengths(mean_tokens=case.prompt_tokens, spread_ratio=0.5),
        Lengths(mean_tokens=case.output_tokens, spread_ratio=0.5),
        seed=1,
    )


def _times(model: str) -> StepTime:
    device = Device.of_gpu(find_gpu(GPU).as_gpu())
    return StepTime.of(EngineConfiguration(model=load_model_facts(model), device=device, max_model_len=8192))


def _speed(case: Case) -> tuple[float, float]:
    steps, source = steps_of(_times(case.model)), _source(case)
    began = time.process_time()
    simulate(LIMITS, steps, source, seconds=SECONDS)
    took = time.process_time() - began
    return SECONDS / took, took / SECONDS / case.rate_per_second * 1e6


def _peak_bytes(hours: float) -> int:
    case = Case(model="Qwen/Qwen3-8B", rate_per_second=2, prompt_tokens=1000, output_tokens=100, promised=False)
    steps, source = steps_of(_times(case.model)), _source(case)
    tracemalloc.start()
    simulate(LIMITS, steps, source, seconds=3600 * hours)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak

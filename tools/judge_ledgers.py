"""Judges the sizing of GPU memory by published start-up ledgers: predicted pool against the logged one, row by row.

`python -m tools.judge_ledgers` prints the table that docs/accuracy.md shows. A ledger whose model or vLLM version the
catalogue does not hold is listed, not judged.
"""

import statistics
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import yaml

from sizing.device import Device, find_gpu
from sizing.documents import Part
from sizing.engine_settings import EngineConfiguration
from sizing.errors import SizingError, UnknownFact
from sizing.estimate import Estimate, estimate
from sizing.model_facts import load_model_facts
from sizing.units import GIB

LEDGERS = Path(__file__).resolve().parents[1] / "tests" / "golden" / "start_up_ledgers.yaml"
MEDIAN_TARGET_RATIO = 0.05
NINETIETH_TARGET_RATIO = 0.15
INTERVAL_TARGET_RATIO = 0.90


class Observed(Part):
    """What the engine logged, per rank."""

    weights_gib: float | None = None
    activation_gib: float | None = None
    non_torch_gib: float | None = None
    cuda_graph_gib: float | None = None
    cuda_graph_estimated_gib: float | None = None
    kv_cache_gib: float | None = None
    kv_cache_tokens: int | None = None
    max_concurrency: float | None = None


class Ledger(Part):
    """One start of an engine."""

    id: str
    source: str
    model: str
    gpu: str
    vllm_version: str
    gpu_memory_utilization: float
    max_model_len: int
    max_num_batched_tokens: int
    max_num_seqs: int
    tensor_parallel_size: int = 1
    kv_cache_dtype: str = "auto"
    enforce_eager: bool = False
    language_model_only: bool = False
    limit_mm_per_prompt: dict[str, int] | None = None
    memory_usable_gib: float | None = None
    refused: bool = False
    assumed: str = ""
    observed: Observed

    def configuration(self) -> EngineConfiguration:
        """What was started. Raises UnknownFact for what the catalogue does not hold."""
        return EngineConfiguration(
            model=load_model_facts(self.model),
            device=self._device(),
            tensor_parallel_size=self.tensor_parallel_size,
            gpu_memory_utilization=self.gpu_memory_utilization,
            max_model_len=self.max_model_len,
            kv_cache_dtype=self.kv_cache_dtype,
            max_num_batched_tokens=self.max_num_batched_tokens,
            max_num_seqs=self.max_num_seqs,
            enforce_eager=self.enforce_eager,
            language_model_only=self.language_model_only,
            limit_mm_per_prompt=self.limit_mm_per_prompt,
            vllm_version=self.vllm_version,
        )

    def _device(self) -> Device:
        if self.memory_usable_gib is None:
            return Device.of_gpu(find_gpu(self.gpu).as_gpu())
        usable_bytes = int(self.memory_usable_gib * GIB)
        return Device(
            accelerator="cuda",
            name=self.gpu,
            compute_capability=(12, 1),
            memory_total_bytes=usable_bytes,
            memory_usable_bytes=usable_bytes,
            memory_unified=True,
        )


class ProfileRun(Part):
    """The profile run of a model outside the catalogue."""

    id: str
    source: str
    hidden_size: int
    intermediate_size: int
    vocabulary_size: int
    layers: int
    shards: int
    activation_gib: float
    graph_gib: float


class LedgerFile(Part):
    """tests/golden/start_up_ledgers.yaml."""

    ledgers: tuple[Ledger, ...]
    refusals: tuple[Ledger, ...]
    profile_runs: tuple[ProfileRun, ...]
    excluded: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Judged:
    """One ledger with the prediction, or with the reason why there is none."""

    ledger: Ledger
    verdict: Literal["fits", "does_not_fit", "refused", "not judged"]
    why: str = ""
    predicted_gib: float = 0.0
    low_gib: float = 0.0
    high_gib: float = 0.0

    @property
    def observed_gib(self) -> float:
        return self.ledger.observed.kv_cache_gib or 0.0

    @property
    def error_ratio(self) -> float:
        return self.predicted_gib / self.observed_gib - 1

    @property
    def interval_holds(self) -> bool:
        return self.low_gib <= self.observed_gib <= self.high_gib


@cache
def ledger_file() -> LedgerFile:
    """The ledgers."""
    return LedgerFile.model_validate(yaml.safe_load(LEDGERS.read_text(encoding="utf-8")))


def judged(ledger: Ledger) -> Judged:
    """One ledger against the sizing of today."""
    try:
        answer = estimate(ledger.configuration())
    except UnknownFact as error:
        return Judged(ledger=ledger, verdict="not judged", why=str(error))
    low, high = _interval(answer)
    return Judged(
        ledger=ledger,
        verdict=answer.verdict,
        why="; ".join(refusal.message for refusal in answer.refusals),
        predicted_gib=answer.per_gpu.kv_cache_bytes / GIB,
        low_gib=low,
        high_gib=high,
    )


def _interval(answer: Estimate) -> tuple[float, float]:
    low, high = answer.interval.kv_cache_bytes
    return low / GIB, high / GIB


def ledgers_judged() -> tuple[Judged, ...]:
    """Every ledger that sizing can answer for, refused ones included."""
    return tuple(judged(ledger) for ledger in ledger_file().ledgers)


@dataclass(frozen=True, kw_only=True)
class Score:
    """The figures that the accuracy target names."""

    count: int
    median_error_ratio: float
    ninetieth_error_ratio: float
    interval_ratio: float

    @property
    def meets_the_target(self) -> bool:
        return (
            self.median_error_ratio <= MEDIAN_TARGET_RATIO
            and self.ninetieth_error_ratio <= NINETIETH_TARGET_RATIO
            and self.interval_ratio >= INTERVAL_TARGET_RATIO
        )


def score(rows: tuple[Judged, ...]) -> Score | None:
    """Errors without sign over the rows that were judged; None where there are none."""
    counted = [row for row in rows if row.verdict != "not judged"]
    if not counted:
        return None
    errors = sorted(abs(row.error_ratio) for row in counted)
    return Score(
        count=len(counted),
        median_error_ratio=statistics.median(errors),
        ninetieth_error_ratio=errors[min(len(errors) - 1, int(0.9 * len(errors)))],
        interval_ratio=sum(row.interval_holds for row in counted) / len(counted),
    )


def section() -> Iterator[str]:
    """Lines of Markdown: the scores, every row, the refusals, and what was left out."""
    rows = ledgers_judged()
    published = tuple(row for row in rows if not row.ledger.id.startswith("llmd-"))
    series = tuple(row for row in rows if row.ledger.id.startswith("llmd-"))
    yield "## KV pool against published start-up logs"
    yield ""
    yield "| ledgers | n | median error | 90th percentile | interval holds |"
    yield "| --- | ---: | ---: | ---: | ---: |"
    for name, group in (("single logs", published), ("series on H100, vLLM 0.19.0", series), ("all", rows)):
        one = score(group)
        if one is None:
            yield f"| {name} | 0 | | | |"
            continue
        yield (
            f"| {name} | {one.count} | {one.median_error_ratio:.1%} | {one.ninetieth_error_ratio:.1%} "
            f"| {one.interval_ratio:.0%} |"
        )
    yield ""
    yield "| ledger | GPU | vLLM | predicted GiB | logged GiB | error | interval GiB | holds | left open |"
    yield "| --- | --- | --- | ---: | ---: | ---: | --- | --- | --- |"
    yield from (_line(row) for row in rows)
    yield ""
    yield "Starts that vLLM refused; sizing must never say that they fit:"
    yield ""
    yield "| ledger | sizing says | why |"
    yield "| --- | --- | --- |"
    for row in map(judged, ledger_file().refusals):
        yield f"| {row.ledger.id} | {row.verdict.replace('_', ' ')} | {row.why} |"
    yield ""
    yield f"Read and left out ({len(ledger_file().excluded)}), because the source says too little or it is no BF16 or"
    yield "official FP8 model on an NVIDIA GPU with vLLM 0.19 or newer:"
    yield ""
    for name, reason in sorted(ledger_file().excluded.items(), key=lambda item: (item[1], item[0])):
        yield f"- {name}: {reason}"


def _line(row: Judged) -> str:
    ledger = row.ledger
    place = f"| {ledger.id} | {ledger.gpu} x {ledger.tensor_parallel_size} | {ledger.vllm_version} |"
    if row.verdict == "not judged":
        return f"{place} | {row.observed_gib:.2f} | | | not judged | {row.why} |"
    return (
        f"{place} {row.predicted_gib:.2f} | {row.observed_gib:.2f} | {row.error_ratio:+.1%} | "
        f"{row.low_gib:.2f} to {row.high_gib:.2f} | {'yes' if row.interval_holds else '**no**'} | {ledger.assumed} |"
    )


def main() -> int:
    """Prints the section."""
    try:
        sys.stdout.write("\n".join(section()) + "\n")
    except SizingError as error:
        sys.stderr.write(f"judge_ledgers: {error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())

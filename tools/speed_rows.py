"""Speed rows: published serving measurements, and the same load replayed by sizing."""

import math
from dataclasses import dataclass, replace
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Literal

import yaml

from sizing.closed_loop import LoopLimits, LoopResult, closed_loop, spread_lengths
from sizing.device import Device, find_gpu
from sizing.documents import Part
from sizing.engine_defaults import supported_vllm_versions
from sizing.engine_settings import EngineConfiguration, Settings, settings_of
from sizing.estimate import estimate
from sizing.memory_budget import memory_budget
from sizing.model_facts import load_model_facts
from sizing.speed import StepTime
from sizing.step_bytes import StoredAs, WeightFormat, step_bytes
from sizing.units import GIB, MIB
from sizing.weights import Stage
from tools.speed_series import series_rows

ROWS = Path(__file__).resolve().parents[1] / "tests" / "golden" / "speed_rows.yaml"
ASYNCHRONOUS_FROM = (0, 14)
"""The first release whose scheduler runs ahead of the device by default."""


class Stored(Part):
    """How the weights are stored, where sizing cannot size the checkpoint."""

    linears: WeightFormat | None = None
    experts: WeightFormat | None = None
    head: WeightFormat | None = None


class Seen(Part):
    """What was published; throughputs in tokens a second."""

    output_tokens_per_second: float | None = None
    total_tokens_per_second: float | None = None
    ttft_ms: float | None = None
    tpot_ms: float | None = None
    itl_ms: float | None = None


class SpeedRow(Part):
    """One published run."""

    id: str
    source: str
    use: Literal["given", "extra"]
    model: str
    gpu: str
    tensor_parallel_size: int = 1
    pipeline_parallel_size: int = 1
    vllm_version: str
    stored_as: Stored | None = None
    kv_cache_dtype: str = "auto"
    max_model_len: int | None = None
    language_model_only: bool = False
    prompt_tokens: float
    output_tokens: float
    lengths: Literal["fixed", "spread"] = "fixed"
    request_count: int
    concurrency: int
    requests_per_second: float = math.inf
    prefix_tokens: int = 0
    admission_ms: float = 0.0
    seen: Seen
    left_out: str = ""
    chose: str = ""
    or_gpu: str | None = None
    note: str = ""

    @property
    def half(self) -> Literal["fit", "check"]:
        """Whether factors and intervals may look at it: decided by the hash of its source, before anyone read it."""
        return "fit" if sha256(self.source.encode()).hexdigest()[0] < "8" else "check"


class _Rows(Part):
    rows: tuple[SpeedRow, ...]


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What sizing says about a row, with the interval that it states."""

    result: LoopResult
    interval: tuple[float, float]
    first_token_interval: tuple[float, float]
    provenance: str


@cache
def speed_rows() -> tuple[SpeedRow, ...]:
    """Every row of the file."""
    return _Rows.model_validate(yaml.safe_load(ROWS.read_text(encoding="utf-8"))).rows


def configuration_of(row: SpeedRow) -> EngineConfiguration:
    """The engine of a row; versions that the catalogue does not know any more take the oldest that it knows."""
    version, oldest = row.vllm_version, supported_vllm_versions()[-1]
    key = tuple(int(part) for part in version.split(".")[:2])
    if key < tuple(int(part) for part in oldest.split(".")[:2]):
        version = f"{oldest}.0"
    return EngineConfiguration(
        model=load_model_facts(row.model),
        device=device_of(row),
        tensor_parallel_size=row.tensor_parallel_size,
        pipeline_parallel_size=row.pipeline_parallel_size,
        kv_cache_dtype=row.kv_cache_dtype,
        max_model_len=row.max_model_len,
        language_model_only=row.language_model_only,
        async_scheduling=key >= ASYNCHRONOUS_FROM,
        vllm_version=version,
    )


UNIFIED_MEMORY_BYTES = 119 * GIB
"""What a GB10 reports as memory: its host's, 128 GB less what the firmware keeps."""


def device_of(row: SpeedRow) -> Device:
    """The GPU of a row."""
    facts = find_gpu(row.gpu)
    if facts.memory_total_mib is None:
        facts = facts.model_copy(update={"memory_total_mib": UNIFIED_MEMORY_BYTES // MIB})
    return Device.of_gpu(facts.as_gpu())


def predict(row: SpeedRow) -> Prediction:
    """The load of a row, replayed."""
    configuration = configuration_of(row)
    stored_as = StoredAs(**row.stored_as.model_dump()) if row.stored_as else None
    times = StepTime.of(configuration, stored_as=stored_as)
    settings = settings_of(configuration)
    limits = LoopLimits(
        max_num_batched_tokens=settings.max_num_batched_tokens,
        max_num_seqs=settings.max_num_seqs,
        kv_tokens=_kv_tokens(row, configuration, stored_as),
    )
    result = closed_loop(
        times,
        limits,
        lengths_of(row),
        concurrency=row.concurrency,
        requests_per_second=row.requests_per_second,
        prefix_hit_ratio=row.prefix_tokens / row.prompt_tokens,
    )
    low, high = times.interval_ratio
    return Prediction(
        result=_admitted(row, result),
        interval=(low, high),
        first_token_interval=(low * times.first_token_at(low), high * times.first_token_at(high)),
        provenance=times.provenance,
    )


def _admitted(row: SpeedRow, result: LoopResult) -> LoopResult:
    """With what the API server took before the first burst reached the engine: all of it waits for the last."""
    lead = min(row.concurrency, row.request_count) * row.admission_ms / 1e3
    share = result.duration_seconds / (result.duration_seconds + lead)
    return replace(
        result,
        duration_seconds=result.duration_seconds + lead,
        output_tokens_per_second=result.output_tokens_per_second * share,
        total_tokens_per_second=result.total_tokens_per_second * share,
        ttft_seconds=result.ttft_seconds + lead * min(1.0, row.concurrency / row.request_count),
    )


def lengths_of(row: SpeedRow) -> tuple[tuple[int, int], ...]:
    """Prompt and output tokens of every request of a row."""
    if row.lengths == "fixed":
        return ((round(row.prompt_tokens), round(row.output_tokens)),) * row.request_count
    prompts = spread_lengths(row.prompt_tokens, row.request_count)
    outputs = spread_lengths(row.output_tokens, row.request_count)
    return tuple(zip(prompts, reversed(outputs), strict=True))


def _kv_tokens(row: SpeedRow, configuration: EngineConfiguration, stored_as: StoredAs | None) -> float:
    """Tokens that the cache holds; what four-bit weights leave over is cache too."""
    length = max(2048, 4 * round(row.prompt_tokens + row.output_tokens))
    length = min(length, configuration.model.max_model_len_tokens)
    wanted = replace(configuration, max_model_len=length)
    if stored_as is not None:
        settings = settings_of(wanted)
        left = zip(memory_budget(settings, wanted).kv_bytes, settings.stages, strict=True)
        saved = (kv + _bytes(settings, stage, None) - _bytes(settings, stage, stored_as) for kv, stage in left)
        wanted = replace(wanted, kv_cache_memory_bytes=max(1, int(min(saved))))
    return float(estimate(wanted).kv_cache_tokens) or float(length)


def _bytes(settings: Settings, stage: Stage, stored_as: StoredAs | None) -> float:
    """Weights of one rank."""
    width = settings.weight_element_bytes
    reads = step_bytes(
        settings.model,
        shards=settings.shards,
        stage=stage,
        element_bytes=width,
        kv_element_bytes=width,
        stored_as=stored_as,
    )
    routed = sum(one.count * one.bytes_per_expert * one.layer_count for one in reads.experts)
    return sum(one.total_bytes for one in reads.weights) + routed + (reads.head.total_bytes if reads.head else 0.0)


def batch_limit(row: SpeedRow) -> int:
    """Requests that run at once: what the load sends, as far as the cache holds them."""
    configuration = configuration_of(row)
    stored_as = StoredAs(**row.stored_as.model_dump()) if row.stored_as else None
    held = _kv_tokens(row, configuration, stored_as) / (row.prompt_tokens + row.output_tokens / 2)
    return max(1, min(row.concurrency, settings_of(configuration).max_num_seqs, int(held)))


def series_as_rows() -> tuple[SpeedRow, ...]:
    """The loads of the series whose model is in the catalogue, in the form of rows: every third, to spare the peer."""
    loads = [row for row in series_rows() if row.lengths is not None and "/" in row.model]
    return tuple(
        SpeedRow(
            id=f"series-{row.tensor_parallel_size}x{row.gpu}-{row.lengths[0]}-{row.lengths[1]}-c{row.concurrency}",
            source="tests/golden/speed_series.csv",
            use="extra",
            model=row.model,
            gpu=row.gpu,
            tensor_parallel_size=row.tensor_parallel_size,
            vllm_version="0.12.0",
            prompt_tokens=row.lengths[0],
            output_tokens=row.lengths[1],
            request_count=max(48, 2 * row.concurrency),
            concurrency=row.concurrency,
            seen=Seen(tpot_ms=row.seen_seconds * 1e3),
        )
        for row in loads[::3]
        if row.lengths is not None
    )

"""Speed series: measured times per token and step that the factors for H100, H200 and B200 come from, and sizing's.

Llama and MiniMax are no models of the catalogue; their shapes stand here, as their config.json has them.
"""

import csv
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from sizing.closed_loop import LoopLimits, closed_loop
from sizing.device import Device, find_gpu
from sizing.efficiency import family_of
from sizing.engine_settings import EngineConfiguration
from sizing.estimate import estimate
from sizing.model_facts import load_model_facts
from sizing.model_shape import AttentionLayer, Experts, FeedForward, ModelFacts, WeightQuantization
from sizing.serving import Journal
from sizing.speed import StepTime
from sizing.step_seconds import steps_of

SERIES = Path(__file__).resolve().parents[1] / "tests" / "golden" / "speed_series.csv"
REPLAYED_REQUESTS = 48
OLDEST_VERSION = "0.19.0"
"""The series ran on 0.11 to 0.24; the memory of the oldest known version bounds their batches."""


@dataclass(frozen=True, kw_only=True)
class SeriesRow:
    """One measured time: of a load (mean time per token) or of a single step."""

    model: str
    gpu: str
    tensor_parallel_size: int
    asynchronous: bool
    lengths: tuple[int, int] | None
    concurrency: int
    step: tuple[int, int, int] | None
    seen_seconds: float

    @property
    def series(self) -> str:
        """Model, GPU and ranks, in words."""
        return f"{self.model}, {self.tensor_parallel_size} x {self.gpu}, {'load' if self.lengths else 'steps'}"

    @property
    def formats(self) -> tuple[str, ...]:
        """How its weights are stored; the head is always plain."""
        quantization = _facts(self.model).quantization
        return ("plain",) if quantization is None else ("plain", "fp8_block" if quantization.block else "fp8")


@cache
def family_name(row: SeriesRow) -> str:
    """The family of its GPU."""
    return family_of(Device.of_gpu(find_gpu(row.gpu).as_gpu())).name


@cache
def series_rows() -> tuple[SeriesRow, ...]:
    """Every row of the file."""
    with SERIES.open(encoding="utf-8", newline="") as file:
        return tuple(_row(cells) for cells in csv.DictReader(file))


def series_seconds(rows: Sequence[SeriesRow]) -> tuple[float, ...]:
    """What sizing says about each row, with the factors that are in force."""
    built: dict[EngineConfiguration, StepTime] = {}
    found = []
    for row in rows:
        configuration = _configuration(row.model, row.gpu, row.tensor_parallel_size, row.asynchronous)
        times = built.get(configuration) or StepTime.of(configuration)
        built[configuration] = times
        found.append(_seconds(row, times))
    return tuple(found)


def _seconds(row: SeriesRow, times: StepTime) -> float:
    if row.lengths is None:
        decodes, context, new = row.step or (0, 0, 0)
        return times.step_seconds(decode_count=decodes, decode_context_tokens=context, prefill_tokens=new)
    ask = steps_of(times)
    return sum(ask(*step) * share for step, share in _steps(row))


@cache
def _steps(row: SeriesRow) -> tuple[tuple[tuple[int, int, int, float], float], ...]:
    """The different steps of a load, and their shares in the mean time per token: the requests that wait for a further
    token while they run, to all such tokens. Who is served when does not depend on how long steps take, as long as the
    next request is sent when one is answered; so a fit replays every load once. A step is linear in context and pairs:
    those that differ in nothing else count as their mean."""
    configuration = _configuration(row.model, row.gpu, row.tensor_parallel_size, row.asynchronous)
    limits = LoopLimits(max_num_batched_tokens=8192, max_num_seqs=1024, kv_tokens=_kv_tokens(configuration))
    count = max(REPLAYED_REQUESTS, 2 * row.concurrency)
    prompt, output = row.lengths or (1, 1)
    journal: Journal = []
    lengths = ((prompt, output),) * count
    closed_loop(StepTime.of(configuration), limits, lengths, concurrency=row.concurrency, journal=journal)
    found: defaultdict[tuple[int, int], list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
    for decoding, context, prefill, pairs, alike, begun in journal:
        if begun:
            share = alike * begun / count / (output - 1)
            sums = found[decoding, prefill]
            sums[0], sums[1], sums[2] = sums[0] + share, sums[1] + share * context, sums[2] + share * pairs
    return tuple(
        ((decoding, round(context / share), prefill, pairs / share), share)
        for (decoding, prefill), (share, context, pairs) in found.items()
    )


@cache
def _kv_tokens(configuration: EngineConfiguration) -> float:
    return float(estimate(configuration).kv_cache_tokens) or 60_000.0


@cache
def _configuration(model: str, gpu: str, ranks: int, asynchronous: bool) -> EngineConfiguration:
    return EngineConfiguration(
        model=_facts(model),
        device=Device.of_gpu(find_gpu(gpu).as_gpu()),
        tensor_parallel_size=ranks,
        max_model_len=12_000,
        async_scheduling=asynchronous,
        gpu_memory_utilization=0.9,
        vllm_version=OLDEST_VERSION,
    )


@cache
def _facts(model: str) -> ModelFacts:
    if model == "llama-3.1-70b-fp8":
        return _shape(
            model,
            layer_count=80,
            hidden_size=8192,
            query_head_count=64,
            vocabulary_size=128_256,
            feed_forward=FeedForward(intermediate_size=28_672),
            quantization=WeightQuantization(method="fp8", block=None),
        )
    if model == "minimax-m2.5-fp8":
        return _shape(
            model,
            layer_count=62,
            hidden_size=3072,
            query_head_count=48,
            vocabulary_size=200_064,
            feed_forward=FeedForward(
                intermediate_size=0, experts=Experts(count=256, intermediate_size=1536, per_token_count=8)
            ),
            quantization=WeightQuantization(method="fp8", block=(128, 128)),
        )
    return load_model_facts(model)


def _shape(
    name: str,
    *,
    layer_count: int,
    hidden_size: int,
    query_head_count: int,
    vocabulary_size: int,
    feed_forward: FeedForward,
    quantization: WeightQuantization,
) -> ModelFacts:
    """A decoder of equal layers with eight KV heads of 128; what speed does not ask for is a Qwen3's."""
    experts = feed_forward.experts
    width = feed_forward.intermediate_size or (experts.per_token_count * experts.intermediate_size if experts else 0)
    return replace(
        load_model_facts("Qwen/Qwen3-32B"),
        name=name,
        hidden_size=hidden_size,
        intermediate_size=width,
        query_head_count=query_head_count,
        vocabulary_size=vocabulary_size,
        layers=(AttentionLayer(kind="full", kv_head_count=8, head_dim=128),) * layer_count,
        feed_forwards=(feed_forward,) * layer_count,
        quantization=quantization,
    )


def _row(cells: dict[str, str]) -> SeriesRow:
    load = cells["kind"] == "load"
    return SeriesRow(
        model=cells["model"],
        gpu=cells["gpu"],
        tensor_parallel_size=int(cells["tensor_parallel_size"]),
        asynchronous=cells["asynchronous"] == "1",
        lengths=(int(cells["prompt_tokens"]), int(cells["output_tokens"])) if load else None,
        concurrency=int(cells["concurrency"]) if load else 0,
        step=None
        if load
        else (int(cells["decode_count"]), int(cells["decode_context_tokens"]), int(cells["prefill_tokens"])),
        seen_seconds=float(cells["seen_ms"]) / 1e3,
    )

"""Speed: how long one engine step takes, from what it must read, multiply and send.

    step   = sum over pipeline stages of: matrices + experts + head + attention + all-reduce + launches;  + host
    matrix = the larger of: bytes / (bandwidth x ratio), 2 x multiplications x tokens / (peak x ratio)

A step holds `decode_count` requests that get one token each and `prefill_tokens` of prompts. With p pipeline stages p
such batches are under way at once: a request gets its next token after every batch of a p-th of the requests has passed
every stage. The ratios and the fixed times are in `catalogue/efficiency.yaml`; no figure belongs to a single model.
"""

from dataclasses import dataclass
from typing import Literal, Self

from sizing.calibration import Calibration
from sizing.efficiency import MICRO, FamilyRow, Peaks, efficiency_table, family_of, link_row, peaks_of
from sizing.engine_defaults import defaults_for
from sizing.engine_settings import EngineConfiguration, settings_of
from sizing.kv_cache import kv_element_bytes
from sizing.model_shape import ModelFacts
from sizing.step_bytes import CacheRead, ExpertRead, StoredAs, WeightRead, step_bytes
from sizing.step_operations import AttentionWork, attention_work, causal_pairs, traffic
from sizing.weights import Stage

SpeedProvenance = Literal["calibrated", "extrapolated"]
LOGITS_BYTES = 16
"""Per sampled token and vocabulary entry: logits in bf16 and float32, read and written (gpu/sample/sampler.py)."""


@dataclass(frozen=True, kw_only=True)
class Seconds:
    """A time with the interval that holds in eight cases of ten."""

    value: float
    low: float
    high: float
    provenance: SpeedProvenance


@dataclass(frozen=True, kw_only=True)
class _Matrix:
    """Seconds of matrices of one format: to read them, and to multiply them with one token."""

    read_seconds: float
    token_seconds: float


@dataclass(frozen=True, kw_only=True)
class _Routed:
    read: ExpertRead
    seconds_per_expert: float
    token_seconds: float


@dataclass(frozen=True, kw_only=True)
class _StageTime:
    """One rank's step in coefficients: everything in seconds."""

    matrices: tuple[_Matrix, ...]
    experts: tuple[_Routed, ...]
    head: _Matrix | None
    cache_token_seconds: float
    windows: tuple[tuple[int, float, float], ...]
    state_seconds: float
    pair_seconds: float
    state_token_seconds: float
    sample_seconds: float
    reduce_seconds: float
    reduce_token_seconds: float
    fixed_seconds: float
    mixed_seconds: float
    overlap_power: float

    def seconds(self, decodes: float, context: float, new: float, old: float) -> float:
        """One micro-batch through this stage."""
        tokens = decodes + new
        if tokens <= 0:
            return 0.0
        total = self.fixed_seconds + self.reduce_seconds + tokens * self.reduce_token_seconds
        for matrix in self.matrices:
            total += self._together(matrix.read_seconds, matrix.token_seconds * tokens)
        for routed in self.experts:
            hit = routed.read.hit_count(int(tokens) or 1)
            total += self._together(hit * routed.seconds_per_expert, routed.token_seconds * tokens)
        sampled = decodes + (1 if new else 0)
        if self.head is not None:
            total += self._together(self.head.read_seconds, self.head.token_seconds * sampled)
            total += sampled * self.sample_seconds
        total += context * self.cache_token_seconds + decodes * self.state_seconds
        each = context / decodes if decodes else 0.0
        for window, token_seconds, pair_seconds in self.windows:
            total += decodes * min(each, window) * token_seconds
            total += min(causal_pairs(int(new), int(old)), new * window) * pair_seconds
        if new:
            total += self.mixed_seconds
            total += causal_pairs(int(new), int(old)) * self.pair_seconds + new * self.state_token_seconds
        return total

    def _together(self, reading: float, multiplying: float) -> float:
        """A matrix that is read while it is multiplied: near the larger of the two, above it where they are alike."""
        power = self.overlap_power
        return float((reading**power + multiplying**power) ** (1.0 / power))


@dataclass(frozen=True, kw_only=True)
class StepTime:
    """How long one step of one engine takes; built once, asked often."""

    stages: tuple[_StageTime, ...]
    host_seconds: float
    request_seconds: float
    host_overlaps: bool
    interval_ratio: tuple[float, float]
    provenance: SpeedProvenance

    @classmethod
    def of(
        cls,
        configuration: EngineConfiguration,
        *,
        calibration: Calibration | None = None,  # noqa: ARG003 - no calibration holds speeds yet
        stored_as: StoredAs | None = None,
    ) -> Self:
        """The times of a configuration. `stored_as`: for checkpoints that sizing cannot size, such as AWQ."""
        settings = settings_of(configuration)
        device, family = settings.device, family_of(settings.device)
        peaks = peaks_of(device)
        kv_bytes = kv_element_bytes(configuration.kv_cache_dtype, model_element_bytes=settings.weight_element_bytes)
        stages = tuple(
            _stage_time(
                settings.model,
                stage,
                shards=settings.shards,
                peaks=peaks,
                family=family,
                kv_bytes=kv_bytes or 2,
                element_bytes=settings.weight_element_bytes,
                stored_as=stored_as,
            )
            for stage in settings.stages
        )
        low, high = family.interval
        table = efficiency_table()
        for widens, (lower, upper) in (
            (not family.measured and device.accelerator == "cuda", table.unmeasured_widening),
            (not peaks.known and device.accelerator == "cuda", table.unknown_gpu_widening),
        ):
            if widens:
                low, high = low * lower, high * upper
        return cls(
            stages=stages,
            host_seconds=table.host.step_us * MICRO,
            request_seconds=table.host.request_us * MICRO,
            host_overlaps=_host_overlaps(configuration),
            interval_ratio=(low, high),
            provenance="calibrated" if family.measured and peaks.known else "extrapolated",
        )

    def step_seconds(
        self, *, decode_count: int, decode_context_tokens: int, prefill_tokens: int, prefill_context_tokens: int = 0
    ) -> float:
        """One step: `decode_count` requests that hold `decode_context_tokens` together get a token each, and
        `prefill_tokens` of prompts follow `prefill_context_tokens` that are cached already."""
        ways = len(self.stages)
        decodes, context = max(1.0, decode_count / ways) if decode_count else 0.0, decode_context_tokens / ways
        new = prefill_tokens / ways
        total = 0.0
        for stage in self.stages:
            total += stage.seconds(decodes, context, new, prefill_context_tokens)
        host = self.host_seconds + decode_count * self.request_seconds
        return max(total, host) if self.host_overlaps else total + host

    def interval(self, seconds: float) -> Seconds:
        """A time that rests on these steps, with its interval."""
        low, high = self.interval_ratio
        return Seconds(value=seconds, low=seconds * low, high=seconds * high, provenance=self.provenance)


def _host_overlaps(configuration: EngineConfiguration) -> bool:
    """Whether the next step is scheduled while the device still computes this one."""
    if configuration.device.accelerator == "cpu":
        return False
    if configuration.async_scheduling is not None:
        return configuration.async_scheduling
    return defaults_for(configuration.device, vllm_version=configuration.vllm_version).async_scheduling


def _stage_time(
    model: ModelFacts,
    stage: Stage,
    *,
    shards: int,
    peaks: Peaks,
    family: FamilyRow,
    kv_bytes: int,
    element_bytes: int,
    stored_as: StoredAs | None,
) -> _StageTime:
    reads = step_bytes(
        model,
        shards=shards,
        stage=stage,
        element_bytes=element_bytes,
        kv_element_bytes=kv_bytes,
        stored_as=stored_as,
    )
    work = attention_work(model, shards=shards, stage=stage)
    sent = traffic(model, shards=shards, stage=stage, element_bytes=element_bytes)
    link = link_row(peaks.link_kind)
    cache_speed = peaks.bandwidth * family.cache_bandwidth_ratio
    attention_speed = peaks.operations["plain"] * family.attention_ratio
    layers = stage.end_layer - stage.first_layer
    return _StageTime(
        matrices=tuple(_matrix(read, peaks, family) for read in reads.weights),
        experts=tuple(_routed(read, peaks, family) for read in reads.experts),
        head=_matrix(reads.head, peaks, family) if reads.head else None,
        cache_token_seconds=reads.cache.bytes_per_token / cache_speed,
        windows=_windows(reads.cache, work, cache_speed, attention_speed),
        state_seconds=2 * reads.cache.state_bytes / cache_speed,
        pair_seconds=work.operations_per_pair / attention_speed,
        state_token_seconds=work.state_operations_per_token / attention_speed,
        sample_seconds=LOGITS_BYTES * model.vocabulary_size / shards / peaks.bandwidth,
        reduce_seconds=sent.reduce_count * link.reduce_us * MICRO,
        reduce_token_seconds=sent.bytes_per_token / (peaks.link * link.bandwidth_ratio),
        fixed_seconds=(
            layers * family.layer_us + sum(read.layer_count for read in reads.experts) * family.expert_layer_us
        )
        * MICRO,
        mixed_seconds=layers * family.mixed_layer_us * MICRO,
        overlap_power=efficiency_table().overlap_power,
    )


def _matrix(read: WeightRead, peaks: Peaks, family: FamilyRow) -> _Matrix:
    row = family.formats[read.format]
    return _Matrix(
        read_seconds=read.total_bytes / (peaks.bandwidth * row.bandwidth_ratio),
        token_seconds=2 * read.multiplications / (peaks.operations[read.format] * row.operations_ratio),
    )


def _routed(read: ExpertRead, peaks: Peaks, family: FamilyRow) -> _Routed:
    row = family.formats[read.format]
    visits = read.layer_count * read.per_token_count
    return _Routed(
        read=read,
        seconds_per_expert=read.layer_count
        * read.bytes_per_expert
        / (peaks.bandwidth * row.bandwidth_ratio * family.expert_ratio),
        token_seconds=2
        * visits
        * read.multiplications_per_expert
        / (peaks.operations[read.format] * row.operations_ratio * family.expert_ratio),
    )


def _windows(
    cache: CacheRead, work: AttentionWork, cache_speed: float, attention_speed: float
) -> tuple[tuple[int, float, float], ...]:
    operations = dict(work.windows)
    return tuple(
        (window, token_bytes / cache_speed, operations[window] / attention_speed)
        for window, token_bytes in cache.windows
    )

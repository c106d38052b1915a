"""Stage time: one rank's part of an engine step in coefficients, everything in seconds.

matrix = bytes / (bandwidth x ratio) and 2 x multiplications x tokens / (peak x ratio), overlapped: the root of the
         sum of powers, near the larger of the two
cache  = bytes of keys and values in context / (bandwidth x ratio); a window counts its own tokens at most
prompt = pairs of tokens that see each other x operations / (peak x ratio)
         (peaks beyond what the card's watts pay for count for less)
ranks  = all-reduces x latency + bytes / (link x ratio)
"""

from dataclasses import dataclass, replace

from sizing.calibration import SpeedFactors
from sizing.efficiency import MICRO, FamilyRow, Peaks, efficiency_table, link_row
from sizing.model_shape import ModelFacts
from sizing.step_bytes import CacheRead, ExpertRead, StoredAs, WeightRead, step_bytes
from sizing.step_operations import AttentionWork, attention_work, causal_pairs, traffic
from sizing.weights import Stage

LOGITS_BYTES = 16
"""Per sampled token and vocabulary entry: logits in bf16 and float32, read and written (gpu/sample/sampler.py)."""


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
class StageTime:
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

    def scaled(self, factors: SpeedFactors) -> "StageTime":
        """With every kind of time multiplied by its factor."""
        fixed, reading, multiplying = factors.fixed_ratio, factors.reading_ratio, factors.multiplying_ratio
        return replace(
            self,
            matrices=tuple(_scaled(one, reading, multiplying) for one in self.matrices),
            experts=tuple(
                replace(
                    one,
                    seconds_per_expert=one.seconds_per_expert * reading,
                    token_seconds=one.token_seconds * multiplying,
                )
                for one in self.experts
            ),
            head=_scaled(self.head, reading, multiplying) if self.head else None,
            cache_token_seconds=self.cache_token_seconds * reading,
            windows=tuple((size, token * reading, pair * multiplying) for size, token, pair in self.windows),
            state_seconds=self.state_seconds * reading,
            pair_seconds=self.pair_seconds * multiplying,
            state_token_seconds=self.state_token_seconds * multiplying,
            sample_seconds=self.sample_seconds * reading,
            reduce_seconds=self.reduce_seconds * fixed,
            reduce_token_seconds=self.reduce_token_seconds * multiplying,
            fixed_seconds=self.fixed_seconds * fixed,
            mixed_seconds=self.mixed_seconds * fixed,
        )

    def _together(self, reading: float, multiplying: float) -> float:
        """A matrix that is read while it is multiplied: near the larger of the two, above it where they are alike."""
        power = self.overlap_power
        return float((reading**power + multiplying**power) ** (1.0 / power))


def _scaled(matrix: _Matrix, reading: float, multiplying: float) -> _Matrix:
    return _Matrix(read_seconds=matrix.read_seconds * reading, token_seconds=matrix.token_seconds * multiplying)


def stage_time(
    model: ModelFacts,
    stage: Stage,
    *,
    shards: int,
    peaks: Peaks,
    family: FamilyRow,
    kv_bytes: int,
    element_bytes: int,
    stored_as: StoredAs | None,
) -> StageTime:
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
    attention_speed = peaks.operations["plain"] * min(1.0, family.attention_ratio * peaks.power_ratio(family))
    layers = stage.end_layer - stage.first_layer
    return StageTime(
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
        token_seconds=2 * read.multiplications / peaks.operations_at(read.format, family),
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
        / (peaks.operations_at(read.format, family) * family.expert_ratio),
    )


def _windows(
    cache: CacheRead, work: AttentionWork, cache_speed: float, attention_speed: float
) -> tuple[tuple[int, float, float], ...]:
    operations = dict(work.windows)
    return tuple(
        (window, token_bytes / cache_speed, operations[window] / attention_speed)
        for window, token_bytes in cache.windows
    )

"""Step bytes: what one rank reads from its memory during one engine step, and what the weights are multiplied with.

Weights are grouped by how they are stored, because that decides how fast they are read and multiplied:

    a matrix           is read once a step, whatever the batch
    routed experts     only those that the batch hits: of E experts, k a token, T tokens hit E x (1 - (1 - k / E)^T)
    the head           is read once, and multiplied for the tokens that are sampled alone
    the embedding      is looked up row by row: nothing
    keys and values    of every token in context; of a sliding window at most the window; a state is read and written

The shapes are those of sizing/layer_weights.py, which the golden tests compare with vLLM's own classes.
"""

from collections import defaultdict
from dataclasses import dataclass
from typing import Literal

from sizing.kv_groups import state_bytes
from sizing.layer_weights import kv_heads_per_rank, layer_linears
from sizing.linear import Linear, linear_bytes
from sizing.model_shape import AttentionLayer, GatedDeltaNetLayer, ModelFacts
from sizing.units import round_up
from sizing.weights import VOCABULARY_MULTIPLE, Stage

WeightFormat = Literal["plain", "fp8", "fp8_block", "int4", "nvfp4"]
"""How a matrix is stored: in the dtype of the model, in FP8 with one scale or with one scale a block, in four bits."""

BITS_PER_WEIGHT: dict[WeightFormat, float] = {"int4": 4.25, "nvfp4": 4.5}
"""Of formats that sizing does not size: AWQ and GPTQ with groups of 128 (4 bits, a scale and a zero), NVFP4 with one
FP8 scale for 16 weights."""


@dataclass(frozen=True, kw_only=True)
class StoredAs:
    """How a checkpoint that sizing cannot size is stored; None: as config.json says."""

    linears: WeightFormat | None = None
    experts: WeightFormat | None = None
    head: WeightFormat | None = None


@dataclass(frozen=True, kw_only=True)
class WeightRead:
    """Matrices of one format on one rank: bytes that a step reads, and multiplications for each token."""

    format: WeightFormat
    total_bytes: float
    multiplications: float
    matrix_count: int


@dataclass(frozen=True, kw_only=True)
class ExpertRead:
    """The routed experts of one rank: of `count` in a layer each token visits `per_token_count`."""

    format: WeightFormat
    count: int
    per_token_count: int
    bytes_per_expert: float
    multiplications_per_expert: float
    layer_count: int

    def hit_count(self, token_count: int) -> float:
        """How many experts of a layer a batch is expected to hit, when every expert is equally likely."""
        return self.count * (1.0 - (1.0 - self.per_token_count / self.count) ** token_count)


@dataclass(frozen=True, kw_only=True)
class CacheRead:
    """What one request costs of cache on one rank; windows are pairs of tokens and bytes per token."""

    bytes_per_token: int
    windows: tuple[tuple[int, int], ...]
    state_bytes: int


@dataclass(frozen=True, kw_only=True)
class StepBytes:
    """Everything that one rank reads."""

    weights: tuple[WeightRead, ...]
    experts: tuple[ExpertRead, ...]
    head: WeightRead | None
    cache: CacheRead


def step_bytes(
    model: ModelFacts,
    *,
    shards: int,
    stage: Stage,
    element_bytes: int,
    kv_element_bytes: int,
    stored_as: StoredAs | None = None,
) -> StepBytes:
    """The reads of one rank."""
    other = stored_as or StoredAs()
    matrices: dict[WeightFormat, list[tuple[float, float]]] = defaultdict(list)
    experts: dict[tuple[WeightFormat, int, int], list[tuple[float, float, bool]]] = defaultdict(list)
    for index in range(stage.first_layer, stage.end_layer):
        routed = model.feed_forwards[index].experts
        for linear in layer_linears(model, index, shards):
            is_routed = linear.copies > 1 and routed is not None
            wanted = other.experts if is_routed else other.linears
            stored, size = _stored(model, linear, f"model.layers.{index}.", element_bytes, wanted)
            if is_routed and routed is not None:
                key = (stored, routed.count, routed.per_token_count)
                one = linear.rows * linear.columns
                experts[key].append((size / linear.copies, float(one), linear.columns == model.hidden_size))
            else:
                matrices[stored].append((size, float(linear.rows * linear.columns)))
    return StepBytes(
        weights=tuple(
            WeightRead(
                format=stored,
                total_bytes=sum(size for size, _ in rows),
                multiplications=sum(count for _, count in rows),
                matrix_count=len(rows),
            )
            for stored, rows in matrices.items()
        ),
        experts=tuple(_expert_read(key, rows) for key, rows in experts.items()),
        head=_head(model, shards, element_bytes, other.head) if stage.is_last else None,
        cache=_cache(model, shards, stage, element_bytes, kv_element_bytes),
    )


def _stored(
    model: ModelFacts, linear: Linear, prefix: str, element_bytes: int, wanted: WeightFormat | None
) -> tuple[WeightFormat, float]:
    if wanted is not None and linear.parts:
        bits = BITS_PER_WEIGHT.get(wanted)
        return wanted, linear.elements * (bits / 8 if bits else element_bytes)
    size = linear_bytes(linear, model.quantization, prefix, element_bytes)
    if model.quantization is None or size >= linear.elements * element_bytes:
        return "plain", size
    return ("fp8_block" if model.quantization.block else "fp8"), size


def _expert_read(key: tuple[WeightFormat, int, int], rows: list[tuple[float, float, bool]]) -> ExpertRead:
    stored, count, per_token_count = key
    layer_count = sum(is_first for _, _, is_first in rows)
    return ExpertRead(
        format=stored,
        count=count,
        per_token_count=per_token_count,
        bytes_per_expert=sum(size for size, _, _ in rows) / layer_count,
        multiplications_per_expert=sum(one for _, one, _ in rows) / layer_count,
        layer_count=layer_count,
    )


def _head(model: ModelFacts, shards: int, element_bytes: int, wanted: WeightFormat | None) -> WeightRead:
    elements = round_up(model.vocabulary_size, VOCABULARY_MULTIPLE) // shards * model.hidden_size
    bits = BITS_PER_WEIGHT.get(wanted, 8.0 * element_bytes) if wanted else 8.0 * element_bytes
    return WeightRead(
        format=wanted or "plain", total_bytes=elements * bits / 8, multiplications=float(elements), matrix_count=1
    )


def _cache(model: ModelFacts, shards: int, stage: Stage, element_bytes: int, kv_element_bytes: int) -> CacheRead:
    full_bytes, states = 0, 0
    windows: dict[int, int] = defaultdict(int)
    for layer in model.layers[stage.first_layer : stage.end_layer]:
        if isinstance(layer, GatedDeltaNetLayer):
            states += state_bytes(layer, shards=shards, model_element_bytes=element_bytes)
        elif isinstance(layer, AttentionLayer):
            token_bytes = 2 * kv_heads_per_rank(layer.kv_head_count, shards) * layer.head_dim * kv_element_bytes
            if layer.window_tokens is None:
                full_bytes += token_bytes
            else:
                windows[layer.window_tokens] += token_bytes
    return CacheRead(bytes_per_token=full_bytes, windows=tuple(sorted(windows.items())), state_bytes=states)

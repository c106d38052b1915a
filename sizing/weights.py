"""Weights: bytes of the parameters that one rank holds, as vLLM builds them (0.32.0).

Linear layers are split over tensor-parallel ranks, norms are replicated, KV heads are replicated once there are more
ranks than heads, the vocabulary is padded to a multiple of 64 (layers/vocab_parallel_embedding.py:36), and a tied head
costs nothing where the embedding lies on the same rank. Layers for multi-token prediction are in the checkpoint but
vLLM loads them for speculative decoding alone. Exact: the golden tests compare with the sum over vLLM's own classes.
"""

from dataclasses import dataclass, replace

from sizing.errors import DocumentError
from sizing.layer_weights import (
    FLOAT32_BYTES,
    kv_heads_per_rank,
    layer_float32_elements,
    layer_linears,
    layer_vector_elements,
)
from sizing.linear import linear_bytes
from sizing.model_shape import AttentionLayer, ModelFacts
from sizing.tower_weights import stays_without_images, tower_elements
from sizing.units import round_up

__all__ = [
    "VOCABULARY_MULTIPLE",
    "Stage",
    "check_checkpoint",
    "kv_heads_per_rank",
    "pipeline_stages",
    "rank_weight_bytes",
]

VOCABULARY_MULTIPLE = 64
CHECKPOINT_TOLERANCE_RATIO = 0.02
"""How far the element count of a checkpoint may lie from its config.json before the two are called different models."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """The layers of one pipeline-parallel rank, and whether it holds the embedding and the head."""

    first_layer: int
    end_layer: int
    is_first: bool
    is_last: bool


def pipeline_stages(layer_count: int, stage_count: int) -> tuple[Stage, ...]:
    """Which layers each stage holds (vllm/distributed/utils.py:125-169, 0.32.0: the rest goes to the stages before
    the last)."""
    sizes = [layer_count // stage_count] * stage_count
    for index in range(2, layer_count % stage_count + 2):
        sizes[-index] += 1
    stages: list[Stage] = []
    start = 0
    for index, size in enumerate(sizes):
        stages.append(
            Stage(
                first_layer=start,
                end_layer=start + size,
                is_first=index == 0,
                is_last=index == stage_count - 1,
            )
        )
        start += size
    return tuple(stages)


def rank_weight_bytes(
    model: ModelFacts, *, shards: int, stage: Stage | None = None, element_bytes: int = 2, with_vision: bool = True
) -> int:
    """Bytes of parameters on one rank of `shards` tensor-parallel ranks; `stage` None means no pipeline."""
    place = stage or pipeline_stages(model.layer_count, 1)[0]
    total_bytes = sum(
        _layer_bytes(model, index, shards, element_bytes) for index in range(place.first_layer, place.end_layer)
    )
    total_bytes += _outer_elements(model, shards, place) * element_bytes
    if place.is_first and (with_vision or stays_without_images(model)):
        total_bytes += tower_elements(model, shards) * element_bytes
    return total_bytes


def check_checkpoint(model: ModelFacts) -> None:
    """Raise DocumentError where the safetensors files hold another model than config.json describes."""
    if model.checkpoint is None:
        return
    described, most = (
        _checkpoint_elements(model, with_prediction=False),
        _checkpoint_elements(model, with_prediction=True),
    )
    found = model.checkpoint.element_count
    slack = CHECKPOINT_TOLERANCE_RATIO * described
    if not described - slack <= found <= most + slack:
        raise DocumentError(
            f"{model.source}: config.json describes {described} weights, the {model.checkpoint.file_count} safetensors "
            f"files hold {found}; one of them belongs to another model, or files are missing"
        )


def _layer_bytes(model: ModelFacts, index: int, shards: int, element_bytes: int) -> int:
    prefix = f"model.layers.{index}."
    matrices = sum(
        linear_bytes(linear, model.quantization, prefix, element_bytes)
        for linear in layer_linears(model, index, shards)
    )
    vectors = layer_vector_elements(model, index, shards) * element_bytes
    return matrices + vectors + layer_float32_elements(model, index, shards) * FLOAT32_BYTES


def _outer_elements(model: ModelFacts, shards: int, stage: Stage) -> int:
    """Embedding, head and final norm, and the tables beside them, where this stage holds them."""
    padded_rows = round_up(model.vocabulary_size, VOCABULARY_MULTIPLE) // shards
    tables = int(stage.is_first or (stage.is_last and model.tied_embeddings))
    tables += int(stage.is_last and not model.tied_embeddings)
    elements = tables * padded_rows * model.hidden_size + (model.hidden_size if stage.is_last else 0)
    if model.per_layer_input is not None and stage.is_first:
        width = model.layer_count * model.per_layer_input.size
        rows = round_up(model.per_layer_input.vocabulary_size, VOCABULARY_MULTIPLE) // shards
        elements += rows * width + width // shards * model.hidden_size + model.per_layer_input.size
    if model.alternating_updates is not None:
        extra = model.alternating_updates.input_count - 1
        elements += (int(stage.is_first) + int(stage.is_last)) * extra * model.hidden_size**2 // shards
    return elements


def _checkpoint_elements(model: ModelFacts, *, with_prediction: bool) -> int:
    """Weights as a checkpoint stores them: unpadded, not split, tied tables once."""
    elements = sum(_layer_elements(model, index) for index in range(model.layer_count))
    tables = 1 if model.tied_embeddings else 2
    elements += tables * model.vocabulary_size * model.hidden_size + model.hidden_size
    whole = pipeline_stages(model.layer_count, 1)[0]
    plain = replace(model, per_layer_input=None, alternating_updates=None)
    elements += _outer_elements(model, 1, whole) - _outer_elements(plain, 1, whole)
    elements += tower_elements(model, 1)
    if with_prediction and model.prediction_layer_count:
        attention = next(index for index, layer in enumerate(model.layers) if isinstance(layer, AttentionLayer))
        one = _layer_elements(model, attention) + 2 * model.hidden_size**2 + 3 * model.hidden_size
        elements += model.prediction_layer_count * one
    return elements


def _layer_elements(model: ModelFacts, index: int) -> int:
    matrices = sum(linear.elements for linear in layer_linears(model, index, 1))
    return matrices + layer_vector_elements(model, index, 1) + layer_float32_elements(model, index, 1)

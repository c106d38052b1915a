"""Weights: bytes of the parameters that one rank holds, as vLLM builds them (0.32.0).

Linear layers are split over tensor-parallel ranks, norms are replicated, KV heads are replicated once there are more
ranks than heads, the vocabulary is padded to a multiple of 64 (layers/vocab_parallel_embedding.py:36), a tied head
costs nothing where the embedding lies on the same rank, and an FP8 linear costs one byte per weight and one float32
per block (quantization/utils/fp8_utils.py). Exact: the golden tests compare with the parameter sum of vLLM's classes.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from sizing.errors import DocumentError
from sizing.model_shape import AttentionLayer, ModelFacts, VisionTower, WeightQuantization
from sizing.units import ceil_div, round_up

VOCABULARY_MULTIPLE = 64
SCALE_BYTES = 4
KV_CACHE_SCALE_COUNT = 2
"""Per layer of a quantised checkpoint: k_scale and v_scale (layers/quantization/kv_cache.py, 0.32.0)."""
CHECKPOINT_TOLERANCE_RATIO = 0.02
"""How far the element count of a checkpoint may lie from its config.json before the two are called different models."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """The layers of one pipeline-parallel rank, and whether it holds the embedding and the head."""

    first_layer: int
    end_layer: int
    is_first: bool
    is_last: bool


@dataclass(frozen=True, kw_only=True)
class _Linear:
    """One matrix on one rank. `parts` are the checkpoint's names of the modules that it joins."""

    rows: int
    columns: int
    parts: tuple[str, ...]
    bias_elements: int = 0


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
    total_bytes = 0
    for index in range(place.first_layer, place.end_layer):
        for linear in _linears(model, model.layers[index], shards):
            total_bytes += _linear_bytes(linear, model.quantization, f"model.layers.{index}.", element_bytes)
        total_bytes += _norm_elements(model, model.layers[index]) * element_bytes
        if model.quantization is not None:
            total_bytes += KV_CACHE_SCALE_COUNT * SCALE_BYTES
    total_bytes += _outer_elements(model, shards, place) * element_bytes
    if with_vision and place.is_first and model.vision is not None:
        total_bytes += _vision_elements(model.vision, model.hidden_size, shards) * element_bytes
    return total_bytes


def kv_heads_per_rank(kv_head_count: int, shards: int) -> int:
    """KV heads on one rank; replicated beyond one per rank (vllm/config/model.py:1650-1671, 0.32.0)."""
    return max(1, kv_head_count // shards)


def check_checkpoint(model: ModelFacts) -> None:
    """Raise DocumentError where the safetensors files hold another model than config.json describes."""
    if model.checkpoint is None:
        return
    described = _checkpoint_elements(model)
    found = model.checkpoint.element_count
    if abs(found - described) > CHECKPOINT_TOLERANCE_RATIO * described:
        raise DocumentError(
            f"{model.source}: config.json describes {described} weights, the {model.checkpoint.file_count} safetensors "
            f"files hold {found}; one of them belongs to another model, or files are missing"
        )


def _linears(model: ModelFacts, layer: AttentionLayer, shards: int) -> Iterator[_Linear]:
    query_rows = model.query_head_count // shards * layer.head_dim
    kv_rows = kv_heads_per_rank(layer.kv_head_count, shards) * layer.head_dim
    yield _Linear(
        rows=query_rows + 2 * kv_rows,
        columns=model.hidden_size,
        parts=("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
        bias_elements=query_rows + 2 * kv_rows if model.query_key_value_bias else 0,
    )
    yield _Linear(
        rows=model.hidden_size,
        columns=query_rows,
        parts=("self_attn.o_proj",),
        bias_elements=model.hidden_size if model.output_projection_bias else 0,
    )
    inner = model.intermediate_size // shards
    yield _Linear(rows=2 * inner, columns=model.hidden_size, parts=("mlp.gate_proj", "mlp.up_proj"))
    yield _Linear(rows=model.hidden_size, columns=inner, parts=("mlp.down_proj",))


def _linear_bytes(linear: _Linear, quantization: WeightQuantization | None, prefix: str, element_bytes: int) -> int:
    bias_bytes = linear.bias_elements * element_bytes
    if quantization is None or any(prefix + part in quantization.kept_modules for part in linear.parts):
        return linear.rows * linear.columns * element_bytes + bias_bytes
    rows, columns = quantization.block or (linear.rows, linear.columns)
    scales = ceil_div(linear.rows, rows) * ceil_div(linear.columns, columns)
    return linear.rows * linear.columns + scales * SCALE_BYTES + bias_bytes


def _norm_elements(model: ModelFacts, layer: AttentionLayer) -> int:
    query_key_norms = 2 * layer.head_dim if model.query_key_norm else 0
    return model.norms_per_layer * model.hidden_size + query_key_norms


def _outer_elements(model: ModelFacts, shards: int, stage: Stage) -> int:
    """Embedding, head and final norm, where this stage holds them."""
    padded_rows = round_up(model.vocabulary_size, VOCABULARY_MULTIPLE) // shards
    tables = int(stage.is_first or (stage.is_last and model.tied_embeddings))
    tables += int(stage.is_last and not model.tied_embeddings)
    return tables * padded_rows * model.hidden_size + (model.hidden_size if stage.is_last else 0)


def _vision_elements(tower: VisionTower, text_hidden_size: int, shards: int) -> int:
    """A SigLIP tower without head, and Gemma 3's projector (models/siglip.py, models/gemma3_mm.py, 0.32.0)."""
    hidden, inner = tower.hidden_size, tower.intermediate_size
    patches = (tower.image_size // tower.patch_size) ** 2
    embeddings = tower.channel_count * tower.patch_size**2 * hidden + hidden + patches * hidden
    attention = 3 * (hidden * hidden + hidden) // shards + hidden * hidden // shards + hidden
    inner_part = (hidden * inner + inner) // shards + inner * hidden // shards + hidden
    norms = 4 * hidden
    projector = hidden * text_hidden_size + hidden
    return embeddings + tower.layer_count * (attention + inner_part + norms) + 2 * hidden + projector


def _checkpoint_elements(model: ModelFacts) -> int:
    """Weights as a checkpoint stores them: unpadded, not split, tied tables once."""
    elements = sum(
        linear.rows * linear.columns + linear.bias_elements
        for layer in model.layers
        for linear in _linears(model, layer, 1)
    )
    elements += sum(_norm_elements(model, layer) for layer in model.layers)
    tables = 1 if model.tied_embeddings else 2
    elements += tables * model.vocabulary_size * model.hidden_size + model.hidden_size
    if model.vision is not None:
        elements += _vision_elements(model.vision, model.hidden_size, 1)
    return elements

"""Layer weights: the parameters of one decoder layer on one tensor-parallel rank, as vLLM builds them (0.32.0).

attention         q, k, v in one matrix (models/qwen3.py, gemma3.py); a gate doubles q (qwen3_next.py); layers that
                  share a cache have q alone (gemma3n.py, gemma4.py); KV heads are replicated beyond one a rank
gated delta net   qkvz and ba projections, convolution, decay, norm (layers/mamba/gdn/qwen_gdn_linear_attn.py)
feed-forward      gate and up in one matrix, or experts with a router and a shared expert (qwen3_moe.py, gemma4.py)
"""

from collections.abc import Iterator

from sizing.linear import Linear, expert_block
from sizing.model_shape import AttentionLayer, Experts, GatedDeltaNetLayer, ModelFacts

FLOAT32_BYTES = 4
CACHE_SCALE_COUNT = 4
"""Per attention layer of an FP8 checkpoint: q, k, v and probability scales (layers/quantization/kv_cache.py)."""


def kv_heads_per_rank(kv_head_count: int, shards: int) -> int:
    """KV heads on one rank; replicated beyond one per rank (vllm/config/model.py:1650-1671, 0.32.0)."""
    return max(1, kv_head_count // shards)


def layer_linears(model: ModelFacts, index: int, shards: int) -> Iterator[Linear]:
    """Every matrix of layer `index` on one rank."""
    layer = model.layers[index]
    if isinstance(layer, AttentionLayer):
        yield from _attention(model, layer, shards)
    else:
        yield from _gated_delta_net(model, layer, shards)
    part = model.feed_forwards[index]
    if part.intermediate_size:
        yield from _dense(model.hidden_size, part.intermediate_size // shards, "mlp")
    if part.experts is not None:
        yield from _experts(model, part.experts, shards)
    if model.per_layer_input is not None:
        size = model.per_layer_input.size
        yield Linear(rows=size, columns=model.hidden_size)
        yield Linear(rows=model.hidden_size, columns=size)
    if model.alternating_updates is not None:
        inputs, rank = model.alternating_updates.input_count, model.alternating_updates.low_rank // shards
        yield Linear(rows=inputs, columns=inputs)
        yield Linear(rows=inputs * inputs, columns=inputs)
        yield Linear(rows=inputs, columns=model.hidden_size)
        yield Linear(rows=rank, columns=model.hidden_size)
        yield Linear(rows=model.hidden_size, columns=rank)


def layer_vector_elements(model: ModelFacts, index: int, shards: int) -> int:
    """Norms and other vectors of the layer, in the dtype of the model."""
    layer, hidden = model.layers[index], model.hidden_size
    elements = model.norms_per_layer * hidden
    if isinstance(layer, AttentionLayer):
        if model.query_key_norm:
            elements += layer.head_dim * (1 if layer.shares_cache else 2)
        if model.quantization is not None:
            elements += CACHE_SCALE_COUNT
    else:
        elements += layer.value_head_count // shards + layer.value_head_dim
    experts = model.feed_forwards[index].experts
    if experts is not None and experts.router == "gemma4":
        elements += 4 * hidden + experts.count
    if model.per_layer_input is not None:
        elements += hidden
    if model.alternating_updates is not None:
        elements += 2 * hidden
    return elements


def layer_float32_elements(model: ModelFacts, index: int, shards: int) -> int:
    """What is kept in float32 whatever the dtype of the model: A_log of a gated delta net, AltUp's output scale."""
    layer = model.layers[index]
    elements = layer.value_head_count // shards if isinstance(layer, GatedDeltaNetLayer) else 0
    return elements + (model.hidden_size if model.alternating_updates is not None else 0)


def _attention(model: ModelFacts, layer: AttentionLayer, shards: int) -> Iterator[Linear]:
    attended = model.query_head_count // shards * layer.head_dim
    query_rows = attended * (2 if layer.gated else 1)
    kv_rows = 0 if layer.shares_cache else 2 * kv_heads_per_rank(layer.kv_head_count, shards) * layer.head_dim
    yield Linear(
        rows=query_rows + kv_rows,
        columns=model.hidden_size,
        parts=("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
        bias_elements=query_rows + kv_rows if model.query_key_value_bias else 0,
    )
    yield Linear(
        rows=model.hidden_size,
        columns=attended,
        parts=("self_attn.o_proj",),
        bias_elements=model.hidden_size if model.output_projection_bias else 0,
    )


def _gated_delta_net(model: ModelFacts, layer: GatedDeltaNetLayer, shards: int) -> Iterator[Linear]:
    key, value = layer.key_size // shards, layer.value_size // shards
    yield Linear(
        rows=2 * key + 2 * value,
        columns=model.hidden_size,
        parts=("linear_attn.in_proj_qkvz", "linear_attn.in_proj_qkv", "linear_attn.in_proj_z"),
    )
    yield Linear(
        rows=2 * layer.value_head_count // shards,
        columns=model.hidden_size,
        parts=("linear_attn.in_proj_ba", "linear_attn.in_proj_b", "linear_attn.in_proj_a"),
    )
    yield Linear(rows=2 * key + value, columns=layer.convolution_tokens)
    yield Linear(rows=model.hidden_size, columns=value, parts=("linear_attn.out_proj",))


def _dense(hidden_size: int, width: int, module: str) -> Iterator[Linear]:
    yield Linear(rows=2 * width, columns=hidden_size, parts=(f"{module}.gate_proj", f"{module}.up_proj"))
    yield Linear(rows=hidden_size, columns=width, parts=(f"{module}.down_proj",))


def _experts(model: ModelFacts, experts: Experts, shards: int) -> Iterator[Linear]:
    hidden, width = model.hidden_size, experts.intermediate_size // shards
    block = expert_block(model.quantization, width=width, hidden_size=hidden, shards=shards)
    yield Linear(rows=2 * width, columns=hidden, parts=("mlp.experts",), copies=experts.count, expert_block=block)
    yield Linear(rows=hidden, columns=width, parts=("mlp.experts",), copies=experts.count, expert_block=block)
    yield Linear(rows=experts.count, columns=hidden)
    if experts.shared_intermediate_size:
        yield Linear(rows=1, columns=hidden)
        yield from _dense(hidden, experts.shared_intermediate_size // shards, "mlp.shared_expert")

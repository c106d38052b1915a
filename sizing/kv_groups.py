"""KV groups: which layers share a block table, and how many bytes a block of each costs (vLLM 0.32.0).

page of an attention layer = block tokens x KV heads on this rank x 2 x head_dim x bytes per element
state of a gated delta net = convolution + recurrent state on this rank
hybrid with such states    : the block grows until an attention page holds a state; states are padded to the page
                             (platforms/interface.py:939-1135)
pages of different size    : smaller ones get more tokens a block where the ratio is whole, else padding
                             (v1/core/kv_cache_utils.py:1292-1354)
groups                     : layers of one kind; hybrids are split into groups of equal size, the last ones padded
                             (v1/core/kv_cache_utils.py:1362-1503)
"""

from collections import defaultdict
from dataclasses import dataclass
from math import lcm
from typing import Literal

from sizing.layer_weights import kv_heads_per_rank
from sizing.model_shape import AttentionLayer, GatedDeltaNetLayer, Layer, LayerKind
from sizing.units import ceil_div, round_up

EQUAL_GROUPS_RATIO = 1.5
"""Up to this ratio of layer counts the smaller kind is padded to the larger (kv_cache_utils.py:1465, 0.32.0)."""


TokensAre = Literal["concurrency_by_length", "blocks_by_groups"]
"""How a version prints the size of its cache: what one more request would hold, or blocks of one group."""


@dataclass(frozen=True, kw_only=True)
class CapacityRules:
    """What the version decides about the size of the cache, whatever the model."""

    null_block_is_held_back: bool = True
    tokens_are: TokensAre = "concurrency_by_length"


@dataclass(frozen=True, kw_only=True)
class StateRules:
    """What the version and the device decide about layers with a state.

    `kernel_block_tokens`: the block is a multiple of it. `checkpoint_tokens`: and of this, where checkpoints within a
    prefill are kept. `blocks_per_request`: states that a request holds at once. `recurrent_dtype`: of the recurrent
    state, whatever the model says.
    """

    kernel_block_tokens: int = 16
    checkpoint_tokens: int = 1
    blocks_per_request: int = 2
    recurrent_dtype: str | None = None


@dataclass(frozen=True, kw_only=True)
class KvGroup:
    """Layers that share one block table. `layer_indexes` are positions in the model; `state_blocks` None: it caches
    tokens, else it holds that many states for each request."""

    kind: LayerKind
    window_tokens: int | None
    block_tokens: int
    page_bytes: int
    layer_indexes: tuple[int, ...]
    state_blocks: int | None = None

    def blocks_per_request(self, *, length_tokens: int, in_flight_tokens: int) -> int:
        """Blocks that one request of this length can hold at once (v1/kv_cache_interface.py:602, 859-885, 1076)."""
        if self.state_blocks is not None:
            return self.state_blocks
        if self.window_tokens is None:
            return ceil_div(length_tokens, self.block_tokens)
        held_tokens = min(self.window_tokens - 1 + in_flight_tokens, length_tokens)
        return ceil_div(held_tokens, self.block_tokens) + 1


@dataclass(frozen=True, kw_only=True)
class _Cache:
    """What one layer caches; layers that cache alike are equal."""

    kind: LayerKind
    window_tokens: int | None
    block_tokens: int
    page_bytes: int


def state_bytes(
    layer: GatedDeltaNetLayer, *, shards: int, model_element_bytes: int, recurrent_dtype: str | None = None
) -> int:
    """The state of one request in one layer on one rank (layers/mamba/mamba_utils.py:280-301, 0.32.0)."""
    rows = (2 * layer.key_size + layer.value_size) // shards
    convolution = (layer.convolution_tokens - 1) * rows * model_element_bytes
    dtype = recurrent_dtype or layer.recurrent_state_dtype or ""
    wide = {"float32": 4, "float16": 2, "bfloat16": 2}.get(dtype, model_element_bytes)
    return convolution + layer.value_head_count // shards * layer.value_head_dim * layer.key_head_dim * wide


def kv_groups(
    layers: tuple[Layer, ...],
    *,
    shards: int,
    element_bytes: int,
    model_element_bytes: int,
    block_size_tokens: int,
    state_rules: StateRules,
) -> tuple[KvGroup, ...]:
    """The groups of a model's layers."""
    token_bytes = {
        layer: kv_heads_per_rank(layer.kv_head_count, shards) * 2 * layer.head_dim * element_bytes
        for layer in set(layers)
        if isinstance(layer, AttentionLayer)
    }
    state = next((layer for layer in layers if isinstance(layer, GatedDeltaNetLayer)), None)
    if state is not None:
        needed_bytes = state_bytes(
            state,
            shards=shards,
            model_element_bytes=model_element_bytes,
            recurrent_dtype=state_rules.recurrent_dtype,
        )
        block_size_tokens = _block_that_holds_a_state(
            block_size_tokens, state_rules, needed_bytes=needed_bytes, token_bytes=max(token_bytes.values())
        )
    pages = {layer: block_size_tokens * each for layer, each in token_bytes.items()}
    largest = max(pages.values())
    cached = {
        index: _cache_of(layer, block_size_tokens, pages, largest)
        for index, layer in enumerate(layers)
        if not (isinstance(layer, AttentionLayer) and layer.shares_cache)
    }
    return _groups(cached, state_rules.blocks_per_request)


def _block_that_holds_a_state(wanted: int, rules: StateRules, *, needed_bytes: int, token_bytes: int) -> int:
    alignment = lcm(max(rules.kernel_block_tokens, wanted), rules.checkpoint_tokens)
    block = alignment * ceil_div(needed_bytes, alignment * token_bytes)
    return max(wanted, round_up(block, rules.kernel_block_tokens))


def _cache_of(layer: Layer, block_size_tokens: int, pages: dict[AttentionLayer, int], largest: int) -> _Cache:
    if isinstance(layer, GatedDeltaNetLayer):
        return _Cache(kind="gated_delta_net", window_tokens=None, block_tokens=block_size_tokens, page_bytes=largest)
    ratio = largest // pages[layer] if largest % pages[layer] == 0 else 1
    return _Cache(
        kind=layer.kind, window_tokens=layer.window_tokens, block_tokens=block_size_tokens * ratio, page_bytes=largest
    )


def _groups(cached: dict[int, _Cache], state_blocks: int) -> tuple[KvGroup, ...]:
    by_kind: dict[_Cache, list[int]] = defaultdict(list)
    for index, cache in cached.items():
        by_kind[cache].append(index)
    counts = [len(indexes) for indexes in by_kind.values()]
    group_size = max(counts) if max(counts) < min(counts) * EQUAL_GROUPS_RATIO else min(counts)
    return tuple(
        KvGroup(
            kind=cache.kind,
            window_tokens=cache.window_tokens,
            block_tokens=cache.block_tokens,
            page_bytes=cache.page_bytes,
            layer_indexes=tuple(indexes[start :: ceil_div(len(indexes), group_size)]),
            state_blocks=state_blocks if cache.kind == "gated_delta_net" else None,
        )
        for cache, indexes in by_kind.items()
        for start in range(ceil_div(len(indexes), group_size))
    )

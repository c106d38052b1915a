"""KV cache: how vLLM 0.32.0 turns bytes into blocks, tokens and concurrent requests (v1/core/kv_cache_utils.py).

    page of a layer   = block tokens x KV heads on this rank x 2 x head_dim x bytes per element
    group             = layers of one kind; hybrids are split into groups of equal size, the last ones padded
    bytes per block   = pages of the widest group
    blocks            = available bytes // bytes per block; with pipeline stages the smallest rank decides
    blocks a request  = sum over groups: full: ceil(length / block)
                        sliding: ceil(min(window - 1 + tokens in flight, length) / block) + 1
    max concurrency   = blocks / blocks a request;   tokens = int(max concurrency x length)

The fit check holds one block back (the null block). Exact: the golden tests compare with vLLM's own functions.
"""

from collections import defaultdict
from dataclasses import dataclass, replace
from math import floor

from sizing.errors import UnknownFact
from sizing.model_shape import AttentionLayer, LayerKind
from sizing.units import GIB, ceil_div
from sizing.weights import Stage, kv_heads_per_rank

EQUAL_GROUPS_RATIO = 1.5
"""Up to this ratio of layer counts the smaller kind is padded to the larger (kv_cache_utils.py:1465, 0.32.0)."""

NO_MEMORY_SENTENCE = (
    "No available memory for the cache blocks. Try increasing `gpu_memory_utilization` when initializing the engine "
    "(this flag also controls CPU memory reservation on the CPU backend, despite its name)."
)
DOES_NOT_FIT_SOURCE = "vllm/v1/core/kv_cache_utils.py:1003 (0.32.0)"


@dataclass(frozen=True, kw_only=True)
class KvGroup:
    """Layers that share one block table. `layer_indexes` are positions in the model."""

    kind: LayerKind
    window_tokens: int | None
    block_tokens: int
    page_bytes: int
    layer_indexes: tuple[int, ...]

    def blocks_per_request(self, *, length_tokens: int, in_flight_tokens: int) -> int:
        """Blocks that one request of this length can hold at once (v1/kv_cache_interface.py:602, 859-885)."""
        if self.window_tokens is None:
            return ceil_div(length_tokens, self.block_tokens)
        held_tokens = min(self.window_tokens - 1 + in_flight_tokens, length_tokens)
        return ceil_div(held_tokens, self.block_tokens) + 1


@dataclass(frozen=True, kw_only=True)
class KvGeometry:
    """The shape of the cache on the ranks of an engine, before any memory is known."""

    groups: tuple[KvGroup, ...]
    block_size_tokens: int
    in_flight_tokens: int
    bytes_per_block_by_stage: tuple[int, ...]

    def blocks_per_request(self, length_tokens: int) -> int:
        """Blocks of one request, over all groups."""
        return sum(
            group.blocks_per_request(length_tokens=length_tokens, in_flight_tokens=self.in_flight_tokens)
            for group in self.groups
        )


@dataclass(frozen=True, kw_only=True)
class KvCapacity:
    """What a cache of given bytes holds for requests of `at_tokens`; all zero if not even one fits."""

    at_tokens: int
    block_count: int
    max_concurrency: float
    tokens: int
    fits: bool
    refusal: str = ""


def kv_geometry(
    layers: tuple[AttentionLayer, ...],
    *,
    shards: int,
    stages: tuple[Stage, ...],
    element_bytes: int,
    block_size_tokens: int,
    in_flight_tokens: int,
) -> KvGeometry:
    """The groups of a model's layers and the bytes of one block on every stage."""
    pages = {
        layer: block_size_tokens * kv_heads_per_rank(layer.kv_head_count, shards) * 2 * layer.head_dim * element_bytes
        for layer in set(layers)
    }
    groups = _groups(layers, pages, block_size_tokens)
    page_of = {index: group.page_bytes for group in groups for index in group.layer_indexes}
    by_stage = tuple(
        max(
            sum(page_of[index] for index in group.layer_indexes if stage.first_layer <= index < stage.end_layer)
            for group in groups
        )
        for stage in stages
    )
    return KvGeometry(
        groups=groups,
        block_size_tokens=block_size_tokens,
        in_flight_tokens=in_flight_tokens,
        bytes_per_block_by_stage=by_stage,
    )


def kv_capacity(
    geometry: KvGeometry, available_bytes_by_stage: tuple[int, ...], *, length_tokens: int, automatic: bool = False
) -> KvCapacity:
    """What the cache holds. `automatic`: `max_model_len` -1, `length_tokens` is then only the most it may become."""
    if automatic:
        longest = longest_length(geometry, available_bytes_by_stage, at_most_tokens=length_tokens)
        if longest == 0:
            return _nothing(
                length_tokens,
                "Cannot auto-fit max_model_len: not enough GPU memory available to serve even a single token. "
                "Try increasing `gpu_memory_utilization`.",
            )
        length_tokens = longest
    refusal = _refusal(geometry, available_bytes_by_stage, length_tokens)
    if refusal:
        return _nothing(length_tokens, refusal)
    block_count = min(
        available_bytes // block_bytes
        for available_bytes, block_bytes in zip(
            available_bytes_by_stage, geometry.bytes_per_block_by_stage, strict=True
        )
    )
    concurrency = block_count / geometry.blocks_per_request(length_tokens)
    return KvCapacity(
        at_tokens=length_tokens,
        block_count=block_count,
        max_concurrency=concurrency,
        tokens=floor(concurrency * length_tokens),
        fits=True,
    )


def longest_length(geometry: KvGeometry, available_bytes_by_stage: tuple[int, ...], *, at_most_tokens: int) -> int:
    """The longest request that fits, 0 if none does (kv_cache_utils.py:2369-2407, 0.32.0: binary search)."""
    low, high, found = 1, at_most_tokens, 0
    while low <= high:
        middle = (low + high) // 2
        if all(needed <= usable for needed, usable in _needed_and_usable(geometry, available_bytes_by_stage, middle)):
            found, low = middle, middle + 1
        else:
            high = middle - 1
    return found


def kv_element_bytes(kv_cache_dtype: str, *, model_element_bytes: int) -> int | None:
    """Bytes of one cached number; None for a cache type that is not known here."""
    widths = {"auto": model_element_bytes, "bfloat16": 2, "float16": 2, "fp8": 1, "fp8_e4m3": 1, "fp8_e5m2": 1}
    return widths.get(kv_cache_dtype)


def _needed_and_usable(
    geometry: KvGeometry, available_bytes_by_stage: tuple[int, ...], length_tokens: int
) -> tuple[tuple[int, int], ...]:
    blocks = geometry.blocks_per_request(length_tokens)
    return tuple(
        (blocks * block_bytes, available_bytes - block_bytes)
        for available_bytes, block_bytes in zip(
            available_bytes_by_stage, geometry.bytes_per_block_by_stage, strict=True
        )
    )


def _refusal(geometry: KvGeometry, available_bytes_by_stage: tuple[int, ...], length_tokens: int) -> str:
    """vLLM's own sentence where the cache cannot hold one request (kv_cache_utils.py:1003-1040), else nothing."""
    for (needed, usable), available_bytes, block_bytes in zip(
        _needed_and_usable(geometry, available_bytes_by_stage, length_tokens),
        available_bytes_by_stage,
        geometry.bytes_per_block_by_stage,
        strict=True,
    ):
        if usable <= 0:
            return NO_MEMORY_SENTENCE
        if needed > usable:
            of_this_rank = replace(geometry, bytes_per_block_by_stage=(block_bytes,))
            longest = longest_length(of_this_rank, (available_bytes,), at_most_tokens=length_tokens)
            estimated = f"the estimated maximum model length is {longest}. " if longest else ""
            return (
                f"To serve at least one request with the model's max seq len ({length_tokens}), "
                f"({_gib(needed)} GiB KV cache is needed, which is larger than the available KV cache memory "
                f"({_gib(usable)} GiB). {'Based on the available memory, ' if estimated else ''}{estimated}"
                "Try increasing `gpu_memory_utilization` (which also controls CPU memory on the CPU backend) or "
                "decreasing `max_model_len` when initializing the engine."
            )
    return ""


def _nothing(length_tokens: int, refusal: str) -> KvCapacity:
    return KvCapacity(
        at_tokens=length_tokens, block_count=0, max_concurrency=0.0, tokens=0, fits=False, refusal=refusal
    )


def _gib(quantity_bytes: int) -> str:
    return f"{round(quantity_bytes / GIB, 2)}"


def _groups(
    layers: tuple[AttentionLayer, ...], pages: dict[AttentionLayer, int], block_size_tokens: int
) -> tuple[KvGroup, ...]:
    """Groups as kv_cache_utils.py:2159 and 1362-1503 make them, for layers whose pages are equal."""
    if len(set(pages.values())) > 1:
        raise UnknownFact("layers with KV pages of different sizes are not supported yet; all layers must be alike")
    by_kind: dict[AttentionLayer, list[int]] = defaultdict(list)
    for index, layer in enumerate(layers):
        by_kind[layer].append(index)
    counts = [len(indexes) for indexes in by_kind.values()]
    group_size = max(counts) if max(counts) < min(counts) * EQUAL_GROUPS_RATIO else min(counts)
    groups: list[KvGroup] = []
    for layer, indexes in by_kind.items():
        group_count = ceil_div(len(indexes), group_size)
        groups.extend(
            KvGroup(
                kind=layer.kind,
                window_tokens=layer.window_tokens,
                block_tokens=block_size_tokens,
                page_bytes=pages[layer],
                layer_indexes=tuple(indexes[start::group_count]),
            )
            for start in range(group_count)
        )
    return tuple(groups)

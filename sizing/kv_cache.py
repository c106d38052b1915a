"""KV cache: how vLLM 0.32.0 turns bytes into blocks, tokens and concurrent requests (v1/core/kv_cache_utils.py).

    bytes per block   = pages of the widest group (sizing/kv_groups.py)
    blocks            = available bytes // bytes per block; with pipeline stages the smallest rank decides
    blocks a request  = sum over groups: full: ceil(length / block)
                        sliding: ceil(min(window - 1 + tokens in flight, length) / block) + 1
                        state: 2, one to read and one to write, 3 where checkpoints within a prefill are kept
    max concurrency   = blocks / blocks a request;   tokens = int(max concurrency x length)

The fit check holds one block back (the null block). Exact: the golden tests compare with vLLM's own functions.
"""

from dataclasses import dataclass, field, replace
from math import floor

from sizing.kv_groups import CapacityRules, KvGroup, StateRules, kv_groups
from sizing.model_shape import Layer
from sizing.units import GIB
from sizing.weights import Stage

NO_MEMORY_SENTENCE = (
    "No available memory for the cache blocks. Try increasing `gpu_memory_utilization` when initializing the engine "
    "(this flag also controls CPU memory reservation on the CPU backend, despite its name)."
)
DOES_NOT_FIT_SOURCE = "vllm/v1/core/kv_cache_utils.py:1003 (0.32.0)"


@dataclass(frozen=True, kw_only=True)
class KvGeometry:
    """The shape of the cache on the ranks of an engine, before any memory is known."""

    groups: tuple[KvGroup, ...]
    block_size_tokens: int
    in_flight_tokens: int
    bytes_per_block_by_stage: tuple[int, ...]
    rules: CapacityRules = field(default_factory=CapacityRules)

    @property
    def has_states(self) -> bool:
        """Whether requests hold states beside tokens."""
        return any(group.state_blocks is not None for group in self.groups)

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
    layers: tuple[Layer, ...],
    *,
    shards: int,
    stages: tuple[Stage, ...],
    element_bytes: int,
    block_size_tokens: int,
    in_flight_tokens: int,
    model_element_bytes: int = 2,
    state_rules: StateRules | None = None,
    capacity_rules: CapacityRules | None = None,
) -> KvGeometry:
    """The groups of a model's layers and the bytes of one block on every stage."""
    groups = kv_groups(
        layers,
        shards=shards,
        element_bytes=element_bytes,
        model_element_bytes=model_element_bytes,
        block_size_tokens=block_size_tokens,
        state_rules=state_rules or StateRules(),
    )
    by_stage = tuple(
        max(
            group.page_bytes * sum(stage.first_layer <= index < stage.end_layer for index in group.layer_indexes)
            for group in groups
        )
        for stage in stages
    )
    return KvGeometry(
        groups=groups,
        block_size_tokens=min(group.block_tokens for group in groups),
        in_flight_tokens=in_flight_tokens,
        bytes_per_block_by_stage=by_stage,
        rules=capacity_rules or CapacityRules(),
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
        tokens=_tokens(geometry, block_count, concurrency * length_tokens),
        fits=True,
    )


def _tokens(geometry: KvGeometry, block_count: int, held_at_most: float) -> int:
    if geometry.rules.tokens_are == "concurrency_by_length":
        return floor(held_at_most)
    return block_count // len(geometry.groups) * geometry.block_size_tokens


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
        (blocks * block_bytes, available_bytes - block_bytes * geometry.rules.null_block_is_held_back)
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

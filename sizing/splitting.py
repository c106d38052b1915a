"""Splitting: which dimensions of a model tensor-parallel ranks divide, and the sizes at which that works.

Separate from the rules that quote it, because the nearest size that works needs all of it without their words. Places
are those of vLLM 0.32.0.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from sizing.linear import FINEST_EXPERT_BLOCK, expert_block
from sizing.model_shape import AttentionLayer, ModelFacts
from sizing.units import round_up
from sizing.weights import VOCABULARY_MULTIPLE

LONGEST_SEARCH = 1 << 10
SPLIT_TOWERS = ("siglip", "qwen2_5_vl", "qwen3_vl")
"""Image towers that tensor-parallel ranks divide, which they must even where only text is served: vLLM builds a tower
before it drops it. The others are whole on every rank."""


@dataclass(frozen=True, kw_only=True)
class Dimension:
    """One size that has to be a multiple of the tensor-parallel size."""

    name: str
    size: int
    source: str


@dataclass(frozen=True, kw_only=True)
class Partition:
    """A part of an FP8 matrix on one rank, in the words with which vLLM checks it against the block."""

    what: str
    size: int
    block: int
    block_name: str
    source: str


def working_size(model: ModelFacts, wanted: int, *, finer_expert_blocks: bool = True) -> int | None:
    """The tensor-parallel size nearest to `wanted` at which no rule about splitting objects; the smaller one of two."""
    for distance in range(1, LONGEST_SEARCH):
        for size in (wanted - distance, wanted + distance):
            if size >= 1 and _works(model, size, finer_expert_blocks=finer_expert_blocks):
                return size
    return None


def kv_heads_work(heads: int, size: int) -> bool:
    """KV heads are split over, or replicated on, the ranks evenly."""
    return heads % size == 0 or size % heads == 0


def dimensions_work(model: ModelFacts, size: int) -> bool:
    """Every split dimension is a multiple of the tensor-parallel size."""
    return all(one.size % size == 0 for one in split_dimensions(model))


def split_dimensions(model: ModelFacts) -> Iterator[Dimension]:
    """Everything that the ranks divide evenly."""
    divide = "vllm/distributed/utils.py:51"
    padded_vocabulary = round_up(model.vocabulary_size, VOCABULARY_MULTIPLE)
    table = "vllm/model_executor/layers/vocab_parallel_embedding.py:285"
    yield Dimension(name="vocabulary", size=padded_vocabulary, source=table)
    for width in sorted({part.intermediate_size for part in model.feed_forwards} - {0}):
        yield Dimension(name="intermediate_size", size=width, source=divide)
    experts = model.experts
    if experts is not None:
        layer = "vllm/model_executor/layers/fused_moe/layer.py"
        yield Dimension(name="expert_intermediate_size", size=experts.intermediate_size, source=layer)
        yield Dimension(name="shared_expert_intermediate_size", size=experts.shared_intermediate_size, source=divide)
    state = model.gated_delta_net
    if state is not None:
        shape = "vllm/model_executor/layers/mamba/mamba_utils.py:280"
        yield Dimension(name="linear_attention_key_heads", size=state.key_head_count, source=shape)
        yield Dimension(name="linear_attention_value_heads", size=state.value_head_count, source=shape)
    if model.vision is not None and model.vision.kind in SPLIT_TOWERS:
        yield Dimension(name="vision_heads", size=model.vision.head_count, source=divide)
        yield Dimension(name="vision_intermediate_size", size=model.vision.intermediate_size, source=divide)


def fp8_partitions(model: ModelFacts, size: int, *, finer_expert_blocks: bool = True) -> Iterator[Partition]:
    """What vLLM checks against the block: inputs of split rows, outputs of split columns."""
    if model.quantization is None or model.quantization.block is None:
        return
    for layer in dict.fromkeys(model.attention_layers):
        yield from _attention_partitions(model, layer, size)
    state = model.gated_delta_net
    if state is not None:
        for width in (state.key_size // size, state.value_size // size):
            yield _output(model, width)
        yield _input(model, state.value_size // size)
    for width in sorted({part.intermediate_size for part in model.feed_forwards} - {0}):
        yield _output(model, width // size)
        yield _input(model, width // size)
    experts = model.experts
    if experts is not None:
        if experts.shared_intermediate_size:
            yield _output(model, experts.shared_intermediate_size // size)
            yield _input(model, experts.shared_intermediate_size // size)
        yield from _expert_partitions(model, experts.intermediate_size // size, size, finer=finer_expert_blocks)


def _works(model: ModelFacts, size: int, *, finer_expert_blocks: bool) -> bool:
    return (
        model.query_head_count % size == 0
        and all(kv_heads_work(heads, size) for heads in {layer.kv_head_count for layer in model.attention_layers})
        and (model.experts is None or size <= model.experts.count)
        and dimensions_work(model, size)
        and (
            size == 1
            or all(
                part.size % part.block == 0
                for part in fp8_partitions(model, size, finer_expert_blocks=finer_expert_blocks)
            )
        )
    )


def _attention_partitions(model: ModelFacts, layer: AttentionLayer, size: int) -> Iterator[Partition]:
    query = model.query_head_count // size * layer.head_dim
    yield _output(model, query * (2 if layer.gated else 1))
    yield _output(model, max(1, layer.kv_head_count // size) * layer.head_dim)
    yield _input(model, query)


def _expert_partitions(model: ModelFacts, width: int, size: int, *, finer: bool) -> Iterator[Partition]:
    """Experts may have finer blocks from 0.29 on (fused_moe/oracle/fp8.py:288); what those cannot divide is refused."""
    block = model.quantization.block if model.quantization else None
    if finer:
        block = expert_block(model.quantization, width=width, hidden_size=model.hidden_size, shards=size)
    if block is None or width % block[0] == 0:
        return
    yield Partition(
        what="The output_size of gate's and up's weight",
        size=width,
        block=max(block[0], FINEST_EXPERT_BLOCK),
        block_name="block_n",
        source="vllm/model_executor/layers/quantization/utils/fp8_utils.py:1347",
    )


def _output(model: ModelFacts, size: int) -> Partition:
    return _partition(model, "Weight output_partition_size", size, "block_n")


def _input(model: ModelFacts, size: int) -> Partition:
    return _partition(model, "Weight input_size_per_partition", size, "block_k")


def _partition(model: ModelFacts, what: str, size: int, block_name: str) -> Partition:
    quantization = model.quantization
    rows, columns = (quantization.block if quantization else None) or (1, 1)
    return Partition(
        what=what,
        size=size,
        block=rows if block_name == "block_n" else columns,
        block_name=block_name,
        source="vllm/model_executor/layers/quantization/utils/fp8_utils.py:1318",
    )

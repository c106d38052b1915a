"""Constraints: what vLLM refuses, said before vLLM says it.

Each rule is one function from a configuration to refusals. A refusal quotes vLLM's sentence, names the place in its
sources (0.32.0), and ends with the nearest configuration that works.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from sizing.device import Device
from sizing.model_shape import ModelFacts
from sizing.splitting import dimensions_work, fp8_partitions, kv_heads_work, split_dimensions, working_size

FP8_WEIGHTS_CAPABILITY = (7, 5)
FP8_KV_CAPABILITY = (8, 9)
FLASHINFER_CAPABILITY = (8, 0)
"""From here on vLLM prefers backends that store FP8 without computing in it; below, only the Triton backend is left."""


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """The resolved settings that the rules look at: nothing is None that vLLM would have filled in."""

    model: ModelFacts
    device: Device
    tensor_parallel_size: int
    pipeline_parallel_size: int
    max_model_len: int
    max_num_batched_tokens: int
    max_num_seqs: int
    kv_cache_dtype: str
    multimodal: bool
    finer_expert_blocks: bool
    requested_bytes: int | None
    free_bytes: int


@dataclass(frozen=True, kw_only=True)
class Refused:
    """One rule that is broken."""

    rule: str
    message: str
    source: str


def refusals_of(configuration: Configuration) -> tuple[Refused, ...]:
    """Every rule that this configuration breaks, in the order in which vLLM would meet them."""
    return tuple(refused for rule in _RULES for refused in rule(configuration))


def _max_model_len(configuration: Configuration) -> Iterator[Refused]:
    longest = configuration.model.max_model_len_tokens
    if configuration.max_model_len > longest:
        yield Refused(
            rule="max_model_len",
            message=f"User-specified max_model_len ({configuration.max_model_len}) is greater than the derived "
            f"max_model_len (max_position_embeddings={longest}). Use --max-model-len {longest} or less.",
            source="vllm/config/model.py:2640",
        )


def _attention_heads(configuration: Configuration) -> Iterator[Refused]:
    heads, size = configuration.model.query_head_count, configuration.tensor_parallel_size
    if heads % size:
        yield Refused(
            rule="attention_heads",
            message=f"Total number of attention heads ({heads}) must be divisible by tensor parallel size ({size}). "
            f"{_try_size(configuration)}",
            source="vllm/config/model.py:1546",
        )


def _kv_heads(configuration: Configuration) -> Iterator[Refused]:
    size = configuration.tensor_parallel_size
    for heads in sorted({layer.kv_head_count for layer in configuration.model.attention_layers}):
        if not kv_heads_work(heads, size):
            yield Refused(
                rule="kv_heads",
                message=f"{heads} KV heads can be neither split over nor replicated on {size} ranks evenly. "
                f"{_try_size(configuration)}",
                source=f"vllm/model_executor/models/{configuration.model.model_file} (attention), "
                "vllm/model_executor/layers/linear.py:1053",
            )


def _experts(configuration: Configuration) -> Iterator[Refused]:
    experts, size = configuration.model.experts, configuration.tensor_parallel_size
    if experts is not None and size > experts.count:
        yield Refused(
            rule="experts",
            message=f"Tensor parallel size {size} is greater than the number of experts {experts.count}. "
            f"{_try_size(configuration)}",
            source="vllm/model_executor/models/qwen3_moe.py:157",
        )


def _divisible_dimensions(configuration: Configuration) -> Iterator[Refused]:
    size = configuration.tensor_parallel_size
    for dimension in split_dimensions(configuration.model):
        if dimension.size % size:
            yield Refused(
                rule=f"divisible_{dimension.name}",
                message=f"{dimension.size} is not divisible by {size} ({dimension.name.replace('_', ' ')}). "
                f"{_try_size(configuration)}",
                source=dimension.source,
            )


def _fp8_blocks(configuration: Configuration) -> Iterator[Refused]:
    model, size = configuration.model, configuration.tensor_parallel_size
    if size == 1 or not dimensions_work(model, size):
        return
    for part in fp8_partitions(model, size, finer_expert_blocks=configuration.finer_expert_blocks):
        if part.size % part.block:
            yield Refused(
                rule="fp8_blocks",
                message=f"{part.what} = {part.size} is not divisible by weight quantization {part.block_name} = "
                f"{part.block}. {_try_size(configuration)}",
                source=part.source,
            )
            return


def _pipeline(configuration: Configuration) -> Iterator[Refused]:
    layers, size = configuration.model.layer_count, configuration.pipeline_parallel_size
    if size > layers:
        yield Refused(
            rule="pipeline_stages",
            message=f"{size} pipeline stages for {layers} layers. Use --pipeline-parallel-size {layers} or less.",
            source="vllm/distributed/utils.py:125",
        )


def _batch(configuration: Configuration) -> Iterator[Refused]:
    tokens, sequences = configuration.max_num_batched_tokens, configuration.max_num_seqs
    if tokens < sequences:
        yield Refused(
            rule="max_num_batched_tokens",
            message=f"max_num_batched_tokens ({tokens}) must be greater than or equal to max_num_seqs ({sequences}). "
            f"Use --max-num-seqs {tokens} or less, or --max-num-batched-tokens {sequences} or more.",
            source="vllm/config/scheduler.py:328",
        )


def _fp8_weights_capability(configuration: Configuration) -> Iterator[Refused]:
    capability = configuration.device.compute_capability
    if configuration.model.quantization is None or capability is None or capability >= FP8_WEIGHTS_CAPABILITY:
        return
    yield Refused(
        rule="fp8_weights_capability",
        message=f"The quantization method fp8 is not supported for the current GPU. Minimum capability: 75. Current "
        f"capability: {_number(capability)}. Use the unquantised checkpoint of the model, or a GPU of capability 7.5 "
        "(8.9 computes in FP8; below it only the weights are stored so).",
        source="vllm/config/vllm.py:900, vllm/model_executor/layers/quantization/fp8.py:146",
    )


def _fp8_kv_capability(configuration: Configuration) -> Iterator[Refused]:
    capability = configuration.device.compute_capability
    if not configuration.kv_cache_dtype.startswith("fp8") or capability is None or capability >= FP8_KV_CAPABILITY:
        return
    if not _needs_triton(configuration) and capability >= FLASHINFER_CAPABILITY:
        return  # FlashInfer stores FP8 there
    name = configuration.device.name
    yield Refused(
        rule="fp8_kv_capability",
        message=f"FP8 KV cache is not supported by the Triton attention backend on {name} (compute capability "
        f"{capability[0]}.{capability[1]}); native FP8 (fp8e4nv) requires SM89+. Use --kv-cache-dtype auto.",
        source="vllm/v1/attention/backends/triton_attn.py:486",
    )


def _needs_triton(configuration: Configuration) -> bool:
    """Gemma's images attend in both directions, and Gemma 4's widest heads are too wide for the other backends
    (vllm/model_executor/models/config.py:229-290)."""
    model = configuration.model
    return model.attention_is_wide or (configuration.multimodal and model.images_attend_both_ways)


def _fp8_experts_capability(configuration: Configuration) -> Iterator[Refused]:
    """Blocks that are not the checkpoint's are computed by Triton alone, which computes FP8 from 8.9 on."""
    model, capability, size = (
        configuration.model,
        configuration.device.compute_capability,
        configuration.tensor_parallel_size,
    )
    if model.experts is None or model.quantization is None or capability is None or capability >= FP8_KV_CAPABILITY:
        return
    block = model.quantization.block
    if block is not None and model.experts.intermediate_size // size % block[0]:
        yield Refused(
            rule="fp8_experts_capability",
            message="No FP8 MoE backend supports the deployment configuration: experts of "
            f"{model.experts.intermediate_size // size} on a rank need blocks finer than {block[0]}, which takes "
            f"compute capability 8.9; {configuration.device.name} has {capability[0]}.{capability[1]}. "
            f"{_try_size(configuration, finer_expert_blocks=False)}",
            source="vllm/model_executor/layers/fused_moe/oracle/fp8.py:288",
        )


def _fp8_on_cpu(configuration: Configuration) -> Iterator[Refused]:
    flags, name = configuration.device.cpu_flags, configuration.device.name
    if configuration.model.quantization is not None and flags and "amx_tile" not in flags:
        yield Refused(
            rule="fp8_weights_cpu",
            message="Failed to find a kernel that can implement the ScaledMM linear layer: FP8 blocks on a CPU require "
            f"AMX tile support (Sapphire Rapids or newer), which {name} lacks. Use the unquantised checkpoint.",
            source="vllm/model_executor/kernels/linear/scaled_mm/cpu.py:242",
        )
    if configuration.kv_cache_dtype.startswith("fp8") and flags and not flags & {"amx_tile", "avx512f"}:
        yield Refused(
            rule="fp8_kv_cpu",
            message=f"FP8 KV cache on CPU requires x86 with AVX-512 or AMX, which {name} lacks. "
            "Use --kv-cache-dtype auto.",
            source="vllm/v1/attention/backends/cpu_attn.py:540",
        )


def _free_memory(configuration: Configuration) -> Iterator[Refused]:
    requested_bytes, free_bytes = configuration.requested_bytes, configuration.free_bytes
    if requested_bytes is None or requested_bytes <= free_bytes:
        return
    budget_bytes = configuration.device.memory_budget_bytes
    largest = int(100 * free_bytes / budget_bytes) / 100
    yield Refused(
        rule="free_memory",
        message=f"Free memory on device ({_gib(free_bytes)}/{_gib(budget_bytes)} GiB) on startup is less than desired "
        f"GPU memory utilization ({_gib(requested_bytes)} GiB). Use --gpu-memory-utilization {largest:.2f} or less, "
        "or stop what else uses the device.",
        source="vllm/v1/worker/utils.py:716"
        if configuration.device.accelerator == "cuda"
        else "vllm/v1/worker/cpu_worker.py:81",
    )


_RULES: tuple[Callable[[Configuration], Iterator[Refused]], ...] = (
    _max_model_len,
    _fp8_weights_capability,
    _attention_heads,
    _kv_heads,
    _experts,
    _divisible_dimensions,
    _fp8_blocks,
    _pipeline,
    _batch,
    _fp8_kv_capability,
    _fp8_experts_capability,
    _fp8_on_cpu,
    _free_memory,
)


def _try_size(configuration: Configuration, *, finer_expert_blocks: bool | None = None) -> str:
    size = working_size(
        configuration.model,
        configuration.tensor_parallel_size,
        finer_expert_blocks=configuration.finer_expert_blocks if finer_expert_blocks is None else finer_expert_blocks,
    )
    return "No tensor-parallel size works." if size is None else f"Use --tensor-parallel-size {size}."


def _number(capability: tuple[int, int]) -> int:
    return capability[0] * 10 + capability[1]


def _gib(quantity_bytes: int) -> str:
    return f"{round(quantity_bytes / (1 << 30), 2)}"

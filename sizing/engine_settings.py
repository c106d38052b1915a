"""Engine settings: one configuration of `vllm serve`, and the same with everything filled in that vLLM would decide."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import ceil
from typing import Literal

from sizing.device import Device
from sizing.engine_defaults import DEFAULT_VLLM_VERSION, default_block_tokens, defaults_for, element_bytes, is_judged
from sizing.errors import SizingError, UnknownFact
from sizing.kv_cache import KvGeometry, kv_element_bytes, kv_geometry
from sizing.model_shape import ModelFacts, WeightQuantization
from sizing.weights import Stage, pipeline_stages


@dataclass(frozen=True, kw_only=True)
class EngineConfiguration:
    """Exactly what would be handed to `vllm serve`; None means that vLLM decides."""

    model: ModelFacts
    device: Device
    tensor_parallel_size: int = 1
    pipeline_parallel_size: int = 1
    gpu_memory_utilization: float | None = None
    max_model_len: int | Literal["auto"] | None = None
    quantization: str | None = None
    kv_cache_dtype: str = "auto"
    max_num_batched_tokens: int | None = None
    max_num_seqs: int | None = None
    enforce_eager: bool = False
    block_size: int | None = None
    kv_cache_memory_bytes: int | None = None
    language_model_only: bool = False
    limit_mm_per_prompt: Mapping[str, int] | None = None
    async_scheduling: bool | None = None
    vllm_version: str = DEFAULT_VLLM_VERSION


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The configuration with everything filled in that vLLM would have decided."""

    model: ModelFacts
    device: Device
    shards: int
    stages: tuple[Stage, ...]
    length_tokens: int
    length_is_automatic: bool
    max_num_batched_tokens: int
    max_num_seqs: int
    weight_element_bytes: int
    multimodal: bool
    requested_bytes: int | None
    geometry: KvGeometry
    block_size_tokens: int
    weights_are_exact: bool
    finer_expert_blocks: bool
    sequences_bound_by_blocks: bool
    version_is_judged: bool


def settings_of(configuration: EngineConfiguration) -> Settings:
    """Everything filled in. Raises SizingError for absurd values, UnknownFact for what sizing does not know."""
    for name in (
        "tensor_parallel_size",
        "pipeline_parallel_size",
        "max_num_batched_tokens",
        "max_num_seqs",
        "block_size",
    ):
        value = getattr(configuration, name)
        if value is not None and value < 1:
            raise SizingError(f"{name} is {value}; it must be at least 1")
    model, quantised_here = _quantised(configuration)
    device = configuration.device
    shards, stage_count = configuration.tensor_parallel_size, configuration.pipeline_parallel_size
    defaults = defaults_for(device, vllm_version=configuration.vllm_version, world_size_count=shards * stage_count)
    automatic = configuration.max_model_len == "auto"
    length_tokens = configuration.max_model_len
    if length_tokens is None or length_tokens == "auto":
        length_tokens = model.max_model_len_tokens
    if length_tokens < 1:
        raise SizingError(f'max_model_len is {length_tokens}; it must be at least 1, or "auto"')
    max_num_seqs = configuration.max_num_seqs or defaults.max_num_seqs
    batched_tokens = configuration.max_num_batched_tokens or min(
        max_num_seqs * length_tokens, defaults.max_num_batched_tokens
    )
    if configuration.max_num_seqs is None:
        max_num_seqs = min(max_num_seqs, batched_tokens)
    width = element_bytes(model, device)
    kv_width = kv_element_bytes(configuration.kv_cache_dtype, model_element_bytes=width)
    if kv_width is None:
        raise UnknownFact(f"kv_cache_dtype {configuration.kv_cache_dtype} is not supported; supported: auto, fp8")
    asynchronous = (
        defaults.async_scheduling
        if configuration.async_scheduling is None or device.accelerator == "cpu"
        else configuration.async_scheduling
    )
    stages = pipeline_stages(model.layer_count, stage_count)
    limits = configuration.limit_mm_per_prompt or {}
    multimodal = model.vision is not None and not configuration.language_model_only and limits.get("image", 1) > 0
    block_size_tokens = configuration.block_size or default_block_tokens(
        model,
        device,
        vllm_version=configuration.vllm_version,
        kv_cache_dtype=configuration.kv_cache_dtype,
        multimodal=multimodal,
    )
    geometry = kv_geometry(
        model.layers,
        shards=shards,
        stages=stages,
        element_bytes=kv_width,
        block_size_tokens=block_size_tokens,
        model_element_bytes=width,
        state_rules=defaults.state_rules,
        capacity_rules=defaults.capacity_rules,
        in_flight_tokens=batched_tokens * (stage_count + int(asynchronous) if defaults.in_flight_batches_count else 1),
    )
    utilization = configuration.gpu_memory_utilization
    if utilization is None:
        utilization = defaults.gpu_memory_utilization
    if not 0 < utilization <= 1:
        raise SizingError(f"gpu_memory_utilization is {utilization}; it must lie above 0 and not above 1")
    return Settings(
        model=model,
        device=device,
        shards=shards,
        stages=stages,
        length_tokens=length_tokens,
        length_is_automatic=automatic,
        max_num_batched_tokens=batched_tokens,
        max_num_seqs=max_num_seqs,
        weight_element_bytes=width,
        multimodal=multimodal,
        requested_bytes=None
        if configuration.kv_cache_memory_bytes is not None
        else ceil(device.memory_budget_bytes * utilization),
        geometry=geometry,
        block_size_tokens=geometry.block_size_tokens,
        weights_are_exact=not quantised_here and model.confidence != "inferred",
        finer_expert_blocks=defaults.finer_expert_blocks,
        sequences_bound_by_blocks=(
            defaults.states_bound_sequences and geometry.has_states and not configuration.enforce_eager
        ),
        version_is_judged=is_judged(configuration.vllm_version),
    )


def _quantised(configuration: EngineConfiguration) -> tuple[ModelFacts, bool]:
    """The model as it will be built, and whether its weights are quantised while loading (fp8 of a BF16 checkpoint)."""
    model, wanted = configuration.model, configuration.quantization
    own = model.quantization.method if model.quantization else "none"
    if wanted in (None, own):
        return model, False
    if wanted == "fp8":
        return replace(model, quantization=WeightQuantization(method="fp8", block=None)), True
    raise UnknownFact(
        f"quantization {wanted} of {model.name} (checkpoint: {own}) is not supported; "
        f"supported: {', '.join(dict.fromkeys((own, 'fp8')))}"
    )

"""Memory budget: weights, overhead and what they leave for the KV cache, on every pipeline stage of an engine.

requested = gpu_memory_utilization x what the device offers
KV cache  = requested - weights - activation - non torch - CUDA graphs      (or --kv-cache-memory-bytes)
"""

from dataclasses import dataclass

from sizing.engine_settings import EngineConfiguration, Settings
from sizing.overhead import Overhead, Rank, overhead_of
from sizing.site_overhead import Corrected, corrected_overhead
from sizing.weights import Stage, rank_weight_bytes


@dataclass(frozen=True, kw_only=True)
class MemoryBudget:
    """Memory of every stage."""

    weights_bytes: tuple[int, ...]
    overheads: tuple[Overhead, ...]
    kv_bytes: tuple[int, ...]
    kv_low_bytes: tuple[int, ...]
    kv_high_bytes: tuple[int, ...]
    calibrated_by_count: int = 0


def memory_budget(settings: Settings, configuration: EngineConfiguration) -> MemoryBudget:
    """Bytes of every stage; what is left of the requested memory is KV cache."""
    weights = tuple(
        rank_weight_bytes(
            settings.model,
            shards=settings.shards,
            stage=stage,
            element_bytes=settings.weight_element_bytes,
            with_vision=settings.multimodal,
        )
        for stage in settings.stages
    )
    corrected = tuple(_overhead(settings, configuration, stage) for stage in settings.stages)
    overheads = tuple(one.overhead for one in corrected)
    start_count = min(one.start_count for one in corrected)
    given, requested = configuration.kv_cache_memory_bytes, settings.requested_bytes
    if given is not None or requested is None:
        fixed = (given or 0,) * len(settings.stages)
        return MemoryBudget(
            weights_bytes=weights, overheads=overheads, kv_bytes=fixed, kv_low_bytes=fixed, kv_high_bytes=fixed
        )
    rest = tuple(requested - weight_bytes for weight_bytes in weights)
    return MemoryBudget(
        weights_bytes=weights,
        overheads=overheads,
        kv_bytes=tuple(left - overhead.likely_bytes for left, overhead in zip(rest, overheads, strict=True)),
        kv_low_bytes=tuple(left - overhead.high_bytes for left, overhead in zip(rest, overheads, strict=True)),
        kv_high_bytes=tuple(left - overhead.low_bytes for left, overhead in zip(rest, overheads, strict=True)),
        calibrated_by_count=start_count,
    )


def _overhead(settings: Settings, configuration: EngineConfiguration, stage: Stage) -> Corrected:
    rank = Rank(
        shards=settings.shards,
        stage_layer_count=stage.end_layer - stage.first_layer,
        is_first_stage=stage.is_first,
        is_last_stage=stage.is_last,
        max_num_batched_tokens=settings.max_num_batched_tokens,
        max_num_seqs=settings.max_num_seqs,
        element_bytes=settings.weight_element_bytes,
        enforce_eager=configuration.enforce_eager,
        multimodal=settings.multimodal,
        limit_mm_per_prompt=configuration.limit_mm_per_prompt or {},
        max_model_len=settings.length_tokens,
        whole_engine=settings.requested_bytes is None,
        vllm_version=configuration.vllm_version,
    )
    device = settings.device
    return corrected_overhead(
        overhead_of(settings.model, device, rank),
        device.calibration,
        gpu=device.name,
        model=settings.model.name,
        rank=rank,
    )

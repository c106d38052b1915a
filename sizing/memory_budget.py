"""Memory budget: weights, overhead and what they leave for the KV cache, on every pipeline stage of an engine.

requested = gpu_memory_utilization x what the device offers
KV cache  = requested - weights - activation - non torch - CUDA graphs      (or --kv-cache-memory-bytes)
"""

from dataclasses import dataclass

from sizing.engine_settings import EngineConfiguration, Settings
from sizing.overhead import Overhead, overhead_of
from sizing.weights import rank_weight_bytes


@dataclass(frozen=True, kw_only=True)
class MemoryBudget:
    """Memory of every stage."""

    weights_bytes: tuple[int, ...]
    overheads: tuple[Overhead, ...]
    kv_bytes: tuple[int, ...]
    kv_low_bytes: tuple[int, ...]
    kv_high_bytes: tuple[int, ...]


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
    overheads = tuple(
        overhead_of(
            settings.model,
            settings.device,
            shards=settings.shards,
            stage_layer_count=stage.end_layer - stage.first_layer,
            max_num_batched_tokens=settings.max_num_batched_tokens,
            max_num_seqs=settings.max_num_seqs,
            element_bytes=settings.weight_element_bytes,
            enforce_eager=configuration.enforce_eager,
            multimodal=settings.multimodal,
            whole_engine=settings.requested_bytes is None,
        )
        for stage in settings.stages
    )
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
    )

"""Estimate: what happens if exactly this is run? One fixed configuration in, one memory budget and verdict out."""

from sizing.answer import Estimate, Interval, Limits, PerGpu, Refusal, Verdict
from sizing.constraints import Configuration, Refused, refusals_of
from sizing.engine_defaults import DEFAULT_VLLM_VERSION
from sizing.engine_settings import EngineConfiguration, Settings, settings_of
from sizing.kv_cache import DOES_NOT_FIT_SOURCE, KvCapacity, kv_capacity, longest_length
from sizing.memory_budget import MemoryBudget, memory_budget
from sizing.overhead import Overhead, Provenance, context_bytes
from sizing.units import gib_text
from sizing.weights import check_checkpoint

__all__ = ["DEFAULT_VLLM_VERSION", "EngineConfiguration", "Estimate", "Verdict", "estimate"]


def estimate(configuration: EngineConfiguration) -> Estimate:
    """The memory budget and the verdict. Raises only for bad input and unknown facts, never for what does not fit."""
    check_checkpoint(configuration.model)
    settings = settings_of(configuration)
    refusals = refusals_of(_as_rules_see_it(settings, configuration))
    if refusals:
        return _refused(settings, configuration, refusals)
    budget = memory_budget(settings, configuration)
    capacity = _capacity(settings, budget.kv_bytes)
    return _answer(settings, configuration, budget, capacity)


def _as_rules_see_it(settings: Settings, configuration: EngineConfiguration) -> Configuration:
    device = settings.device
    return Configuration(
        model=settings.model,
        device=device,
        tensor_parallel_size=settings.shards,
        pipeline_parallel_size=len(settings.stages),
        max_model_len=settings.length_tokens,
        max_num_batched_tokens=settings.max_num_batched_tokens,
        max_num_seqs=settings.max_num_seqs,
        kv_cache_dtype=configuration.kv_cache_dtype,
        multimodal=settings.multimodal,
        finer_expert_blocks=settings.finer_expert_blocks,
        requested_bytes=settings.requested_bytes,
        free_bytes=device.memory_usable_bytes - device.memory_used_bytes - context_bytes(device),
    )


def _capacity(settings: Settings, kv_bytes: tuple[int, ...]) -> KvCapacity:
    return kv_capacity(
        settings.geometry, kv_bytes, length_tokens=settings.length_tokens, automatic=settings.length_is_automatic
    )


def _answer(
    settings: Settings, configuration: EngineConfiguration, budget: MemoryBudget, capacity: KvCapacity
) -> Estimate:
    stage_indexes = range(len(settings.stages))
    tightest = min(
        stage_indexes, key=lambda index: budget.kv_bytes[index] // settings.geometry.bytes_per_block_by_stage[index]
    )
    overhead, weights_bytes = budget.overheads[tightest], budget.weights_bytes[tightest]
    kv_bytes = max(0, budget.kv_bytes[tightest])
    requested_bytes = settings.requested_bytes
    if requested_bytes is None:
        requested_bytes = weights_bytes + overhead.likely_bytes + kv_bytes
    refusals: tuple[Refusal, ...] = ()
    if not capacity.fits:
        refusals = (Refusal(rule="kv_cache", message=capacity.refusal, source=DOES_NOT_FIT_SOURCE),)
    elif settings.sequences_bound_by_blocks and settings.max_num_seqs > capacity.block_count:
        refusals = (_more_sequences_than_blocks(settings, capacity),)
    free_bytes = settings.device.memory_usable_bytes - settings.device.memory_used_bytes
    if requested_bytes > free_bytes:
        short = f"needs {gib_text(requested_bytes)}, {settings.device.name} offers {gib_text(free_bytes)}"
        refusals += (Refusal(rule="memory", message=f"The engine {short}.", source="sizing"),)
    low, high = _capacity(settings, budget.kv_low_bytes), _capacity(settings, budget.kv_high_bytes)
    return Estimate(
        verdict="does_not_fit" if refusals else "fits",
        vllm_version=configuration.vllm_version,
        gpu=settings.device.name,
        per_gpu=PerGpu(
            total_bytes=settings.device.memory_total_bytes,
            usable_bytes=settings.device.memory_usable_bytes,
            requested_bytes=requested_bytes,
            weights_bytes=weights_bytes,
            activation_bytes=overhead.activation.likely_bytes,
            non_torch_bytes=overhead.non_torch.likely_bytes,
            cuda_graph_bytes=overhead.cuda_graph.likely_bytes,
            kv_cache_bytes=kv_bytes,
        ),
        kv_cache_tokens=capacity.tokens,
        max_concurrency=capacity.max_concurrency,
        at_tokens=capacity.at_tokens,
        kv_cache_gpu_blocks=capacity.block_count,
        block_size_tokens=settings.block_size_tokens,
        limits=Limits(
            max_model_len_tokens=longest_length(
                settings.geometry, budget.kv_bytes, at_most_tokens=settings.model.max_model_len_tokens
            ),
            max_num_seqs=min(settings.max_num_batched_tokens, capacity.block_count)
            if settings.sequences_bound_by_blocks
            else settings.max_num_batched_tokens,
        ),
        refusals=refusals,
        interval=Interval(
            kv_cache_bytes=(max(0, budget.kv_low_bytes[tightest]), max(0, budget.kv_high_bytes[tightest])),
            kv_cache_tokens=(low.tokens, high.tokens),
        ),
        provenance=_provenance(settings, overhead),
        calibration=_calibration(settings, budget),
    )


def _more_sequences_than_blocks(settings: Settings, capacity: KvCapacity) -> Refusal:
    return Refusal(
        rule="state_blocks",
        message=f"max_num_seqs ({settings.max_num_seqs}) exceeds available Mamba cache blocks "
        f"({capacity.block_count}). Each decode sequence requires one Mamba cache block, so CUDA graph capture cannot "
        f"proceed. Use --max-num-seqs {capacity.block_count} or less, or more memory.",
        source="vllm/config/compilation.py:1519",
    )


def _refused(settings: Settings, configuration: EngineConfiguration, refusals: tuple[Refused, ...]) -> Estimate:
    return Estimate(
        verdict="refused",
        vllm_version=configuration.vllm_version,
        gpu=settings.device.name,
        per_gpu=PerGpu(
            total_bytes=settings.device.memory_total_bytes,
            usable_bytes=settings.device.memory_usable_bytes,
            requested_bytes=settings.requested_bytes or 0,
            weights_bytes=0,
            activation_bytes=0,
            non_torch_bytes=0,
            cuda_graph_bytes=0,
            kv_cache_bytes=0,
        ),
        kv_cache_tokens=0,
        max_concurrency=0.0,
        at_tokens=settings.length_tokens,
        kv_cache_gpu_blocks=0,
        block_size_tokens=settings.block_size_tokens,
        limits=Limits(max_model_len_tokens=0, max_num_seqs=0),
        refusals=tuple(Refusal(rule=one.rule, message=one.message, source=one.source) for one in refusals),
        interval=Interval(kv_cache_bytes=(0, 0), kv_cache_tokens=(0, 0)),
        provenance={},
    )


def _calibration(settings: Settings, budget: MemoryBudget) -> str | None:
    """Which of the site's own starts the overhead rests on, in words."""
    count, device = budget.calibrated_by_count, settings.device
    if count == 0:
        return None
    return f"{device.calibration_name}: {count} {'start' if count == 1 else 'starts'} on {device.name}"


def _provenance(settings: Settings, overhead: Overhead) -> dict[str, Provenance]:
    terms = (overhead.activation.provenance, overhead.non_torch.provenance, overhead.cuda_graph.provenance)
    pool: Provenance = "calibrated"
    if settings.requested_bytes is None:
        pool = "exact"
    elif not settings.version_is_judged or "extrapolated" in terms or not settings.weights_are_exact:
        pool = "extrapolated"
    beyond_the_golden_table = (
        len(settings.stages) > 1 or settings.model.confidence == "inferred" or not settings.version_is_judged
    )
    tokens: Provenance = "extrapolated" if beyond_the_golden_table else pool
    return {
        "weights_bytes": "exact" if settings.weights_are_exact else "extrapolated",
        "activation_bytes": terms[0],
        "non_torch_bytes": terms[1],
        "cuda_graph_bytes": terms[2],
        "kv_cache_bytes": pool,
        "kv_cache_tokens": tokens,
    }

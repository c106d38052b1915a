"""vLLM options: one configuration of an engine derived from a wish, and the same as options and as a command line.

gpu-memory-utilization   vLLM's default, or what is free of the GPU now, rounded down to whole per cent
max-num-seqs             twice the requests in flight of one engine, in steps of 8
max-num-batched-tokens   vLLM's default for the device; less where the KV cache would be too small otherwise
"""

from dataclasses import replace

from sizing.device import Device
from sizing.engine_defaults import defaults_for
from sizing.estimate import EngineConfiguration, Estimate, estimate
from sizing.islands import Shape
from sizing.model_facts import ModelFacts
from sizing.overhead import context_bytes
from sizing.units import MIB, round_up
from sizing.wish import Wish

KV_CACHE_STEP_BYTES = 16 * MIB
"""CPU engines get their KV cache in whole steps of this size; it only keeps the numbers short."""

SEQUENCES_PER_USER = 2
"""A guess, not a measurement: room in max_num_seqs for bursts above the wished requests in flight."""

SEQUENCES_STEP = 8

SMALL_BATCH_TOKENS = 2048
"""vLLM's default where memory is small (0.32.0, engine/arg_utils.py:2894-2985); the least that is tried."""

OptionValue = str | int | float


def utilization_for(device: Device) -> float:
    """vLLM's own share, or less where other processes hold memory: what is free after the CUDA context, in per cent."""
    free_bytes = device.memory_usable_bytes - device.memory_used_bytes - context_bytes(device)
    free_share = max(0, 100 * free_bytes // device.memory_budget_bytes) / 100
    return min(defaults_for(device).gpu_memory_utilization, free_share)


def sequences_for(device: Device, users_count: int) -> int:
    """Room for twice the requests in flight, at most vLLM's default for the device, never less than the requests."""
    wished = round_up(SEQUENCES_PER_USER * users_count, SEQUENCES_STEP)
    return max(users_count, min(defaults_for(device).max_num_seqs, wished))


def batches_for(device: Device) -> tuple[int, ...]:
    """Tokens of one forward pass that are worth trying: vLLM's default, then the small one."""
    usual = defaults_for(device).max_num_batched_tokens
    return (usual, SMALL_BATCH_TOKENS) if usual > SMALL_BATCH_TOKENS else (usual,)


def gpu_configuration(
    model: ModelFacts,
    device: Device,
    *,
    shape: Shape,
    context_tokens: int,
    users_count: int,
    kv_cache_dtype: str,
    max_num_batched_tokens: int,
) -> EngineConfiguration:
    """One engine on GPUs, for so many requests in flight."""
    sequences = sequences_for(device, users_count)
    return EngineConfiguration(
        model=model,
        device=device,
        tensor_parallel_size=shape.tensor,
        pipeline_parallel_size=shape.pipeline,
        gpu_memory_utilization=utilization_for(device) or None,
        max_model_len=context_tokens,
        kv_cache_dtype=kv_cache_dtype,
        max_num_batched_tokens=max(max_num_batched_tokens, sequences),
        max_num_seqs=sequences,
    )


def cpu_configuration(model: ModelFacts, device: Device, *, wish: Wish) -> EngineConfiguration:
    """One engine on a processor: the smallest KV cache, in whole steps, that holds every user's full window; the
    largest that fits otherwise."""
    base = EngineConfiguration(
        model=model,
        device=device,
        max_model_len=wish.context_tokens or model.max_model_len_tokens,
        max_num_batched_tokens=defaults_for(device).max_num_batched_tokens,
        max_num_seqs=min(
            defaults_for(device).max_num_seqs, round_up(SEQUENCES_PER_USER * wish.users_count, SEQUENCES_STEP)
        ),
    )
    low, high = 0, max(1, device.memory_usable_bytes // KV_CACHE_STEP_BYTES)
    while high - low > 1:
        middle = (low + high) // 2
        answer = estimate(replace(base, kv_cache_memory_bytes=middle * KV_CACHE_STEP_BYTES))
        if answer.max_concurrency < wish.users_count:
            low = middle
        else:
            high = middle
    return replace(base, kv_cache_memory_bytes=high * KV_CACHE_STEP_BYTES)


def options_of(configuration: EngineConfiguration, answer: Estimate) -> dict[str, OptionValue]:
    """The options that sizing decides, by vLLM's own names."""
    options: dict[str, OptionValue] = {"max-model-len": answer.at_tokens}
    options["tensor-parallel-size"] = configuration.tensor_parallel_size
    if configuration.pipeline_parallel_size > 1:
        options["pipeline-parallel-size"] = configuration.pipeline_parallel_size
    if configuration.gpu_memory_utilization is not None:
        options["gpu-memory-utilization"] = configuration.gpu_memory_utilization
    if configuration.kv_cache_memory_bytes is not None:
        options["kv-cache-memory-bytes"] = configuration.kv_cache_memory_bytes
    options["max-num-seqs"] = configuration.max_num_seqs or 0
    options["max-num-batched-tokens"] = configuration.max_num_batched_tokens or 0
    options["kv-cache-dtype"] = configuration.kv_cache_dtype
    return options


def serve_command(configuration: EngineConfiguration, answer: Estimate, *, model_path: str) -> str:
    """The exact `vllm serve` line of a configuration."""
    options = options_of(configuration, answer)
    if configuration.device.accelerator == "cpu":
        del options["tensor-parallel-size"]
    if configuration.kv_cache_dtype == "auto":
        del options["kv-cache-dtype"]
    words = [f"--{name} {value}" for name, value in options.items()]
    return " ".join(["vllm", "serve", model_path, *words])

"""vLLM options: the configurations worth trying for one model on one kind of device, and the choice among them.

A candidate is a full `EngineConfiguration`; `estimate` judges it. The choice follows the objective:
throughput wants the fewest GPUs per engine (more engines fit), latency the most, context the largest KV cache.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from sizing.device import Device
from sizing.engine_defaults import defaults_for
from sizing.estimate import EngineConfiguration, Estimate, estimate
from sizing.model_facts import ModelFacts
from sizing.units import MIB, gib_text, round_up
from sizing.wish import Wish

KV_CACHE_STEP_BYTES = 16 * MIB
"""CPU engines get their KV cache in whole steps of this size; it only keeps the numbers short."""

SEQUENCES_PER_USER = 2
"""A guess, not a measurement: room in max_num_seqs for bursts above the wished requests in flight."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A configuration, what it gives, and why it is taken or not (`rejection` empty: it meets the wish)."""

    configuration: EngineConfiguration
    answer: Estimate
    rejection: str

    @property
    def meets_the_wish(self) -> bool:
        return not self.rejection


def candidates_for(model: ModelFacts, device: Device, *, device_count: int, wish: Wish) -> tuple[Candidate, ...]:
    """Every candidate on up to `device_count` devices, best first; the ones that fail keep their reason."""
    tried = [_judged(configuration, wish) for configuration in _configurations(model, device, device_count, wish)]
    return tuple(sorted(tried, key=lambda candidate: _rank(candidate, wish)))


def serve_command(configuration: EngineConfiguration, answer: Estimate, *, model_path: str) -> str:
    """The exact `vllm serve` line of a configuration."""
    words = ["vllm", "serve", model_path, "--max-model-len", str(answer.at_tokens)]
    if configuration.device.accelerator == "cuda":
        words += ["--tensor-parallel-size", str(configuration.tensor_parallel_size)]
        words += ["--gpu-memory-utilization", str(configuration.gpu_memory_utilization)]
    else:
        words += ["--kv-cache-memory-bytes", str(configuration.kv_cache_memory_bytes)]
    words += ["--max-num-seqs", str(configuration.max_num_seqs)]
    words += ["--max-num-batched-tokens", str(configuration.max_num_batched_tokens)]
    if configuration.kv_cache_dtype != "auto":
        words += ["--kv-cache-dtype", configuration.kv_cache_dtype]
    return " ".join(words)


def _configurations(model: ModelFacts, device: Device, device_count: int, wish: Wish) -> Iterator[EngineConfiguration]:
    defaults = defaults_for(device)
    base = EngineConfiguration(
        model=model,
        device=device,
        max_model_len=wish.context_tokens if wish.context_tokens is not None else "auto",
        max_num_batched_tokens=defaults.max_num_batched_tokens,
        max_num_seqs=min(defaults.max_num_seqs, round_up(SEQUENCES_PER_USER * wish.users_count, 8)),
    )
    if device.accelerator == "cpu":
        yield _with_enough_kv_cache(base, wish)
        return
    kv_cache_dtypes = ["auto"]
    if wish.quality == "balanced" and device.compute_capability is not None and device.compute_capability >= (8, 9):
        kv_cache_dtypes.append("fp8")
    for kv_cache_dtype in kv_cache_dtypes:
        tensor_parallel_size = 1
        while tensor_parallel_size <= device_count:
            yield replace(
                base,
                tensor_parallel_size=tensor_parallel_size,
                gpu_memory_utilization=defaults.gpu_memory_utilization,
                kv_cache_dtype=kv_cache_dtype,
            )
            tensor_parallel_size *= 2


def _with_enough_kv_cache(base: EngineConfiguration, wish: Wish) -> EngineConfiguration:
    """The smallest KV cache, in whole steps, that holds every user's full window; the largest that fits otherwise."""
    low, high = 0, max(1, base.device.memory_usable_bytes // KV_CACHE_STEP_BYTES)
    while high - low > 1:
        middle = (low + high) // 2
        answer = estimate(replace(base, kv_cache_memory_bytes=middle * KV_CACHE_STEP_BYTES))
        if answer.max_concurrency < wish.users_count:
            low = middle
        else:
            high = middle
    return replace(base, kv_cache_memory_bytes=high * KV_CACHE_STEP_BYTES)


def _judged(configuration: EngineConfiguration, wish: Wish) -> Candidate:
    answer = estimate(configuration)
    rejection = ""
    if answer.verdict == "refused":
        rejection = answer.refusals[0].message
    elif answer.verdict == "does_not_fit":
        rejection = (
            f"{configuration.model.name} with a window of {configuration.max_model_len} tokens does not fit "
            f"{configuration.tensor_parallel_size} x {configuration.device.name}; the longest window that does is "
            f"{answer.limits.max_model_len_tokens} tokens"
        )
    elif answer.max_concurrency < wish.users_count:
        rejection = (
            f"{gib_text(answer.per_gpu.kv_cache_bytes)} of KV cache hold {answer.max_concurrency:.1f} requests of "
            f"{answer.at_tokens} tokens at once; {wish.users_count} are wished"
        )
    return Candidate(configuration=configuration, answer=answer, rejection=rejection)


def _rank(candidate: Candidate, wish: Wish) -> tuple[float, ...]:
    """Sort key: what meets the wish first, unquantised KV cache before FP8, then by the objective."""
    configuration = candidate.configuration
    shards = configuration.tensor_parallel_size
    quantised = float(configuration.kv_cache_dtype != "auto")
    by_objective: Sequence[float] = {
        "throughput": (quantised, shards),
        "latency": (quantised, -shards),
        "context": (-candidate.answer.kv_cache_tokens, shards),
    }[wish.objective]
    return (float(not candidate.meets_the_wish), *by_objective)

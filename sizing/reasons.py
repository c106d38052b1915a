"""Reasons: why a candidate is taken or not, in words that an operator would use. Nothing is decided here."""

from collections.abc import Iterator

from sizing.engine_defaults import defaults_for
from sizing.estimate import EngineConfiguration, Estimate
from sizing.islands import Shape
from sizing.overhead import context_bytes
from sizing.plan import Choice
from sizing.units import gib_text
from sizing.wish import Wish

NATIVE_FP8_CAPABILITY = (8, 9)
"""From here on GPUs compute in FP8; below, only the weights are stored so (vllm/platforms/cuda.py:585, 0.32.0)."""


def devices_text(configuration: EngineConfiguration) -> str:
    """`2 x NVIDIA L4`, or the processor."""
    device = configuration.device
    if device.accelerator == "cpu":
        return f"CPU {device.name}"
    return f"{configuration.tensor_parallel_size * configuration.pipeline_parallel_size} x {device.name}"


def alternative_text(configuration: EngineConfiguration, shape: Shape, *, wished_model: str) -> str:
    """What makes this candidate another one than its neighbours."""
    if configuration.device.accelerator == "cpu":
        return devices_text(configuration)
    words = [f"tensor-parallel-size {shape.tensor}" + (" across PCIe" if shape.across_pcie else "")]
    if shape.pipeline > 1:
        words.append(f"pipeline-parallel-size {shape.pipeline}")
    words.append(f"on {configuration.device.name}")
    if configuration.model.name != wished_model:
        words.append(f"with {configuration.model.name}")
    if configuration.kv_cache_dtype != "auto":
        words.append(f"with an {configuration.kv_cache_dtype.upper()} KV cache")
    return " ".join(words)


def rejection_of(
    configuration: EngineConfiguration, answer: Estimate, wish: Wish, *, capacity_count: int, engine_count: int
) -> str:
    """Why these engines do not meet the wish; empty if they do."""
    if answer.verdict == "refused":
        return f"vLLM refuses it: {answer.refusals[0].message.rstrip('.')}"
    if answer.verdict == "does_not_fit":
        return _does_not_fit(configuration, answer)
    if answer.interval.kv_cache_tokens[0] == 0:
        return _too_close_to_call(configuration, answer)
    if engine_count == 0:
        return f"needs {devices_text(configuration)} side by side, which are not there"
    if capacity_count * engine_count >= wish.users_count:
        return ""
    return _holds_too_few(configuration, answer, wish, capacity_count, engine_count)


def _holds_too_few(
    configuration: EngineConfiguration, answer: Estimate, wish: Wish, capacity_count: int, engine_count: int
) -> str:
    length = answer.at_tokens if wish.request_tokens is None else min(wish.request_tokens, answer.at_tokens)
    where = "host" if configuration.device.accelerator == "cpu" else "GPU"
    holds = engine_count * (answer.max_concurrency if wish.request_tokens is None else capacity_count)
    cache = f"{gib_text(answer.per_gpu.kv_cache_bytes)} of KV cache on each {where}"
    holds_text = f"{holds:.1f} requests of {length} tokens at once; {_wished(wish)}"
    if engine_count > 1:
        return f"{engine_count} engines, each on {devices_text(configuration)} with {cache}, together hold {holds_text}"
    return f"{devices_text(configuration)} leaves {cache}, which holds {holds_text}"


def _wished(wish: Wish) -> str:
    return f"{wish.users_count} {'is' if wish.users_count == 1 else 'are'} wished"


def _too_close_to_call(configuration: EngineConfiguration, answer: Estimate) -> str:
    likely_bytes, low_bytes = answer.per_gpu.kv_cache_bytes, answer.interval.kv_cache_bytes[0]
    return (
        f"{devices_text(configuration)} with a window of {answer.at_tokens} tokens is too close to call: "
        f"{gib_text(likely_bytes)} are likely to remain for the KV cache, but as little as {gib_text(low_bytes)} has "
        "been seen, and with that vLLM would not start"
    )


def _does_not_fit(configuration: EngineConfiguration, answer: Estimate) -> str:
    memory, longest = answer.per_gpu, answer.limits.max_model_len_tokens
    start = f"does not fit {devices_text(configuration)}: "
    each = "on each GPU" if configuration.device.accelerator == "cuda" else "of memory"
    working_bytes = memory.activation_bytes + memory.non_torch_bytes + memory.cuda_graph_bytes
    may_use = f"vLLM may use {gib_text(memory.requested_bytes)}"
    if configuration.kv_cache_memory_bytes is not None:
        may_use = f"{gib_text(memory.usable_bytes)} are usable"
        needed_bytes = memory.weights_bytes + working_bytes + configuration.kv_cache_memory_bytes
        return start + f"it needs {gib_text(needed_bytes)} {each} for the wished requests; {may_use}"
    if memory.weights_bytes >= memory.requested_bytes:
        return start + f"the weights alone need {gib_text(memory.weights_bytes)} {each}; {may_use}"
    if longest == 0:
        return (
            start + f"{gib_text(memory.weights_bytes)} of weights and {gib_text(working_bytes)} of working memory "
            f"{each} leave no room for a KV cache; {may_use}"
        )
    return (
        start + f"{gib_text(memory.kv_cache_bytes)} {each} remain for the KV cache, too little for one request of "
        f"{answer.at_tokens} tokens; the longest window that fits is {longest} tokens"
    )


def choices_of(
    configuration: EngineConfiguration,
    answer: Estimate,
    shape: Shape,
    wish: Wish,
    *,
    wished_model: str,
    engine_count: int,
    capacity_count: int,
    window_is_derived: bool,
) -> tuple[Choice, ...]:
    """The reason for every option that sizing decided."""

    def all_choices() -> Iterator[Choice]:
        if configuration.device.accelerator == "cuda":
            yield _checkpoint(configuration, wished_model)
            yield from _spread(shape, wish)
            yield _utilization(configuration)
        else:
            yield Choice(
                option="kv-cache-memory-bytes",
                value=str(configuration.kv_cache_memory_bytes),
                because=f"the smallest cache, in steps of 16 MiB, that holds {wish.users_count} whole windows",
            )
        yield _window(answer, wish, window_is_derived)
        yield _cache(configuration)
        yield _sequences(configuration, wish, engine_count)
        yield _batch(configuration)
        because = f"the KV cache of one engine holds {capacity_count} requests; {_wished(wish)}"
        if wish.demand is not None:
            because = f"the fewest that meet {wish.demand.objectives.text()}; {because.replace('wished', 'in flight')}"
        yield Choice(option="replicas", value=str(engine_count), because=because)

    return tuple(all_choices())


def _checkpoint(configuration: EngineConfiguration, wished_model: str) -> Choice:
    model, capability = configuration.model, configuration.device.compute_capability
    if model.name == wished_model:
        return Choice(option="model", value=model.name, because="the checkpoint that was asked for")
    because = f"the official FP8 release of {wished_model}, which quality balanced allows; "
    if capability is not None and capability >= NATIVE_FP8_CAPABILITY:
        because += "this GPU computes in FP8"
    else:
        because += "this GPU stores FP8 weights and computes in 16 bits: less memory, no more speed"
    return Choice(option="model", value=model.name, because=because)


def _spread(shape: Shape, wish: Wish) -> Iterator[Choice]:
    if shape.tensor == 1:
        because = "one GPU holds a whole layer; splitting layers would only add communication"
    elif shape.across_pcie:
        because = "each layer is split across PCIe, which every token waits for; no NVLink island is large enough"
    elif wish.objective == "latency":
        because = f"each GPU reads 1/{shape.tensor} of the weights for every token; NVLink joins them"
    elif wish.objective == "context":
        because = f"{shape.tensor} GPUs joined by NVLink leave the most room for the KV cache"
    else:
        because = f"fewer GPUs do not meet the wish; NVLink joins these {shape.tensor}"
    yield Choice(option="tensor-parallel-size", value=str(shape.tensor), because=because)
    if shape.pipeline > 1:
        because = f"layers are dealt out to {shape.pipeline} stages: only one hand-over per stage crosses PCIe"
        yield Choice(option="pipeline-parallel-size", value=str(shape.pipeline), because=because)


def _utilization(configuration: EngineConfiguration) -> Choice:
    device, share = configuration.device, configuration.gpu_memory_utilization or 0.0
    because = f"vLLM's own share in {configuration.vllm_version}; the rest is for the CUDA context and for peaks"
    if share < defaults_for(device).gpu_memory_utilization:
        free_bytes = device.memory_usable_bytes - device.memory_used_bytes - context_bytes(device)
        because = (
            f"{gib_text(device.memory_used_bytes)} are held by other processes: {gib_text(max(0, free_bytes))} of "
            f"{gib_text(device.memory_usable_bytes)} are free, and vLLM does not start with a larger share"
        )
    return Choice(option="gpu-memory-utilization", value=str(share), because=because)


def _window(answer: Estimate, wish: Wish, window_is_derived: bool) -> Choice:
    because = "the window that was asked for, prompt and answer together"
    if window_is_derived:
        because = f"the longest window at which {wish.users_count} requests in flight fit"
    return Choice(option="max-model-len", value=str(answer.at_tokens), because=because)


def _cache(configuration: EngineConfiguration) -> Choice:
    because = "keys and values in the checkpoint's own number format, without loss"
    if configuration.kv_cache_dtype != "auto":
        because = "half the bytes for each token of keys and values; quality balanced allows it"
    return Choice(option="kv-cache-dtype", value=configuration.kv_cache_dtype, because=because)


def _sequences(configuration: EngineConfiguration, wish: Wish, engine_count: int) -> Choice:
    users = -(-wish.users_count // engine_count)
    because = f"{users} requests in flight on one engine, and room for bursts; every one more costs sampler memory"
    return Choice(option="max-num-seqs", value=str(configuration.max_num_seqs), because=because)


def _batch(configuration: EngineConfiguration) -> Choice:
    usual, tokens = defaults_for(configuration.device).max_num_batched_tokens, configuration.max_num_batched_tokens or 0
    because = "vLLM's own choice for this device"
    if tokens < usual:
        because = f"less than vLLM's own {usual}: a smaller forward pass leaves more memory to the KV cache"
    elif tokens > usual:
        because = "as many as max-num-seqs: a forward pass holds one token of every running request"
    return Choice(option="max-num-batched-tokens", value=str(tokens), because=because)

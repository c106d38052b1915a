"""Explain: how each number of a plan came about, engine by engine, from the plan's own figures.

Nothing is computed anew here: a number that is not in the plan cannot be explained by it.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from sizing.plan import Decision, Engine, Plan, PlannedModel
from sizing.relays import Relay
from sizing.units import gib_text


@dataclass(frozen=True, kw_only=True)
class Reason:
    """One number of the plan, by the name it has there, and where it comes from."""

    name: str
    value: str
    because: str


@dataclass(frozen=True, kw_only=True)
class ExplainedEngine:
    """All numbers of one engine."""

    host: str
    engine: str
    model: str
    reasons: tuple[Reason, ...]
    choices: tuple[Reason, ...] = ()
    rejected: tuple[Reason, ...] = ()


def explain(plan: Plan) -> tuple[ExplainedEngine, ...]:
    """Every engine of a plan, in the order of its hosts."""
    models = {model.name: model for model in plan.models}
    relays = {relay.model: relay for relay in plan.gateway.relays}
    decisions = {decision.model: decision for decision in plan.decisions}
    return tuple(
        ExplainedEngine(
            host=host,
            engine=engine.name,
            model=engine.model,
            reasons=(
                *_placement(engine, host),
                *_memory(engine),
                *_kv_cache(engine),
                *_window(engine, models[engine.model]),
                *_relay(engine, relays[engine.model]),
            ),
            choices=_choices(decisions.get(engine.model)),
            rejected=_rejected(decisions.get(engine.model)),
        )
        for host, engine in plan.engines()
    )


def _choices(decision: Decision | None) -> tuple[Reason, ...]:
    """Why the plan has these options; a plan made before decisions were written down has none."""
    made = () if decision is None else decision.choices
    return tuple(Reason(name=one.option, value=one.value, because=one.because) for one in made)


def _rejected(decision: Decision | None) -> tuple[Reason, ...]:
    weighed = () if decision is None else decision.rejected
    return tuple(Reason(name=one.alternative, value="", because=one.because) for one in weighed)


def _placement(engine: Engine, host: str) -> Iterator[Reason]:
    options = engine.vllm_options
    if engine.gpu_uuids:
        because = f"{len(engine.gpu_uuids)} GPUs of {host}, each holds 1/{options.tensor_parallel_size} of every layer"
        yield Reason(name="gpu_uuids", value=" ".join(engine.gpu_uuids), because=because)
    else:
        cores = ",".join(str(core) for core in engine.cpu_cores)
        yield Reason(name="cpu_cores", value=cores, because=f"cores of {host} that no other engine is given")
    yield Reason(
        name="port",
        value=str(options.port),
        because="first_engine_port of the request, counted up per engine of a host",
    )


def _memory(engine: Engine) -> Iterator[Reason]:
    memory, options = engine.memory, engine.vllm_options
    where = "one GPU" if engine.gpu_uuids else "the host"
    usable = (
        "NVML's total less the driver's reserve"
        if engine.gpu_uuids
        else "memory of the host less what the system keeps"
    )
    yield Reason(name="usable_bytes", value=_bytes(memory.usable_bytes), because=f"{usable}, on {where}")
    yield Reason(name="requested_bytes", value=_bytes(memory.requested_bytes), because=_requested(engine))
    yield Reason(
        name="weights_bytes",
        value=_bytes(memory.weights_bytes),
        because=f"parameters of {engine.model_directory} on one of {options.tensor_parallel_size} ranks, "
        f"quantization {options.quantization or 'as in the checkpoint'}",
    )
    yield Reason(
        name="activation_bytes",
        value=_bytes(memory.activation_bytes),
        because=f"the largest forward pass: max-num-batched-tokens {options.max_num_batched_tokens}, "
        f"max-num-seqs {options.max_num_seqs}",
    )
    yield Reason(
        name="non_torch_bytes",
        value=_bytes(memory.non_torch_bytes),
        because="held outside PyTorch: communication buffers and the like",
    )
    graphs = "enforce-eager: no graphs are captured" if options.enforce_eager else "graphs captured at start"
    yield Reason(name="cuda_graph_bytes", value=_bytes(memory.cuda_graph_bytes), because=graphs)
    yield Reason(name="kv_cache_bytes", value=_bytes(memory.kv_cache_bytes), because=_rest(engine))
    if engine.memory_max_bytes is not None:
        yield Reason(
            name="memory_max_bytes",
            value=_bytes(engine.memory_max_bytes),
            because="requested_bytes and headroom: what systemd lets the unit have (MemoryMax)",
        )


def _requested(engine: Engine) -> str:
    options = engine.vllm_options
    if options.kv_cache_memory_bytes is not None:
        return f"the parts below, with a KV cache of kv-cache-memory-bytes {options.kv_cache_memory_bytes:,}"
    if options.gpu_memory_utilization is not None:
        return f"gpu-memory-utilization {options.gpu_memory_utilization} of usable_bytes, rounded up"
    return "vLLM's own share of usable_bytes"


def _rest(engine: Engine) -> str:
    memory = engine.memory
    if engine.vllm_options.kv_cache_memory_bytes is not None:
        return "kv-cache-memory-bytes, chosen so that the wished requests fit; vLLM then estimates nothing"
    taken = memory.weights_bytes + memory.activation_bytes + memory.non_torch_bytes + memory.cuda_graph_bytes
    return f"requested {_bytes(memory.requested_bytes)} less {_bytes(taken)} for the parts above"


def _kv_cache(engine: Engine) -> Iterator[Reason]:
    cache, options = engine.kv_cache, engine.vllm_options
    yield Reason(
        name="kv_cache.block_count",
        value=f"{cache.block_count:,}",
        because=f"blocks of {cache.block_size_tokens} tokens that kv_cache_bytes holds, rounded down "
        f"(kv-cache-dtype {options.kv_cache_dtype})",
    )
    yield Reason(
        name="kv_cache.tokens",
        value=f"{cache.tokens:,}",
        because=f"max_concurrency_ratio {cache.max_concurrency_ratio:.2f} x max-model-len {options.max_model_len:,}, "
        "as vLLM reports it in /metrics",
    )
    yield Reason(
        name="max-num-seqs",
        value=str(options.max_num_seqs),
        because=f"requests that run at once; the KV cache holds {cache.max_concurrency_ratio:.2f} of full length",
    )


def _window(engine: Engine, model: PlannedModel) -> Iterator[Reason]:
    yield Reason(
        name="max-model-len",
        value=f"{engine.vllm_options.max_model_len:,}",
        because=f"the window of the request: max_input_tokens {model.max_input_tokens:,} + max_output_tokens "
        f"{model.max_output_tokens:,}, which the gateway declares",
    )


def _relay(engine: Engine, relay: Relay) -> Iterator[Reason]:
    yield Reason(
        name="relay.port",
        value=str(relay.port),
        because=f"relay {relay.group} on every gateway host, before {len(relay.replicas)} replicas; first_relay_port "
        "of the request, counted up per model",
    )
    yield Reason(
        name="relay.concurrent_requests_per_replica",
        value=str(relay.concurrent_requests_per_replica),
        because=f"the smallest max-num-seqs behind the relay (here {engine.vllm_options.max_num_seqs}): what an engine "
        "cannot run at once waits in the relay, from where it can still go to another engine",
    )


def _bytes(quantity_bytes: int) -> str:
    return gib_text(quantity_bytes)

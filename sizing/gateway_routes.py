"""Gateway routes: request, plan, providers and routing of a site as one slice for the gateway role.

Decided here, placed by Ansible (`llm-size routing SITE`): LiteLLM's entries for declared endpoints, strategies,
fallbacks, aliases, access groups, the environment variables of provider keys, and the fence that the gateway's hook
enforces while requests run.
"""

from collections.abc import Collection, Mapping

from pydantic import Field

from sizing.documents import Part
from sizing.errors import DocumentError
from sizing.fallbacks import Fallbacks, Routed, check_fallbacks
from sizing.listed_models import ListedModel, listed_models
from sizing.plan import Plan
from sizing.provider_entries import ProviderEntry, entries, environment_name
from sizing.providers import DeclaredModel, Deployment, Endpoint, Providers
from sizing.request import Request
from sizing.routing import ModelRouting, Routing

COST_BASED = "cost-based-routing"
Served = Mapping[DeclaredModel, tuple[tuple[Deployment, Endpoint], ...]]


class RoutingGroup(Part):
    """The strategy of one model. The group has the model's own name: other names could be called by clients."""

    group_name: str
    models: tuple[str, ...]
    routing_strategy: str


class Fence(Part):
    """What the gateway's hook needs to keep internal requests inside."""

    internal: tuple[str, ...] = Field(
        default=(), description="models, with every name that a client may call them by: aliases, ids of deployments"
    )
    inside: tuple[str, ...] = Field(default=(), description="ids of the deployments that stand on the premises")


class GatewayRoutes(Part):
    """The gateway role's slice."""

    deployments: tuple[ProviderEntry, ...] = ()
    routing_groups: tuple[RoutingGroup, ...] = ()
    retries: dict[str, int] = Field(default_factory=dict)
    tags_match_any: bool = True
    fallbacks: tuple[dict[str, tuple[str, ...]], ...] = ()
    default_fallbacks: tuple[str, ...] = ()
    context_window_fallbacks: tuple[dict[str, tuple[str, ...]], ...] = ()
    content_policy_fallbacks: tuple[dict[str, tuple[str, ...]], ...] = ()
    aliases: dict[str, str] = Field(default_factory=dict)
    access_groups: dict[str, tuple[str, ...]] = Field(default_factory=dict, description="of own models, by model")
    secrets: dict[str, str] = Field(default_factory=dict, description="environment variable -> name in the vault")
    fence: Fence = Fence()
    listed: tuple[ListedModel, ...] = Field(default=(), description="declared models, for the page for people")
    all_inside: bool = Field(default=True, description="nothing that is served stands outside")


def served_names(request: Request, providers: Providers, routing: Routing) -> frozenset[str]:
    """Everything that a key or team may be given: models, aliases, access groups."""
    own = {model.name for model in request.models}
    others = {model.name for model, _ in providers.served()}
    return frozenset(own | others | set(routing.aliases) | set(routing.access_groups))


def data_classes(request: Request, providers: Providers) -> Mapping[str, bool]:
    """Every model that is served, and whether it is marked `data: internal`."""
    own = {model.name: model.data == "internal" for model in request.models}
    return own | {model.name: model.data == "internal" for model, _ in providers.served()}


def gateway_routes(request: Request, plan: Plan, providers: Providers, routing: Routing) -> GatewayRoutes:
    """The slice; raises DocumentError with one line for what does not hold together."""
    served = dict(providers.served())
    off = {model.name for model in providers.models} - {model.name for model in served}
    own = {model.name: model for model in plan.models}
    for model in providers.models:
        if model.name in own:
            raise DocumentError(
                f"providers: model {model.name} is one of the site's own (request.yml); give it another name and make "
                "it a fallback"
            )
    models = _models(request, plan, served)
    general = _general(plan, routing, models)
    smaller = {model.name for model in request.models if model.fallbacks_may_be_smaller}
    fallbacks = Fallbacks(
        general=general,
        default=routing.default_fallbacks,
        context_window=routing.context_window_fallbacks,
        content_policy=routing.content_policy_fallbacks,
        may_be_smaller=set(models) if routing.fallbacks_may_be_smaller else smaller,
    )
    check_fallbacks(fallbacks, models, off=off)
    _check_names(routing, models, own, off)
    _check_prices(routing, served)
    internal = tuple(sorted(model.name for model in models.values() if model.internal))
    aliases = {name: [alias for alias, target in routing.aliases.items() if target == name] for name in models}
    groups = {name: tuple(g for g, members in routing.access_groups.items() if name in members) for name in models}

    def with_aliases(chains: Mapping[str, tuple[str, ...]]) -> tuple[dict[str, tuple[str, ...]], ...]:
        return tuple({one: chain} for name, chain in chains.items() for one in (name, *aliases[name]))

    declared = tuple(
        entry
        for model, there in served.items()
        for entry in entries(
            model, there, routing=routing.models.get(model.name, ModelRouting()), access_groups=groups[model.name]
        )
    )
    ids = {one.model: [one.id] for one in plan.gateway.deployments}
    for entry in declared:
        ids.setdefault(entry.model_name, []).append(entry.id)
    return GatewayRoutes(
        deployments=declared,
        routing_groups=tuple(
            RoutingGroup(group_name=name, models=(name,), routing_strategy=one.strategy)
            for name, one in routing.models.items()
            if one.strategy is not None and name in models
        ),
        retries={
            alias: one.retries
            for name, one in routing.models.items()
            if one.retries is not None and name in models
            for alias in (name, *aliases[name])
        },
        tags_match_any=routing.tags == "any",
        fallbacks=with_aliases(general),
        default_fallbacks=routing.default_fallbacks,
        context_window_fallbacks=with_aliases(routing.context_window_fallbacks),
        content_policy_fallbacks=with_aliases(routing.content_policy_fallbacks),
        aliases=routing.aliases,
        access_groups={name: found for name, found in groups.items() if found and name in own},
        secrets={
            environment_name(key): key
            for endpoint in providers.endpoints
            if endpoint.enabled
            for key in endpoint.all_secrets.values()
        },
        fence=Fence(
            internal=tuple(one for name in internal for one in (name, *aliases[name], *ids.get(name, ()))),
            inside=_inside(plan, served, declared) if internal else (),
        ),
        listed=listed_models(served),
        all_inside=all(model.inside for model in models.values()),
    )  # fmt: skip


def _models(request: Request, plan: Plan, served: Served) -> Mapping[str, Routed]:
    internal = {model.name for model in request.models if model.data == "internal"}
    ours = [
        Routed(
            name=one.name,
            window_tokens=one.window_tokens,
            internal=one.name in internal,
            inside=True,
            mode=one.task,
        )
        for one in plan.models
    ]
    others = [
        Routed(
            name=model.name,
            window_tokens=model.window_tokens,
            internal=model.data == "internal",
            inside=all(endpoint.inside for _, endpoint in there),
            mode=model.mode,
        )
        for model, there in served.items()
    ]
    return {one.name: one for one in (*ours, *others)}


def _general(plan: Plan, routing: Routing, models: Mapping[str, Routed]) -> dict[str, tuple[str, ...]]:
    requested = {model.name: model.fallbacks for model in plan.models if model.fallbacks}
    for name in sorted(requested.keys() & routing.fallbacks.keys()):
        raise DocumentError(f"routing: fallbacks of {name} stand in request.yml too; keep one of the two")
    # The default ones are chat models; nothing stands in for embeddings, which differ from model to model.
    alone: dict[str, tuple[str, ...]] = {
        model.name: () for model in models.values() if routing.default_fallbacks and model.mode != "chat"
    }
    return {**alone, **requested, **routing.fallbacks}


def _check_names(routing: Routing, models: Mapping[str, Routed], own: Collection[str], off: Collection[str]) -> None:
    for name in routing.models:
        if name in own:
            raise DocumentError(
                f"routing: models.{name} is one of the site's own: its relay chooses the engine (request.yml: relay)"
            )
        if name not in off:  # what is declared for a model that is switched off waits with it
            _known(f"models.{name} is a model", name, models)
    for group, members in routing.access_groups.items():
        if group in models:
            raise DocumentError(f"routing: access group {group} has the name of a model; rename it")
        for name in members:
            if name not in off:
                _known(f"access group {group} has model {name},", name, models)
    for alias, name in routing.aliases.items():
        if alias in models or alias in routing.access_groups:
            raise DocumentError(f"routing: alias {alias} is the name of a model or an access group; rename it")
        if name in off:
            raise DocumentError(f"routing: alias {alias} stands for {name}, whose endpoints are switched off; drop it")
        _known(f"alias {alias} stands for {name},", name, models)


def _check_prices(routing: Routing, served: Served) -> None:
    """LiteLLM takes a price of zero for an unknown one, and an unknown one for the dearest of all."""
    for model, there in served.items():
        if routing.models.get(model.name, ModelRouting()).strategy != COST_BASED:
            continue
        for deployment, endpoint in there:
            if deployment.input_cost_per_token == 0 or deployment.output_cost_per_token == 0:
                raise DocumentError(f"routing: {COST_BASED} of {model.name} needs prices above zero at {endpoint.name}")
            if deployment.input_cost_per_token is None and not endpoint.is_cloud:
                raise DocumentError(f"routing: {COST_BASED} of {model.name} needs its prices at {endpoint.name}")


def _known(what: str, name: str, models: Mapping[str, Routed]) -> None:
    if name not in models:
        raise DocumentError(f"routing: {what} which is not served; there are {', '.join(sorted(models))}")


def _inside(plan: Plan, served: Served, declared: tuple[ProviderEntry, ...]) -> tuple[str, ...]:
    stands_inside = [endpoint.inside for there in served.values() for _, endpoint in there]
    others = [entry.id for entry, inside in zip(declared, stands_inside, strict=True) if inside]
    return (*(one.id for one in plan.gateway.deployments), *others)

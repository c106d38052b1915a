"""Refuses a gateway configuration that LiteLLM would misread in silence.

LiteLLM ignores keys that it does not know: a misspelt `cooldown_time` or a window under the wrong name is dropped
without a word. So before a configuration lands, everything this appliance writes is checked against the models
below, which know exactly the keys that the template writes, and every fault is one line with its path in the YAML.

Usage: validate_config.py CONFIG.yaml (exit status 1 and the faults on stderr, or 0 and silence)
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError, model_validator

Text = Annotated[str, Field(min_length=1)]
Count = Annotated[int, Field(ge=0)]
PositiveCount = Annotated[int, Field(gt=0)]
PositiveSeconds = Annotated[int, Field(gt=0)]
Price = Annotated[float, Field(ge=0)]
# A secret stands in the environment, never in this file.
ENVIRONMENT_PATTERN = r"^os\.environ/[A-Z][A-Z0-9_]*$"
KEY_PATTERN = r"^(os\.environ/[A-Z][A-Z0-9_]*|none)$"  # servers of ours may ask for no key
FromEnvironment = Annotated[str, Field(pattern=ENVIRONMENT_PATTERN)]
# One model each; an empty list keeps the default ones away.
Chains = list[Annotated[dict[Text, list[Text]], Field(min_length=1, max_length=1)]]


class Part(BaseModel):
    """Any section: no unknown keys, no coerced types."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class DeploymentParameters(Part):
    """`litellm_params`: where the engine is."""

    model: Annotated[str, Field(pattern=r"^hosted_vllm/.+$")]
    api_base: Annotated[str, Field(pattern=r"^https?://[^/\s]+/v1$")]
    api_key: FromEnvironment
    # Relays only.
    max_retries: Literal[0] | None = None
    stream_timeout: PositiveSeconds | None = None


class ModelInfo(Part):
    """`model_info`: what the gateway declares about the deployment."""

    id: Text
    mode: Literal["chat", "embedding"]
    max_input_tokens: PositiveCount
    max_output_tokens: PositiveCount | None = None  # embeddings have none
    input_cost_per_token: Price
    output_cost_per_token: Price
    cache_read_input_token_cost: Price
    cache_creation_input_token_cost: Price
    allowed_fails: PositiveCount | None = None  # relays only
    access_groups: list[Text] | None = None

    @property
    def window_tokens(self) -> tuple[int, int | None]:
        """What all deployments of one model must share."""
        return self.max_input_tokens, self.max_output_tokens


class ProviderParameters(Part):
    """`litellm_params` of what providers.yml declares. Secrets come from the environment here too."""

    model: Annotated[str, Field(pattern=r"^[a-z0-9_-]+/.+$")]
    api_base: Annotated[str, Field(pattern=r"^https?://[^@\s]+$")] | None = None
    api_key: Annotated[str, Field(pattern=KEY_PATTERN)] | None = None
    aws_access_key_id: FromEnvironment | None = None
    aws_secret_access_key: FromEnvironment | None = None
    aws_session_token: FromEnvironment | None = None
    vertex_credentials: FromEnvironment | None = None
    api_version: Text | None = None
    aws_region_name: Text | None = None
    organization: Text | None = None
    project_id: Text | None = None
    vertex_location: Text | None = None
    vertex_project: Text | None = None
    weight: Count | None = None
    rpm: PositiveCount | None = None
    tpm: PositiveCount | None = None
    tags: list[Text] | None = None
    input_cost_per_token: Price | None = None
    output_cost_per_token: Price | None = None


class ProviderInfo(Part):
    """`model_info` of what providers.yml declares; prices of clouds may be LiteLLM's own."""

    id: Text
    mode: Literal["chat", "embedding"]
    max_input_tokens: PositiveCount | None = None
    max_output_tokens: PositiveCount | None = None
    input_cost_per_token: Price | None = None
    output_cost_per_token: Price | None = None
    cache_read_input_token_cost: Price | None = None
    cache_creation_input_token_cost: Price | None = None
    access_groups: list[Text] | None = None
    enable_tag_filtering: Literal[True] | None = None
    allowed_fails: Count | None = None
    cooldown_time: Count | None = None

    @property
    def window_tokens(self) -> tuple[int | None, int | None]:
        """What all deployments of one model must share."""
        return self.max_input_tokens, self.max_output_tokens


class Deployment(Part):
    """One engine behind a public model name."""

    model_name: Text
    litellm_params: DeploymentParameters
    model_info: ModelInfo


class ProviderDeployment(Part):
    """A declared model at one endpoint."""

    model_name: Text
    litellm_params: ProviderParameters
    model_info: ProviderInfo


def kind_of(entry: Any) -> str:
    """Which of the two an entry is meant to be: own engines are asked with the engines' key."""
    parameters = entry.get("litellm_params") if isinstance(entry, dict) else None
    own = isinstance(parameters, dict) and parameters.get("api_key") == "os.environ/VLLM_API_KEY"
    return "own" if own or not isinstance(parameters, dict) else "declared"


Entry = Annotated[
    Annotated[Deployment, Tag("own")] | Annotated[ProviderDeployment, Tag("declared")], Discriminator(kind_of)
]


class RetryPolicy(Part):
    """`model_group_retry_policy`; all zero for a model behind a relay: what the relay answers is final."""

    BadRequestErrorRetries: Literal[0]
    AuthenticationErrorRetries: Literal[0]
    TimeoutErrorRetries: Count
    RateLimitErrorRetries: Count
    ContentPolicyViolationErrorRetries: Literal[0]
    InternalServerErrorRetries: Count
    ServiceUnavailableErrorRetries: Count
    NotFoundErrorRetries: Literal[0]


class RoutingGroup(Part):
    """The strategy of one model. A group of another name could be called by clients, past the access of its models."""

    group_name: Text
    models: Annotated[list[Text], Field(min_length=1, max_length=1)]
    routing_strategy: Literal[
        "simple-shuffle",
        "least-busy",
        "latency-based-routing",
        "cost-based-routing",
        "usage-based-routing",
        "usage-based-routing-v2",
    ]


class RouterSettings(Part):
    """`router_settings`."""

    routing_strategy: Literal[
        "simple-shuffle",
        "least-busy",
        "latency-based-routing",
        "cost-based-routing",
        "usage-based-routing",
        "usage-based-routing-v2",
        "provider-budget-routing",
        "lar1",
    ]
    num_retries: Count
    retry_after: Count
    timeout: PositiveSeconds
    stream_timeout: PositiveSeconds
    allowed_fails: Count
    cooldown_time: Count
    enable_pre_call_checks: Literal[True]
    enable_mid_stream_fallback_continuation: Literal[False]
    fallback_on_unsupported_params: Literal[False]
    model_group_retry_policy: dict[Text, RetryPolicy]
    fallbacks: Chains
    default_fallbacks: list[Text] | None = None
    context_window_fallbacks: Chains | None = None
    content_policy_fallbacks: Chains | None = None
    routing_groups: list[RoutingGroup] | None = None
    model_group_alias: dict[Text, Text] | None = None
    tag_filtering_match_any: bool | None = None
    redis_host: Text
    redis_port: Annotated[int, Field(ge=1, le=65535)]
    redis_password: FromEnvironment


class CacheParams(Part):
    """`cache_params`: answers are kept for those who ask only, for a limited time, in Redis or in the worker."""

    type: Literal["redis", "local"]
    mode: Literal["default_off"]
    ttl: Annotated[int, Field(gt=0)]
    supported_call_types: list[Literal["acompletion", "atext_completion", "aembedding"]]
    host: Text | None = None
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    password: FromEnvironment | None = None


class LitellmSettings(Part):
    """`litellm_settings`."""

    callbacks: Annotated[list[Text], Field(min_length=1)]
    request_timeout: PositiveSeconds
    enable_redis_auth_cache: Literal[True]
    disable_hf_tokenizer_download: Literal[True]
    turn_off_message_logging: bool
    telemetry: Literal[False]
    max_budget: Annotated[float, Field(gt=0)] | None = None
    budget_duration: Annotated[str, Field(pattern=r"^[1-9][0-9]*(s|m|h|d|w|mo)$")] | None = None
    cache: Literal[True] | None = None
    cache_params: CacheParams | None = None

    @model_validator(mode="after")
    def _answers_stay_apart(self) -> Self:
        if self.cache and self.cache_params is None:
            raise ValueError("cache without cache_params would keep every answer; mode must be default_off")
        if self.cache and "response_cache.instance" not in self.callbacks:
            raise ValueError("cache without the callback response_cache.instance would show keys each other's answers")
        return self


class GeneralSettings(Part):
    """`general_settings`, without `allow_requests_on_db_unavailable`: that lets any key in while PostgreSQL is down."""

    master_key: FromEnvironment
    database_url: FromEnvironment
    database_connection_pool_limit: PositiveCount
    proxy_batch_write_at: PositiveSeconds
    user_api_key_cache_ttl: PositiveSeconds
    use_redis_transaction_buffer: Literal[True]
    maximum_spend_logs_retention_period: Annotated[str, Field(pattern=r"^[0-9]+[dhms]$")]
    store_model_in_db: Literal[False]
    trusted_proxy_ranges: list[Text]
    include_call_id_in_error_body: Literal[True]


class GatewayConfig(Part):
    """The whole file."""

    model_list: Annotated[list[Entry], Field(min_length=1)]
    router_settings: RouterSettings
    litellm_settings: LitellmSettings
    general_settings: GeneralSettings


def path_in_yaml(location: tuple[int | str, ...]) -> str:
    """('model_list', 1, 'own', 'model_info') -> model_list[1].model_info"""
    if location[:1] == ("model_list",) and location[2:3] in {("own",), ("declared",)}:
        location = location[:2] + location[3:]
    steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in location)
    return "".join(steps).removeprefix(".")


def shape_faults(error: ValidationError) -> Iterator[str]:
    """Unknown keys, missing keys, wrong types and values."""
    for fault in error.errors(include_url=False):
        path = path_in_yaml(fault["loc"])
        match fault["type"]:
            case "extra_forbidden":
                yield f"{path}: unknown key; LiteLLM would ignore it in silence"
            case "missing":
                yield f"{path}: missing"
            case "string_pattern_mismatch" if fault["ctx"]["pattern"] in {ENVIRONMENT_PATTERN, KEY_PATTERN}:
                yield f"{path}: must be os.environ/NAME; the value itself has no place in this file"
            case "value_error":
                yield f"{path}: {fault['ctx']['error']}"
            case _:
                yield f"{path}: {fault['msg']}; found {fault['input']!r}"


def meaning_faults(config: GatewayConfig) -> Iterator[str]:
    """What single fields cannot show: repeated ids, fallbacks to nowhere, windows that differ within one model."""
    times = Counter(deployment.model_info.id for deployment in config.model_list)
    first_of_model: dict[str, tuple[int, Deployment | ProviderDeployment]] = {}
    for index, deployment in enumerate(config.model_list):
        name, info = deployment.model_name, deployment.model_info
        if times[info.id] > 1:
            yield f"model_list[{index}].model_info.id: {info.id!r} stands {times[info.id]} times; ids must differ"
        first_index, first = first_of_model.setdefault(name, (index, deployment))
        if first.model_info.window_tokens != info.window_tokens:
            yield (
                f"model_list[{index}].model_info: {name} declares max_input_tokens + max_output_tokens = "
                f"{info.max_input_tokens} + {info.max_output_tokens} here and {first.model_info.max_input_tokens} + "
                f"{first.model_info.max_output_tokens} in model_list[{first_index}]; one model has one window"
            )
    yield from route_faults(config.router_settings, set(first_of_model))


def route_faults(router: RouterSettings, models: set[str]) -> Iterator[str]:
    """Names that lead nowhere."""
    aliases = router.model_group_alias or {}
    for kind in ("fallbacks", "context_window_fallbacks", "content_policy_fallbacks"):
        for index, chain in enumerate(getattr(router, kind) or []):
            for name, targets in chain.items():
                path = f"router_settings.{kind}[{index}].{name}"
                if name not in models and name not in aliases:
                    yield f"{path}: no model of that name in model_list"
                yield from target_faults(path, name, targets, models)
    yield from target_faults("router_settings.default_fallbacks", None, router.default_fallbacks or [], models)
    for index, group in enumerate(router.routing_groups or []):
        if group.models != [group.group_name] or group.group_name not in models:
            yield f"router_settings.routing_groups[{index}]: must be named as its one model, and that be in model_list"
    for alias, target in aliases.items():
        if alias in models or target not in models:
            yield f"router_settings.model_group_alias.{alias}: must be a new name for a model in model_list"


def target_faults(path: str, name: str | None, targets: list[str], models: set[str]) -> Iterator[str]:
    """Fallbacks that are no other model."""
    for target in targets:
        if target == name:
            yield f"{path}: falls back to itself"
        elif target not in models:
            yield f"{path}: falls back to {target!r}, which is not in model_list"


def faults(content: Any) -> list[str]:
    """Everything wrong with a parsed configuration."""
    try:
        config = GatewayConfig.model_validate(content)
    except ValidationError as error:
        return list(shape_faults(error))
    return list(meaning_faults(config))


def main() -> int:
    """Command line."""
    path = Path(sys.argv[1])
    try:
        found = faults(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, yaml.YAMLError) as error:
        found = [" ".join(str(error).split())]
    for fault in found:
        print(f"gateway configuration: {fault}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

"""What the gateway's configuration looks like: exactly the keys that the template writes, and what may stand there.

LiteLLM ignores keys that it does not know, so these models refuse them. What single fields cannot show, and how a fault
is told, stands in validate_config.py.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

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


Strategy = Literal[
    "simple-shuffle",
    "least-busy",
    "latency-based-routing",
    "cost-based-routing",
    "usage-based-routing",
    "usage-based-routing-v2",
]


class RoutingGroup(Part):
    """The strategy of one model. A group of another name could be called by clients, past the access of its models."""

    group_name: Text
    models: Annotated[list[Text], Field(min_length=1, max_length=1)]
    routing_strategy: Strategy


class RouterSettings(Part):
    """`router_settings`."""

    routing_strategy: Literal[Strategy, "provider-budget-routing", "lar1"]
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

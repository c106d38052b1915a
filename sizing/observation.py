"""Observation: what `playbooks/observe.yml` saw on the living site, before anybody judged it.

Ansible writes it, `sizing.judge` reads it. It holds answers (status codes, figures, texts), never opinions; a thing
that gave no answer is `None` beside an `error`, and a host that did not answer at all stands in `unanswered`.
"""

from typing import Literal

from pydantic import Field

from sizing.documents import Document, Part

CallKind = Literal["chat", "stream", "over-long", "over-window", "embedding"]

ACCEPTED_KINDS: tuple[CallKind, ...] = ("chat", "stream", "embedding")
"""The calls that the gateway has to answer; it has to refuse the others."""


class CallObservation(Part):
    """One chat through the gateway. `request_id` is ours: it goes out as X-Request-Id and as LiteLLM's call id."""

    model: str
    kind: CallKind
    request_id: str
    asked_output_tokens: int
    status: int | None = None
    error: str = Field(default="", description="why there was no answer, or what an error event in the stream said")
    message: str = Field(default="", description="the gateway's words when it refused")
    response_id: str | None = None
    deployment_id: str | None = None
    attempted_fallbacks_count: int = 0
    text_characters: int = 0
    vector_numbers_count: int = Field(default=0, description="embeddings: the length of the vector")
    finish_reason: str | None = None
    done_after_finish: bool = Field(default=False, description="streams: [DONE] came, and after a finish reason")
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    first_token_seconds: float | None = None
    seconds: float = 0.0


class DeclaredDeployment(Part):
    """One row of the gateway's /model/info."""

    model: str
    deployment_id: str
    api_base: str
    max_input_tokens: int | None = None
    max_output_tokens: int | None = None


class GatewayObservation(Part):
    """What one gateway host said."""

    url: str
    error: str = Field(default="", description="why /model/info or the key of the calls was not to be had")
    version: str | None = None
    keyless_status: int | None = None
    declared: tuple[DeclaredDeployment, ...] = ()
    key_alias: str = ""
    key_hash: str = ""
    calls: tuple[CallObservation, ...] = ()


class EngineCounters(Part):
    """An engine before the calls: where its journal stood, and how often it had answered a chat with 4xx."""

    name: str
    refused_chat_count: int | None = None


class EngineObservation(Part):
    """What one engine, its unit and its journal said after the calls."""

    name: str
    error: str = Field(default="", description="the first thing that went wrong, in the words of the system")
    health_status: int | None = None
    version: str | None = None
    served_model_name: str | None = None
    max_model_len: int | None = None
    keyless_models_status: int | None = None
    keyless_chat_status: int | None = None
    kv_cache_tokens: int | None = None
    block_count: int | None = None
    block_size_tokens: int | None = None
    first_token_status: int | None = None
    first_token_count: int | None = None
    first_token_seconds: float | None = None
    vector_numbers_count: int | None = Field(default=None, description="pooling engines make a vector, no token")
    refused_chat_count: int | None = Field(default=None, description="4xx to /v1/chat/completions, before our own")
    active_state: str | None = None
    restart_count: int | None = None
    memory_current_bytes: int | None = None
    start_up_lines: tuple[str, ...] = Field(default=(), description="what it said about memory when it last started")
    journal_read: bool = False
    journal_request_ids: tuple[str, ...] = Field(default=(), description="our ids that its journal holds")


class ReplicaState(Part):
    """One engine in the words of a relay."""

    id: str
    state: str


class RelayObservation(Part):
    """What one relay and its unit said after the calls."""

    group: str
    error: str = ""
    active_state: str | None = None
    status: int | None = Field(default=None, description="of /relay/status")
    keyless_status: int | None = None
    replicas: tuple[ReplicaState, ...] = ()


class SpendRow(Part):
    """One row of LiteLLM's spend log."""

    request_id: str
    call_id: str | None = None
    model: str
    key_hash: str | None = Field(default=None, description="SHA-256 of the key that the call is booked under")
    deployment_id: str | None = Field(default=None, description="what the gateway chose; none for a refused call")
    status: str | None = None
    prompt_tokens: int
    completion_tokens: int
    spend: float


class AuditRow(Part):
    """One row of the audit: a request, answered or refused, under the key that sent it."""

    call_id: str | None = None
    key_hash: str | None = None
    model: str | None = None
    result: str
    status: int | None = None


class SpendObservation(Part):
    """What PostgreSQL holds about the calls."""

    error: str = ""
    waited_seconds: float = 0.0
    rows: tuple[SpendRow, ...] = ()
    key_spend: dict[str, float] = Field(default_factory=dict, description="spend of each key, by its hash")
    audit: tuple[AuditRow, ...] | None = Field(default=None, description="None where the site has no audit")
    unwatched: tuple[str, ...] = Field(default=(), description="LiteLLM's tables whose changes no trigger records")


class EdgeObservation(Part):
    """What one edge lets through and what it stops."""

    address: str
    error: str = ""
    certificate_days_left: float | None = None
    models_status: int | None = None
    keyless_status: int | None = None
    disguised_path_status: int | None = None
    foreign_host_status: int | None = None
    holds_virtual_address: bool | None = Field(default=None, description="None where no address is shared")


class Observation(Document):
    """One run of `playbooks/observe.yml`."""

    schema_version: Literal[1] = 1
    site: str
    run_id: str
    started_at: str
    seconds: float
    unanswered: dict[str, str] = Field(default_factory=dict, description="hosts that could not be reached, and why")
    counters: dict[str, tuple[EngineCounters, ...]] = Field(default_factory=dict)
    engines: dict[str, tuple[EngineObservation, ...]] = Field(default_factory=dict)
    gateways: dict[str, GatewayObservation] = Field(default_factory=dict)
    edges: dict[str, EdgeObservation] = Field(default_factory=dict)
    strangers: dict[str, tuple[str, ...]] = Field(
        default_factory=dict,
        description="hosts that may not connect to gateways past the edges -> the gateways that let them",
    )
    relays: dict[str, tuple[RelayObservation, ...]] = Field(default_factory=dict)
    spend: SpendObservation | None = None

    def engine(self, host: str, name: str) -> EngineObservation | None:
        """What was seen of one engine, or None."""
        return next((engine for engine in self.engines.get(host, ()) if engine.name == name), None)

    def relay(self, host: str, group: str) -> RelayObservation | None:
        """What was seen of one relay, or None."""
        return next((relay for relay in self.relays.get(host, ()) if relay.group == group), None)

    def engines_named_by(self, request_id: str) -> tuple[str, ...]:
        """The engines whose journals hold the request id, as host/engine."""
        return tuple(
            f"{host}/{seen.name}"
            for host, engines in self.engines.items()
            for seen in engines
            if request_id in seen.journal_request_ids
        )

    def refused_before(self, host: str, name: str) -> int | None:
        """How often an engine had refused a chat before our calls, or None."""
        counters = next((one for one in self.counters.get(host, ()) if one.name == name), None)
        return counters.refused_chat_count if counters else None

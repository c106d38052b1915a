"""Request: what the operator wishes for one site (`inventories/<site>/request.yml`). It holds wishes, not decisions."""

from typing import Literal, Self

from pydantic import Field, model_validator

from sizing.acceptance_criteria import AcceptanceCriteria
from sizing.costs import Costs
from sizing.documents import Document, Part, digest_of

Objective = Literal["throughput", "latency", "context"]
Quality = Literal["strict", "balanced"]
Task = Literal["chat", "embedding"]


class LoadRequest(Part):
    """What people will ask of a model and how fast they want it; one of `users`, `people`, `rate`."""

    users: int | None = Field(default=None, gt=0, description="requests in flight, always")
    people: int | None = Field(default=None, gt=0, description="people who ask, read, think and ask again")
    think_seconds: float | None = Field(default=None, ge=0, description="between an answer and the next question")
    rate: float | None = Field(default=None, gt=0, description="requests per second")
    prompt_tokens: int = Field(gt=0, description="mean")
    output_tokens: int = Field(gt=0, description="mean")
    spread_ratio: float = Field(default=0.3, ge=0, description="standard deviation as a share of the means")
    prefix_hit_ratio: float = Field(default=0.0, ge=0, lt=1, description="share of prompts that the prefix cache has")
    ttft_ms: float | None = Field(default=None, gt=0, description="slowest tolerable first token")
    tpot_ms: float | None = Field(default=None, gt=0, description="slowest tolerable further token")
    percentile: Literal[50, 90, 95, 99] = Field(default=95, description="of the requests that must meet the times")
    certainty: Literal["safe", "likely"] = Field(default="safe", description="safe: at the slow end of the interval")


class ModelRequest(Part):
    """One model that clients will call by `name`."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]*$", description="public name that clients send")
    source: str = Field(description="catalogue id (Qwen/Qwen3-32B) or a directory of the site's model store")
    context_tokens: int = Field(gt=0, description="window: prompt and answer together")
    task: Task = Field(default="chat", description="embedding: a decoder that a vLLM pooling engine makes vectors with")
    output_tokens: int = Field(
        default=0, ge=0, description="share of the window that is kept for the answer; embedding: none"
    )
    users: int = Field(default=8, gt=0, description="requests in flight, over all replicas")
    replicas: int = Field(default=1, gt=0, description="derived where `load` is given and this is not")
    load: LoadRequest | None = None
    hosts: tuple[str, ...] | None = Field(
        default=None, description="hosts that may carry it; default: every engine host"
    )
    input_cost_per_token: float = Field(default=0.0, ge=0)
    output_cost_per_token: float = Field(default=0.0, ge=0)
    fallbacks: tuple[str, ...] = ()
    fallbacks_may_be_smaller: bool = Field(
        default=False, description="fallbacks may have smaller windows: longer prompts then fail there"
    )
    data: Literal["internal", "any"] = Field(
        default="any", description="internal: no byte of its requests leaves the premises, whatever falls back"
    )
    vllm_options: dict[str, str | int | float | bool] = Field(
        default_factory=dict,
        description="further `vllm serve` options, by vLLM's own names; sizing options are refused",
    )

    @model_validator(mode="after")
    def _answer_leaves_room_for_a_prompt(self) -> Self:
        if self.task == "embedding":
            self._refuse_what_is_for_answers()
        elif not self.output_tokens:
            raise ValueError(f"{self.name}: output_tokens is missing; say how much of the window an answer may take")
        if self.output_tokens >= self.context_tokens:
            raise ValueError(
                f"{self.name}: output_tokens {self.output_tokens} leaves no room for a prompt in "
                f"context_tokens {self.context_tokens}; lower it"
            )
        return self

    def _refuse_what_is_for_answers(self) -> None:
        """An embedding model answers with a vector: no token is generated, and no other model's vector may stand in."""
        for name, why in (
            ("output_tokens", "its whole window is for what is embedded"),
            ("output_cost_per_token", "it generates no tokens; say what prompt tokens cost"),
            ("fallbacks", "vectors of different models cannot be compared"),
            ("load", "speeds are predicted for generated tokens only; say users and replicas"),
        ):
            if getattr(self, name):
                raise ValueError(f"{self.name} (task: embedding) states {name}: {why}; take it out")


class Routing(Part):
    """How the gateway treats a failing deployment (LiteLLM router_settings)."""

    strategy: Literal[
        "simple-shuffle",
        "least-busy",
        "latency-based-routing",
        "cost-based-routing",
        "usage-based-routing",
        "usage-based-routing-v2",
        "provider-budget-routing",
        "lar1",
    ] = "simple-shuffle"
    num_retries: int = Field(default=2, ge=0)
    retry_after_seconds: int = Field(default=0, ge=0)
    timeout_seconds: int = Field(default=600, gt=0)
    stream_timeout_seconds: int = Field(default=60, gt=0)
    allowed_fails: int = Field(default=1, ge=0)
    cooldown_seconds: int = Field(default=10, ge=0)


class Relaying(Part):
    """How a relay treats the engines of its model; the same for every model."""

    stall_seconds: float = Field(
        default=5.0, gt=0, description="a running answer without a further token for so long goes on elsewhere"
    )
    first_byte_seconds: float = Field(
        default=20.0, gt=0, description="the same before the first token, for a short prompt; long ones get more"
    )
    connect_seconds: float = Field(default=1.0, gt=0, description="an engine that accepts no connection for so long")
    probe_seconds: float = Field(default=2.0, gt=0, description="pause between two probes of an engine")
    queue_max_requests: int = Field(default=1024, ge=0, description="requests that wait; one more is answered 503")
    max_legs: int = Field(default=4, ge=1, description="engines that may be tried for one request")
    request_seconds_max: float = Field(default=3600.0, gt=0, description="limit for one request with all its legs")
    drain_seconds: float = Field(default=120.0, gt=0, description="what a relay that stops gives to running answers")
    coalesce_seconds: float = Field(
        default=0.05, ge=0, le=1, description="text waits at most so long to leave as one chunk; 0: every piece alone"
    )
    coalesce_chunks_per_second: float = Field(
        default=500.0,
        ge=0,
        description="text is joined only above so many chunks a second for each worker of the gateway; 0: always",
    )


class Request(Document):
    """The wish for one site."""

    site: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")
    models: tuple[ModelRequest, ...] = Field(min_length=1)
    objective: Objective = "throughput"
    quality: Quality = "strict"
    gateway_port: int = Field(default=4000, ge=1024, le=65535)
    gateway_workers: int = Field(default=1, ge=1)
    first_engine_port: int = Field(default=8001, ge=1024, le=65000)
    first_relay_port: int = Field(
        default=4101, ge=1024, le=65000, description="relays listen on loopback of the gateway hosts, counted up"
    )
    routing: Routing = Routing()
    acceptance: AcceptanceCriteria | None = Field(
        default=None, description="what `llm-size accept` is to judge by; agreed here before the run"
    )
    relay: Relaying = Relaying()
    costs: Costs | None = Field(default=None, description="what the hardware costs; models without a price get theirs")

    @model_validator(mode="after")
    def _names_agree(self) -> Self:
        names = [model.name for model in self.models]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"model {name} is requested twice; give every model its own name")
        for model in self.models:
            for fallback in model.fallbacks:
                if fallback not in names or fallback == model.name:
                    raise ValueError(f"{model.name} falls back to {fallback}, which is not another requested model")
                if self.models[names.index(fallback)].task != model.task:
                    raise ValueError(f"{model.name} falls back to {fallback}, which answers with vectors; take it out")
        self._refuse_circles()
        if self.acceptance is not None:
            chats = [model for model in self.models if model.task == "chat"]
            self.acceptance.check_models({model.name: model.context_tokens for model in chats})
        return self

    def _refuse_circles(self) -> None:
        by_name = {model.name: model for model in self.models}
        for model in self.models:
            for name in model.fallbacks:
                smaller = by_name[name].context_tokens < model.context_tokens
                if smaller and not model.fallbacks_may_be_smaller:
                    raise ValueError(
                        f"{model.name} (window {model.context_tokens}) falls back to {name}, whose window "
                        f"{by_name[name].context_tokens} is smaller: prompts that fit here would fail there; choose "
                        "another, or say fallbacks_may_be_smaller: true"
                    )
            way, seen = [model.name], {model.name}
            waiting = [(name, way) for name in model.fallbacks]
            while waiting:
                name, way = waiting.pop()
                if name == model.name:
                    raise ValueError(f"fallbacks go in a circle: {' -> '.join([*way, name])}; take one of them away")
                if name not in seen:
                    seen.add(name)
                    waiting += [(further, [*way, name]) for further in by_name[name].fallbacks]

    def digest(self) -> str:
        """Of the wish and the criteria; one without criteria, costs and loads keeps the digest that it always had."""
        content = self.model_dump(mode="json")
        for block in ("acceptance", "costs"):
            if content[block] is None:
                del content[block]
        for model in content["models"]:
            if model["load"] is None:
                del model["load"]
            for name, usual in (("data", "any"), ("fallbacks_may_be_smaller", False), ("task", "chat")):
                if model[name] == usual:
                    del model[name]
        return digest_of(content)

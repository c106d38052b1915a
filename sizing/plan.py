"""Plan: what we will do, the contract between Python (which decides) and Ansible (which places).

Invariants live here, so that a plan edited by hand is refused before anything is placed:
a model's `max_input_tokens + max_output_tokens` equals the smallest `max-model-len` of its engines; the parts of an
engine's memory add up to what it requests; no two engines share a GPU, a core or a port of their host; every engine
of a model is a replica of the model's relay, and the gateway sees the relays alone; no string holds `{{`, which
Ansible would expand.
"""

import json
from collections.abc import Iterator
from typing import Literal, Self

from pydantic import ConfigDict, Field, model_validator

from sizing.documents import Document, Part, digest_of, strings_of
from sizing.hardware import Accelerator, Gpu
from sizing.relays import Relay, RelayedDeployment, Replica, deployment_of, refuse_clashes
from sizing.request import Routing, Task

PLAN_KEY = "appliance_plan"
"""The single top-level key of the file that Ansible loads as a group variable."""


class VllmOptions(Part):
    """Options of `vllm serve`, by vLLM's own names; the role writes them to the engine's `--config` file.

    `model` is absent: the role knows where the host keeps models. Further options of the request pass through.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="allow",
        populate_by_name=True,
        alias_generator=lambda name: name.replace("_", "-"),
    )

    host: str
    port: int = Field(ge=1, le=65535)
    served_model_name: str
    tensor_parallel_size: int = Field(ge=1)
    pipeline_parallel_size: int | None = Field(default=None, ge=1)
    runner: Literal["pooling"] | None = Field(default=None, description="pooling: vectors instead of tokens")
    max_model_len: int = Field(ge=1)
    max_num_seqs: int = Field(ge=1)
    max_num_batched_tokens: int = Field(ge=1)
    dtype: str = "auto"
    quantization: str | None = None
    kv_cache_dtype: str = "auto"
    gpu_memory_utilization: float | None = Field(default=None, gt=0, le=1)
    kv_cache_memory_bytes: int | None = Field(default=None, gt=0)
    enforce_eager: bool = False
    shutdown_timeout: int = Field(default=20, ge=0)
    enable_request_id_headers: bool = True
    enable_log_requests: bool = True


class EngineMemory(Part):
    """Where the memory of one rank goes (vLLM 0.32.0, v1/worker/gpu_worker.py: determine_available_memory)."""

    usable_bytes: int = Field(gt=0)
    requested_bytes: int = Field(gt=0)
    weights_bytes: int = Field(ge=0)
    activation_bytes: int = Field(ge=0)
    non_torch_bytes: int = Field(ge=0)
    cuda_graph_bytes: int = Field(ge=0)
    kv_cache_bytes: int = Field(gt=0)

    @model_validator(mode="after")
    def _parts_add_up(self) -> Self:
        parts_bytes = (
            self.weights_bytes
            + self.activation_bytes
            + self.non_torch_bytes
            + self.cuda_graph_bytes
            + self.kv_cache_bytes
        )
        if parts_bytes != self.requested_bytes:
            raise ValueError(
                f"the parts add up to {parts_bytes} bytes but requested_bytes is {self.requested_bytes}; "
                "make the plan again with `llm-size recommend --site ... --write` instead of editing it"
            )
        if self.requested_bytes > self.usable_bytes:
            raise ValueError(f"requests {self.requested_bytes} of {self.usable_bytes} usable bytes")
        return self


class KvCache(Part):
    """The KV cache as vLLM will report it: `kv_cache_size_tokens`, `num_gpu_blocks` and `block_size` in /metrics."""

    tokens: int = Field(gt=0)
    block_count: int = Field(gt=0)
    block_size_tokens: int = Field(gt=0)
    max_concurrency_ratio: float = Field(gt=0)


class Engine(Part):
    """One vLLM process."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$", description="instance name of the systemd unit vllm@<name>")
    model: str
    model_directory: str
    gpu_uuids: tuple[str, ...] = ()
    cpu_cores: tuple[int, ...] = ()
    memory: EngineMemory
    memory_max_bytes: int | None = None
    kv_cache: KvCache
    vllm_options: VllmOptions

    @model_validator(mode="after")
    def _devices_match_shards(self) -> Self:
        shards, stages = self.vllm_options.tensor_parallel_size, self.vllm_options.pipeline_parallel_size or 1
        if self.gpu_uuids and len(self.gpu_uuids) != shards * stages:
            in_stages = f" and pipeline-parallel-size {stages}" if stages > 1 else ""
            raise ValueError(
                f"engine {self.name} has {len(self.gpu_uuids)} GPUs but tensor-parallel-size {shards}{in_stages}"
            )
        if bool(self.gpu_uuids) == bool(self.cpu_cores):
            raise ValueError(f"engine {self.name} needs either GPUs or CPU cores, and only one of the two")
        return self


class Host(Part):
    """What one host will run, and the hardware that this was decided for."""

    accelerator: Accelerator
    hardware_digest: str
    gpus: tuple[Gpu, ...] = ()
    engines: tuple[Engine, ...] = ()

    @model_validator(mode="after")
    def _nothing_is_handed_out_twice(self) -> Self:
        handed_out: dict[str, list[str]] = {"port": [], "engine name": [], "GPU": [], "CPU core": []}
        for engine in self.engines:
            handed_out["port"].append(str(engine.vllm_options.port))
            handed_out["engine name"].append(engine.name)
            handed_out["GPU"].extend(engine.gpu_uuids)
            handed_out["CPU core"].extend(str(core) for core in engine.cpu_cores)
        for what, used in handed_out.items():
            for one in sorted(set(used)):
                if used.count(one) > 1:
                    raise ValueError(f"{what} {one} is handed to {used.count(one)} engines")
        known = {gpu.uuid for gpu in self.gpus}
        for uuid in handed_out["GPU"]:
            if uuid not in known:
                raise ValueError(f"an engine is placed on GPU {uuid}, which the host does not have")
        return self


class Deployment(Part):
    """One engine as the gateway sees it."""

    id: str
    host: str
    engine: str
    api_base: str
    served_model_name: str


class PlannedModel(Part):
    """A public model: what the gateway declares about it, and the engines behind it."""

    name: str
    model_directory: str
    max_input_tokens: int = Field(gt=0)
    max_output_tokens: int = Field(ge=0, description="0: an embedding model, which generates no token")
    task: Task = "chat"
    input_cost_per_token: float = Field(ge=0)
    output_cost_per_token: float = Field(ge=0)
    fallbacks: tuple[str, ...] = ()
    deployments: tuple[Deployment, ...] = Field(min_length=1)

    @property
    def window_tokens(self) -> int:
        """Prompt and answer together."""
        return self.max_input_tokens + self.max_output_tokens


class Gateway(Part):
    """The gateway: where it runs and how it routes."""

    hosts: tuple[str, ...] = Field(min_length=1)
    address: str
    port: int = Field(ge=1, le=65535)
    workers: int = Field(ge=1)
    routing: Routing
    relays: tuple[Relay, ...] = Field(default=(), description="one for each model, the same on every gateway host")
    deployments: tuple[RelayedDeployment, ...] = Field(default=(), description="what the gateway's router sees")


class Choice(Part):
    """One option that was decided, and why."""

    option: str
    value: str
    because: str


class Rejected(Part):
    """One alternative that was weighed, and why it was not taken."""

    alternative: str
    because: str


class Decision(Part):
    """How the engines of one model came about; no role reads this, people do (`llm-size explain`)."""

    model: str
    choices: tuple[Choice, ...]
    rejected: tuple[Rejected, ...] = ()


class Plan(Document):
    """The whole site."""

    schema_version: Literal[1] = 1
    site: str
    vllm_version: str
    litellm_version: str
    request_digest: str
    hosts: dict[str, Host]
    gateway: Gateway
    models: tuple[PlannedModel, ...] = Field(min_length=1)
    decisions: tuple[Decision, ...] = ()
    currency: str | None = Field(default=None, description="of prices and budgets, where costs are declared")

    def engines(self) -> Iterator[tuple[str, Engine]]:
        """Every engine with the name of its host."""
        for host_name, host in self.hosts.items():
            for engine in host.engines:
                yield host_name, engine

    @model_validator(mode="after")
    def _gateway_and_engines_agree(self) -> Self:
        engines = {(host_name, engine.name): engine for host_name, engine in self.engines()}
        behind_a_model: set[tuple[str, str]] = set()
        for model in self.models:
            windows: list[int] = []
            for deployment in model.deployments:
                engine = engines.get((deployment.host, deployment.engine))
                if engine is None:
                    raise ValueError(
                        f"{model.name} points at engine {deployment.engine} on {deployment.host}: no such engine"
                    )
                if engine.model != model.name:
                    raise ValueError(f"{model.name} points at engine {engine.name}, which serves {engine.model}")
                options = engine.vllm_options
                if deployment.api_base != f"http://{options.host}:{options.port}/v1":
                    raise ValueError(f"{model.name}: api_base {deployment.api_base} is not where {engine.name} listens")
                if deployment.served_model_name != options.served_model_name:
                    raise ValueError(f"{model.name}: {engine.name} serves {options.served_model_name}")
                if (options.runner == "pooling") != (model.task == "embedding"):
                    raise ValueError(f"{model.name} is for {model.task}, but {engine.name} has runner {options.runner}")
                windows.append(options.max_model_len)
                behind_a_model.add((deployment.host, deployment.engine))
            if model.window_tokens != min(windows):
                raise ValueError(
                    f"{model.name}: max_input_tokens {model.max_input_tokens} + max_output_tokens "
                    f"{model.max_output_tokens} = {model.window_tokens}, but its engines' smallest max-model-len is "
                    f"{min(windows)}; make the plan again with `llm-size recommend --site ... --write`"
                )
        for host_name, engine_name in engines.keys() - behind_a_model:
            raise ValueError(f"engine {engine_name} on {host_name} serves no model of the gateway")
        return self

    @model_validator(mode="after")
    def _relays_stand_between(self) -> Self:
        gateway = self.gateway
        engine_ports = [
            (engine.vllm_options.port, f"engine {engine.name}")
            for host_name, engine in self.engines()
            if host_name in gateway.hosts
        ]
        refuse_clashes(gateway.relays, taken_ports=[(gateway.port, "the gateway"), *engine_ports])
        relays = {relay.model: relay for relay in gateway.relays}
        for model in self.models:
            if model.name not in relays:
                raise ValueError(
                    f"{model.name} has no relay; make the plan again with `llm-size recommend --site ... --write`"
                )
            engines = [Replica(id=one.id, api_base=one.api_base) for one in model.deployments]
            relays[model.name].refuse_other_engines(engines, window_tokens=model.window_tokens)
        for stranger in relays.keys() - {model.name for model in self.models}:
            raise ValueError(f"relay {relays[stranger].group} serves {stranger}, which is no model of the plan")
        if gateway.deployments != tuple(deployment_of(relay) for relay in gateway.relays):
            raise ValueError("gateway.deployments are not the relays, one each and in their order")
        return self

    @model_validator(mode="after")
    def _no_string_is_a_template(self) -> Self:
        for text in strings_of(self.model_dump(mode="json", by_alias=True)):
            if "{{" in text or "{%" in text:
                raise ValueError(f"{text!r} would be expanded by Ansible; templates have no place in a plan")
        return self

    def to_group_vars(self) -> str:
        """The file that Ansible loads: one top-level key."""
        content = {PLAN_KEY: self.model_dump(mode="json", by_alias=True, exclude_none=True)}
        return json.dumps(content, indent=2, ensure_ascii=False) + "\n"

    def digest(self) -> str:
        """A plan without a currency keeps the digest that it always had."""
        content = self.model_dump(mode="json", by_alias=True)
        if self.currency is None:
            del content["currency"]
        return digest_of(content)

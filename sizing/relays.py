"""Relays: the plan's part about the service between the gateway and the engines of one model.

Every gateway host runs one relay per model; the gateway sees the relay as the model's only deployment, the relay sees
the engines as its replicas. Apart from `sizing.plan`, because its invariants are about the relays alone.
"""

from collections import Counter
from collections.abc import Collection, Iterable
from typing import Literal, Self

from pydantic import Field, model_validator

from sizing.documents import Part
from sizing.request import Relaying, Task


class Replica(Part):
    """One engine as a relay sees it; the id is that of the model's deployment."""

    id: str
    api_base: str


class Relay(Relaying):
    """One relay process, the same on every gateway host: its configuration file, less what the role knows."""

    group: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$", description="instance name of the systemd unit relay@<group>")
    model: str
    served_model_name: str
    task: Task = "chat"
    host: Literal["127.0.0.1"] = Field(
        default="127.0.0.1", description="gateway and relay share a host; nobody else may speak to a relay"
    )
    port: int = Field(ge=1024, le=65535)
    max_model_len: int = Field(gt=0)
    concurrent_requests_per_replica: int = Field(gt=0)
    replicas: tuple[Replica, ...] = Field(min_length=1)

    @property
    def api_base(self) -> str:
        """Where the gateway finds it."""
        return f"http://{self.host}:{self.port}/v1"

    @model_validator(mode="after")
    def _replicas_differ(self) -> Self:
        for what, used in (
            ("id", [replica.id for replica in self.replicas]),
            ("api_base", [replica.api_base for replica in self.replicas]),
        ):
            for one, count in Counter(used).items():
                if count > 1:
                    raise ValueError(f"relay {self.group} has {count} replicas with {what} {one}")
        return self

    def refuse_other_engines(self, engines: Collection[Replica], *, window_tokens: int) -> None:
        """Raises ValueError unless the replicas are exactly the engines of the model, with the model's window."""
        for missing in [engine.id for engine in engines if engine not in self.replicas]:
            raise ValueError(f"engine {missing} is no replica of relay {self.group}")
        for stranger in [replica.id for replica in self.replicas if replica not in engines]:
            raise ValueError(f"relay {self.group} has replica {stranger}, which is no engine of {self.model}")
        if self.max_model_len != window_tokens:
            raise ValueError(
                f"relay {self.group} has max_model_len {self.max_model_len}, but {self.model} has a window of "
                f"{window_tokens} tokens"
            )


class RelayedDeployment(Part):
    """A model as the gateway's router sees it: one deployment, which is the model's relay."""

    model: str
    id: str
    api_base: str
    served_model_name: str


def deployment_of(relay: Relay) -> RelayedDeployment:
    """What the gateway is told about a relay."""
    return RelayedDeployment(
        model=relay.model,
        id=f"{relay.model}-relay",
        api_base=relay.api_base,
        served_model_name=relay.served_model_name,
    )


def refuse_clashes(relays: Collection[Relay], *, taken_ports: Iterable[tuple[int, str]]) -> None:
    """Raises ValueError when two relays share a name, a model or a port, or one takes a port of somebody else."""
    for what, used in (
        ("group", [relay.group for relay in relays]),
        ("model", [relay.model for relay in relays]),
        ("port", [str(relay.port) for relay in relays]),
    ):
        for one, count in Counter(used).items():
            if count > 1:
                raise ValueError(f"{what} {one} is handed to {count} relays")
    by_port = {relay.port: relay for relay in relays}
    for port, owner in taken_ports:
        if port in by_port:
            raise ValueError(
                f"relay {by_port[port].group} has port {port}, which {owner} has on a gateway host; "
                "choose another first_relay_port in the request"
            )

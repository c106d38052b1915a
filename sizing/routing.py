"""Routing: how the gateway chooses among deployments and models, as the operator declares it.

It lies in `group_vars/all/routing.yml` under the one key `routing`. What the models are stands elsewhere (request.yml:
our own, providers.yml: others); what holds between them is judged in `sizing.fallbacks`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from sizing.documents import Document, Part, read_structured_file, strings_of
from sizing.errors import DocumentError

ROUTING_KEY = "routing"

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,199}$")]
Chains = dict[Name, tuple[Name, ...]]
Strategy = Literal[
    "simple-shuffle",
    "least-busy",
    "latency-based-routing",
    "usage-based-routing",
    "usage-based-routing-v2",
    "cost-based-routing",
]


class ModelRouting(Part):
    """How the deployments of one declared model share its requests; what is absent is as in request.yml."""

    strategy: Strategy | None = None
    retries: int | None = Field(default=None, ge=0, le=10, description="further attempts before any fallback")
    allowed_fails: int | None = Field(default=None, ge=0, description="faults a minute, then it is left alone")
    cooldown_seconds: int | None = Field(default=None, ge=0, description="how long it is left alone")


class Routing(Document):
    """The routing of one site."""

    models: dict[Name, ModelRouting] = Field(default_factory=dict)
    tags: Literal["any", "all"] = Field(default="any", description="of a request that a deployment must have")
    fallbacks: Chains = Field(default_factory=dict, description="when no deployment of a model answers; [] for none")
    default_fallbacks: tuple[Name, ...] = Field(default=(), description="for models without fallbacks of their own")
    context_window_fallbacks: Chains = Field(default_factory=dict, description="when a prompt is too long")
    content_policy_fallbacks: Chains = Field(default_factory=dict, description="when a provider refuses the content")
    fallbacks_may_be_smaller: bool = Field(
        default=False, description="fallbacks and default_fallbacks may lead to smaller windows"
    )
    access_groups: dict[Name, tuple[Name, ...]] = Field(
        default_factory=dict, description="models under a name that keys and teams may have"
    )
    aliases: dict[Name, Name] = Field(default_factory=dict, description="further names of models")

    @model_validator(mode="after")
    def _stands_as_it_is(self) -> Self:
        for text in strings_of(self.model_dump(mode="json")):
            if "{{" in text or "{%" in text:
                raise ValueError(f"{text!r} is a template; routing is read as it stands, also without Ansible")
        for group, models in self.access_groups.items():
            if not models:
                raise ValueError(f"access group {group} has no models; name some or drop it")
        return self


def routing_path(directory: Path) -> Path:
    """Where Ansible finds the routing of a site."""
    return directory / "group_vars" / "all" / "routing.yml"


def load_routing(directory: Path) -> Routing:
    """What a site declares; the defaults where there is no such file."""
    path = routing_path(directory)
    if not path.exists():
        return Routing()
    content = read_structured_file(path)
    if not isinstance(content, Mapping) or set(content) != {ROUTING_KEY}:
        raise DocumentError(f"{path}: expected the single top-level key {ROUTING_KEY}")
    return Routing.parse(content[ROUTING_KEY], origin=str(path))

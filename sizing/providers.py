"""Providers: what a gateway serves besides the site's own engines - other servers of ours, and clouds.

It lies in `group_vars/all/providers.yml` under the one key `providers`. An endpoint is where to ask, a model is what
clients call; a model may have several deployments. Endpoints are off until somebody switches them on, outside until
somebody says that they stand inside, and their keys are named here and lie in the vault (`vault_provider_keys`).
"""

import difflib
import ipaddress
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from sizing.catalogue import catalogue_document
from sizing.documents import Document, Part, read_structured_file, strings_of
from sizing.errors import DocumentError

PROVIDERS_KEY = "providers"
KEYS_VARIABLE = "vault_provider_keys"

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
ModelName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,199}$")]
KeyName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_]{0,62}$", description="its name in the vault")]
Price = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Setting = str | int | bool
DataClass = Literal["internal", "any"]


class Needs(Part):
    """What a provider asks for beyond a model's name."""

    secrets: tuple[str, ...] = ("api_key",)
    settings: tuple[str, ...] = ()
    api_base: bool = False


class Catalogue(Part):
    """The providers that LiteLLM knows and this appliance lets through."""

    self_hosted: dict[str, str]
    cloud: str
    needs: dict[str, Needs]
    settings: frozenset[str]
    secrets: frozenset[str]

    @property
    def kinds(self) -> tuple[str, ...]:
        """Every kind by name."""
        return (*self.self_hosted, *self.cloud.split())

    def prefix(self, kind: str) -> str:
        """What stands before the model's name in LiteLLM's configuration."""
        return self.self_hosted.get(kind, kind)


def provider_catalogue() -> Catalogue:
    """The catalogue as it ships."""
    return Catalogue.model_validate(catalogue_document("providers.yaml"))


class Endpoint(Part):
    """One place that answers, and what is needed to ask it."""

    name: Name
    kind: str
    api_base: str | None = None
    enabled: bool = Field(default=False, description="off by default: nothing is sent to it")
    inside: bool = Field(default=False, description="stands on the premises; only then may internal data go there")
    key: KeyName | None = Field(default=None, description="short for secrets: {api_key: ...}")
    secrets: dict[str, KeyName] = Field(default_factory=dict, description="parameters whose values are in the vault")
    settings: dict[str, Setting] = Field(default_factory=dict, description="parameters that are no secrets")

    @property
    def all_secrets(self) -> Mapping[str, str]:
        """Parameter -> name in the vault."""
        return {**({"api_key": self.key} if self.key else {}), **self.secrets}

    @property
    def is_cloud(self) -> bool:
        """Somebody else's machines."""
        return self.kind not in provider_catalogue().self_hosted

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        catalogue = provider_catalogue()
        if self.kind not in catalogue.kinds:
            near = difflib.get_close_matches(self.kind, catalogue.kinds, n=1)
            hint = f"did you mean {near[0]}?" if near else "docs/routing.md lists the kinds"
            raise ValueError(f"endpoint {self.name}: unknown provider {self.kind}; {hint}")
        if self.name.endswith("relay"):
            raise ValueError(f"endpoint {self.name}: names that end with relay are the appliance's own; rename it")
        if self.key is not None and "api_key" in self.secrets:
            raise ValueError(f"endpoint {self.name}: key and secrets.api_key are the same; keep one")
        for what, given, known in (
            ("secret", self.secrets, catalogue.secrets),
            ("setting", self.settings, catalogue.settings),
        ):
            for one in sorted(set(given) - known):
                raise ValueError(f"endpoint {self.name}: unknown {what} {one}; there are {', '.join(sorted(known))}")
        if self.api_base is not None:
            self._check_address(self.api_base)
        if self.kind in catalogue.self_hosted:
            if self.api_base is None:
                raise ValueError(f"endpoint {self.name}: set api_base, the URL of the {self.kind} server up to /v1")
            return self
        self._check_cloud(catalogue.needs.get(self.kind, Needs()))
        return self

    def _check_address(self, api_base: str) -> None:
        url = urlsplit(api_base)
        if url.scheme not in {"http", "https"} or not url.hostname or url.query or url.fragment:
            raise ValueError(
                f"endpoint {self.name}: api_base {api_base!r} is no http(s) URL; for example {EXAMPLE_URL}"
            )
        if url.username is not None or url.password is not None:
            raise ValueError(
                f"endpoint {self.name}: api_base holds a password; put it into the vault and name it in key"
            )
        if self.inside and _is_public(url.hostname):
            raise ValueError(f"endpoint {self.name}: {url.hostname} is a public address; it cannot stand inside")

    def _check_cloud(self, needs: Needs) -> None:
        if self.inside:
            raise ValueError(f"endpoint {self.name}: {self.kind} is a cloud and cannot stand inside; drop inside")
        if needs.api_base and self.api_base is None:
            raise ValueError(f"endpoint {self.name}: {self.kind} needs api_base")
        for parameter in needs.secrets:
            if parameter not in self.all_secrets:
                way = "key" if parameter == "api_key" else f"secrets.{parameter}"
                raise ValueError(f"endpoint {self.name}: {self.kind} needs {way}, the name of a value in the vault")
        for setting in needs.settings:
            if setting not in self.settings:
                raise ValueError(f"endpoint {self.name}: {self.kind} needs settings.{setting}")


EXAMPLE_URL = "http://10.0.0.50:8000/v1"


class Deployment(Part):
    """A model at one endpoint."""

    endpoint: Name
    model: str = Field(min_length=1, description="its name there")
    weight: int | None = Field(default=None, ge=0, description="share with simple-shuffle")
    rpm: int | None = Field(default=None, gt=0, description="requests per minute that it takes")
    tpm: int | None = Field(default=None, gt=0, description="tokens per minute that it takes")
    tags: tuple[Name, ...] = Field(default=(), description="requests with such a tag go here; `default`: without one")
    input_cost_per_token: Price | None = Field(default=None, description="clouds: LiteLLM's price list where absent")
    output_cost_per_token: Price | None = None

    @model_validator(mode="after")
    def _prices_come_in_pairs(self) -> Self:
        if (self.input_cost_per_token is None) != (self.output_cost_per_token is None):
            raise ValueError(f"{self.model} at {self.endpoint}: give both prices or none")
        return self


class DeclaredModel(Part):
    """What clients call."""

    name: ModelName
    mode: Literal["chat", "embedding"] = "chat"
    data: DataClass = Field(default="any", description="internal: no byte of its requests leaves the premises")
    max_input_tokens: int | None = Field(default=None, gt=0)
    max_output_tokens: int | None = Field(default=None, gt=0)
    deployments: tuple[Deployment, ...] = Field(min_length=1)

    @property
    def window_tokens(self) -> int | None:
        """Prompt and answer together, where the operator has said so."""
        return None if self.max_input_tokens is None else self.max_input_tokens + (self.max_output_tokens or 0)


class Providers(Document):
    """Everything that a site's gateway serves besides its own engines."""

    endpoints: tuple[Endpoint, ...] = ()
    models: tuple[DeclaredModel, ...] = ()

    @model_validator(mode="after")
    def _names_agree(self) -> Self:
        _refuse_twice("endpoint", (endpoint.name for endpoint in self.endpoints))
        _refuse_twice("model", (model.name for model in self.models))
        endpoints = self.by_name()
        for model in self.models:
            for deployment in model.deployments:
                if deployment.endpoint not in endpoints:
                    raise ValueError(f"model {model.name} is at endpoint {deployment.endpoint}, which is not declared")
                if model.data == "internal" and not endpoints[deployment.endpoint].inside:
                    raise ValueError(
                        f"model {model.name} is marked data: internal and endpoint {deployment.endpoint} does not "
                        "stand inside; take one of the two away"
                    )
        for text in strings_of(self.model_dump(mode="json")):
            if "{{" in text or "{%" in text:
                raise ValueError(f"{text!r} is a template; providers are read as they stand, also without Ansible")
            if re.match(r"^(sk-|AKIA)[A-Za-z0-9_-]{12,}$", text):
                raise ValueError("something here looks like a key; put it into the vault and name it in key")
        return self

    def by_name(self) -> Mapping[str, Endpoint]:
        """The endpoints."""
        return {endpoint.name: endpoint for endpoint in self.endpoints}

    def served(self) -> Iterator[tuple[DeclaredModel, tuple[tuple[Deployment, Endpoint], ...]]]:
        """The models with those of their deployments that are switched on; a model without any is not served."""
        endpoints = self.by_name()
        for model in self.models:
            pairs = ((one, endpoints[one.endpoint]) for one in model.deployments)
            there = tuple(pair for pair in pairs if pair[1].enabled)
            if there:
                yield model, there

    def check_keys(self, present: Iterable[str]) -> None:
        """Raises DocumentError when an endpoint that is switched on names a key that the vault does not hold."""
        held = set(present)
        for endpoint in self.endpoints:
            for key in endpoint.all_secrets.values():
                if endpoint.enabled and key not in held:
                    raise DocumentError(
                        f"providers: endpoint {endpoint.name} needs key {key}, which is not in {KEYS_VARIABLE} of the "
                        "vault (group_vars/all/vault.yml); add it, or switch the endpoint off"
                    )


def providers_path(directory: Path) -> Path:
    """Where Ansible finds the providers of a site."""
    return directory / "group_vars" / "all" / "providers.yml"


def load_providers(directory: Path) -> Providers:
    """What a site declares; nothing where there is no such file."""
    path = providers_path(directory)
    if not path.exists():
        return Providers()
    content = read_structured_file(path)
    if not isinstance(content, Mapping) or set(content) != {PROVIDERS_KEY}:
        raise DocumentError(f"{path}: expected the single top-level key {PROVIDERS_KEY}")
    return Providers.parse(content[PROVIDERS_KEY], origin=str(path))


def _is_public(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_global
    except ValueError:
        return False


def _refuse_twice(what: str, names: Iterable[str]) -> None:
    for name, count in Counter(names).items():
        if count > 1:
            raise ValueError(f"{what} {name} is declared {count} times; keep one")

"""Tracing: who is told of every request while the site runs, Langfuse or whatever takes OpenTelemetry's protocol.

Declared in group_vars/all/tracing.yml. It holds no secrets: the keys of the receivers lie in the vault by name
(`vault_tracing_keys`).
"""

import ipaddress
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from sizing.documents import Document, Part, read_structured_file, strings_of
from sizing.errors import DocumentError

TRACING_KEY = "tracing"
KEYS_VARIABLE = "vault_tracing_keys"

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")]
KeyName = Annotated[str, Field(pattern=r"^[a-z0-9_]{1,40}$")]
HeaderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,60}$")]


class Receiver(Part):
    """One place that is told."""

    name: Name
    kind: Literal["opentelemetry", "langfuse"]
    url: str = Field(
        pattern=r"^https?://[^\s/@?#]+(/[^\s@?#]*)?$",
        description="without a path: /v1/traces, or Langfuse's own, is added",
    )
    key: KeyName | None = Field(
        default=None, description="langfuse: name of the key in the vault, which is <public key>:<secret key>"
    )
    headers: dict[HeaderName, KeyName] = Field(
        default_factory=dict, description="opentelemetry: header and the name of its value in the vault"
    )
    inside: bool = Field(default=False, description="stands on the premises; only then it hears of internal models")
    content: bool = Field(default=False, description="is also sent what was asked and answered, word for word")

    @model_validator(mode="after")
    def _the_kind_decides_how_it_is_let_in(self) -> Self:
        if self.kind == "langfuse" and (self.key is None or self.headers):
            raise ValueError(f"receiver {self.name}: langfuse needs key, and no headers")
        if self.kind == "opentelemetry" and self.key is not None:
            raise ValueError(f"receiver {self.name}: opentelemetry takes headers instead of key")
        if self.inside and _is_public(urlsplit(self.url).hostname or ""):
            raise ValueError(f"receiver {self.name}: {self.url} is a public address; it cannot stand inside")
        return self

    @property
    def key_names(self) -> tuple[str, ...]:
        """What the vault must hold for it."""
        return tuple(sorted({*self.headers.values(), *((self.key,) if self.key else ())}))


class Tracing(Document):
    """Off unless somebody is declared."""

    receivers: tuple[Receiver, ...] = Field(min_length=1)
    content_bytes_max: int = Field(
        default=65536, ge=256, le=1048576, description="of each question and each answer; the rest is cut off"
    )

    @model_validator(mode="after")
    def _stands_as_it_is(self) -> Self:
        names = [receiver.name for receiver in self.receivers]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"receiver {name} is declared twice; keep one")
        for text in strings_of(self.model_dump(mode="json")):
            if "{{" in text or "{%" in text:
                raise ValueError(f"{text!r} is a template; tracing is read as it stands, also without Ansible")
        return self

    def check(self, *, keys: Iterable[str], models: Collection[str], internal: Collection[str]) -> None:
        """Raises DocumentError for keys that the vault lacks, and for receivers that would never hear anything."""
        held = set(keys)
        for receiver in self.receivers:
            for key in receiver.key_names:
                if key not in held:
                    raise DocumentError(
                        f"tracing: receiver {receiver.name} needs key {key}, which is not in {KEYS_VARIABLE} of the "
                        "vault; add it there"
                    )
            if not receiver.inside and models and set(models) <= set(internal):
                raise DocumentError(
                    f"tracing: receiver {receiver.name} would hear nothing: every model is marked data: internal and "
                    "it is not inside; set inside: true if it stands on the premises"
                )


def _is_public(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_global
    except ValueError:
        return False


def load_tracing(directory: Path) -> Tracing | None:
    """The declared receivers of a site; None where nothing is declared."""
    path = directory / "group_vars" / "all" / "tracing.yml"
    if not path.exists():
        return None
    content = read_structured_file(path)
    if not isinstance(content, Mapping) or set(content) != {TRACING_KEY}:
        raise DocumentError(f"{path}: expected the single top-level key {TRACING_KEY}")
    return Tracing.parse(content[TRACING_KEY], origin=str(path))

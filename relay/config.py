"""Configuration of one relay process: what is in /etc/relay/<group>.yaml, checked before anything starts."""

from collections import Counter
from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator


class ConfigError(Exception):
    """The configuration cannot be used; the message is one line for an operator."""


class ReplicaConfig(BaseModel):
    """One engine; the id is that of the plan's deployment."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(pattern=r"^[A-Za-z0-9._@:-]+$")
    api_base: str = Field(pattern=r"^http://[^/]+/v1$")

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        parts = urlsplit(self.api_base)
        return parts.hostname or "", parts.port or 80


class Config(BaseModel):
    """One relay."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    group: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    served_model_name: str
    task: Literal["chat", "embedding"] = "chat"
    host: str = "127.0.0.1"
    port: int = Field(ge=0, le=65535)
    replicas: tuple[ReplicaConfig, ...] = Field(min_length=1)
    max_model_len: int = Field(gt=0)
    ledger_directory: Path
    drained_file: Path | None = None
    """Where it is kept which replicas are drained; None = a restart forgets it."""

    stall_seconds: float = Field(default=5.0, gt=0)
    first_byte_seconds: float = Field(default=20.0, gt=0)
    connect_seconds: float = Field(default=1.0, gt=0)
    probe_seconds: float = Field(default=2.0, gt=0)
    queue_max_requests: int = Field(default=1024, ge=0)
    concurrent_requests_per_replica: int = Field(default=256, gt=0)
    max_legs: int = Field(default=4, ge=1)
    request_seconds_max: float = Field(default=3600.0, gt=0)
    drain_seconds: float = Field(default=120.0, gt=0)
    coalesce_seconds: float = Field(default=0.0, ge=0, le=1.0)
    """Pieces of text that come within at most so long leave as one chunk; 0: each by itself."""
    coalesce_chunks_per_second: float = Field(default=0.0, ge=0)
    """They wait no longer than keeps all answers together below so many chunks; 0: always the whole time."""
    reasoning_end: str = Field(default="</think>", min_length=1)
    """Text that ends a thought, for thoughts that are cut by a fault."""
    reasoning_end_special: bool = False
    """Whether that text is a special token, which engines show only if asked to (Gemma 4: `<channel|>`)."""

    @model_validator(mode="after")
    def _replicas_differ(self) -> Self:
        for what, used in (
            ("id", [replica.id for replica in self.replicas]),
            ("api_base", [replica.api_base for replica in self.replicas]),
        ):
            for one, count in Counter(used).items():
                if count > 1:
                    raise ValueError(f"{count} replicas have the {what} {one}; each needs its own")
        return self


def load(path: Path) -> Config:
    """The checked configuration. Raises ConfigError."""
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        return Config.model_validate(document)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    except ValidationError as error:
        wrong = "; ".join(
            f"{'.'.join(map(str, item['loc'])) or 'document'}: {item['msg']} (found {str(item['input'])[:60]!r})"
            for item in error.errors(include_url=False, include_context=False)
        )
        raise ConfigError(f"{path}: {wrong}") from None

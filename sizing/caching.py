"""Caching: whether the gateway keeps answers for requests that come again, for whom, and how long.

Declared in group_vars/all/caching.yml; which keys use it without asking stands there too, by alias.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from sizing.access import Name
from sizing.documents import Document, read_structured_file
from sizing.errors import DocumentError

CACHING_KEY = "caching"


class Caching(Document):
    """The cache of answers. Off unless switched on; then only for keys that are named, and requests that ask for it."""

    enabled: bool = False
    store: Literal["redis", "memory"] = Field(
        default="redis", description="memory: each worker its own, for a site with one gateway host"
    )
    ttl_seconds: int = Field(default=600, ge=1, le=604800, description="an answer's life; a request may ask for less")
    share: Literal["key", "team", "everyone"] = Field(
        default="key", description="who may see an answer that was made for somebody: by default only the same key"
    )
    keys: tuple[Name, ...] = Field(default=(), description="aliases whose requests use it without asking")
    per_request: bool = Field(default=True, description='any key may ask for it: {"cache": {"use-cache": true}}')

    @model_validator(mode="after")
    def _somebody_uses_it(self) -> Self:
        if self.enabled and not self.keys and not self.per_request:
            raise ValueError("enabled, but nobody may use it: name keys, or set per_request: true")
        for alias in self.keys:
            if self.keys.count(alias) > 1:
                raise ValueError(f"key {alias} is named twice; keep one")
        return self

    def check(self, *, gateway_hosts: int, aliases: Collection[str] | None) -> None:
        """Raises DocumentError where it does not suit the site; `aliases` are the declared keys, or None."""
        if self.enabled and self.store == "memory" and gateway_hosts > 1:
            raise DocumentError(f"caching: store memory is for one gateway host, there are {gateway_hosts}; use redis")
        for alias in self.keys:
            if aliases is not None and alias not in aliases:
                raise DocumentError(f"caching: key {alias} is not among the keys of access.yml; declare it there")


def load_caching(directory: Path) -> Caching | None:
    """The declared cache of a site; None where nothing is declared."""
    path = directory / "group_vars" / "all" / "caching.yml"
    if not path.exists():
        return None
    content = read_structured_file(path)
    if not isinstance(content, Mapping) or set(content) != {CACHING_KEY}:
        raise DocumentError(f"{path}: expected the single top-level key {CACHING_KEY}")
    return Caching.parse(content[CACHING_KEY], origin=str(path))

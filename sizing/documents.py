"""Documents: reading, writing and fingerprinting the JSON and YAML files that pass between the parts.

Every document model derives from `Document`; a malformed one becomes a single `DocumentError` line that names
the file, the place in it and what was found there.
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from sizing.errors import DocumentError


class Part(BaseModel):
    """A piece of a document: frozen, and no key that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Document(Part):
    """A whole document, with the version of its schema."""

    schema_version: int = 1

    @classmethod
    def parse(cls, content: object, *, origin: str) -> Self:
        """The document in `content`; raises DocumentError with one line that begins with `origin`."""
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(step) for step in first["loc"]) or "document"
            more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
            message = first["msg"].removeprefix("Value error, ")
            raise DocumentError(f"{origin}: {place}: {message}{more}") from None

    @classmethod
    def load(cls, path: Path) -> Self:
        """The document in a JSON or YAML file."""
        return cls.parse(read_structured_file(path), origin=str(path))

    def digest(self) -> str:
        """SHA-256 of the canonical JSON form, as `sha256:<hex>`."""
        return digest_of(self.model_dump(mode="json"))

    def to_json(self) -> str:
        """Indented JSON with a final newline, in field order."""
        return self.model_dump_json(indent=2) + "\n"


class _NoKeyTwice(yaml.SafeLoader):
    """YAML would let the last of two equal keys win, in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"{key.value} stands here twice; keep one", key.start_mark
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def digest_of(content: Any) -> str:
    """SHA-256 over JSON with sorted keys and no blanks: equal content, equal digest."""
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return "sha256:" + hashlib.sha256(canonical.encode()).hexdigest()


def strings_of(content: object) -> Iterator[str]:
    """Every string of a JSON form, keys as well."""
    if isinstance(content, str):
        yield content
    elif isinstance(content, dict):
        for key, value in content.items():
            yield from strings_of(key)
            yield from strings_of(value)
    elif isinstance(content, list):
        for value in content:
            yield from strings_of(value)


def read_structured_file(path: Path) -> object:
    """What a JSON or YAML file holds; raises DocumentError with one line."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise DocumentError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DocumentError(f"{path}: cannot be read: {error}") from None
    try:
        content: object = json.loads(text) if path.suffix == ".json" else yaml.load(text, Loader=_NoKeyTwice)  # noqa: S506 - a safe loader
    except json.JSONDecodeError as error:
        raise DocumentError(f"{path}: line {error.lineno}, column {error.colno}: {error.msg}") from None
    except yaml.YAMLError as error:
        raise DocumentError(f"{path}: {' '.join(str(error).split())}") from None
    return content

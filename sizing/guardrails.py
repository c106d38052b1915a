"""Guardrails: what is masked or refused on its way into models and out of them, for whom, and what if one fails.

Declared in group_vars/all/guardrails.yml; without it nothing is installed, loaded or looked at.
"""

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from sizing.access import Name
from sizing.documents import Document, Part, read_structured_file
from sizing.errors import DocumentError

GUARDRAILS_KEY = "guardrails"
AbsolutePath = Annotated[str, Field(pattern=r"^/.+$")]
Word = Annotated[str, Field(min_length=1, max_length=200)]
RuleName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]


class _Guardrail(Part):
    """What all kinds have."""

    name: RuleName
    directions: tuple[Literal["in", "out"], ...] = Field(default=("in",), min_length=1)
    action: Literal["mask", "block"] = "mask"
    on_failure: Literal["open", "closed"] = Field(
        default="closed", description="when it cannot look in time: open lets the text pass, closed answers 503"
    )
    timeout_seconds: float = Field(default=2.0, gt=0, le=60)
    keys: tuple[Name, ...] = Field(default=(), description="aliases it is for; none: everybody")
    except_keys: tuple[Name, ...] = Field(default=(), description="aliases it is not for")

    @model_validator(mode="after")
    def _for_somebody(self) -> Self:
        if both := sorted(set(self.keys) & set(self.except_keys)):
            raise ValueError(f"guardrail {self.name}: key {both[0]} stands in keys and in except_keys; keep one")
        if len(set(self.directions)) < len(self.directions):
            raise ValueError(f"guardrail {self.name}: a direction stands twice; keep one")
        return self


class PersonalData(_Guardrail):
    """Numbers and addresses of people, by pattern and checksum; names by a model of the operator's."""

    kind: Literal["personal_data"]
    entities: tuple[Literal["KR_RRN", "PHONE", "CARD", "BANK_ACCOUNT", "EMAIL"], ...] = (
        "KR_RRN", "PHONE", "CARD", "BANK_ACCOUNT", "EMAIL"
    )  # fmt: skip
    presidio: tuple[Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]+$")], ...] = Field(
        default=(),
        description="further entities that Presidio finds by pattern, such as US_SSN, IBAN_CODE, KR_PASSPORT",
    )
    pipelines: dict[Literal["ko", "en"], AbsolutePath] = Field(
        default={}, description="directories of spaCy pipelines on the gateway hosts that know names of people"
    )
    labels: tuple[Word, ...] = Field(default=(), description="of those pipelines; none: all that they know")
    style: Literal["label", "stars", "last4"] = Field(default="label", description="<EMAIL>, ******, or ******1234")

    @model_validator(mode="after")
    def _looks_for_something(self) -> Self:
        if not self.entities and not self.presidio and not self.pipelines:
            raise ValueError(f"guardrail {self.name}: it looks for nothing; name entities, presidio or pipelines")
        return self


class Words(_Guardrail):
    """Words and regular expressions."""

    kind: Literal["words"]
    words: tuple[Word, ...] = ()
    patterns: tuple[Annotated[str, Field(min_length=1, max_length=1000)], ...] = ()
    longest_characters: int = Field(
        default=100, ge=1, le=1000, description="the longest text that a pattern is to match"
    )

    @model_validator(mode="after")
    def _can_be_read(self) -> Self:
        if not self.words and not self.patterns:
            raise ValueError(f"guardrail {self.name}: it looks for nothing; name words or patterns")
        for pattern in self.patterns:
            try:
                found = re.compile(pattern)
            except re.error as error:
                raise ValueError(f"guardrail {self.name}: {pattern!r} is no regular expression: {error}") from None
            if found.match(""):
                raise ValueError(
                    f"guardrail {self.name}: {pattern!r} fits where nothing is; ask for at least one character"
                )
        return self


class Injection(_Guardrail):
    """Prompts that try to take over."""

    kind: Literal["injection"]
    directions: tuple[Literal["in"], ...] = Field(default=("in",), min_length=1)
    action: Literal["block"] = "block"
    threshold: float = Field(default=0.7, gt=0, le=1)
    pipeline: AbsolutePath | None = Field(
        default=None,
        description="directory of a spaCy text classifier with a label INJECTION, instead of the heuristics",
    )


class Custom(_Guardrail):
    """A Python file of the operator's: find(text, role) gives (start, end, label)."""

    kind: Literal["custom"]
    file: AbsolutePath


class Guardrails(Document):
    """All guardrails, in the order in which they look. Each sees what the one before has masked."""

    unreadable: Literal["refuse", "pass"] = Field(
        default="refuse", description="pictures, sound and token ids, which no guardrail can look at"
    )
    processes: int = Field(default=2, ge=1, le=64, description="that look at texts, on each gateway host")
    rules: tuple[Annotated[PersonalData | Words | Injection | Custom, Field(discriminator="kind")], ...] = Field(
        min_length=1
    )

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [rule.name for rule in self.rules]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"guardrail {name} is declared twice; keep one")
        return self

    def check(self, *, aliases: Collection[str] | None, traced: str | None = None) -> None:
        """Raises DocumentError where it does not suit the site.

        `aliases` are the declared keys, or None; `traced` is a receiver of traces that is sent what engines answer.
        """
        if traced is not None and (rule := next((one for one in self.rules if "out" in one.directions), None)):
            raise DocumentError(
                f"guardrails: {rule.name} looks at answers, and tracing.yml sends {traced} answers as engines "
                "give them; set content: false there, or take `out` from the directions here"
            )
        for rule in self.rules:
            for alias in (*rule.keys, *rule.except_keys):
                if aliases is not None and alias not in aliases:
                    raise DocumentError(
                        f"guardrails: {rule.name}: key {alias} is not among the keys of access.yml; declare it there"
                    )

    def for_service(self, *, socket: str) -> dict[str, Any]:
        """What the service and the gateway's hook read (guard/rules.py)."""
        return {"socket": socket, **self.model_dump(mode="json", exclude={"schema_version"})}


def load_guardrails(directory: Path) -> Guardrails | None:
    """The declared guardrails of a site; None where nothing is declared."""
    path = directory / "group_vars" / "all" / "guardrails.yml"
    if not path.exists():
        return None
    content = read_structured_file(path)
    if not isinstance(content, Mapping) or set(content) != {GUARDRAILS_KEY}:
        raise DocumentError(f"{path}: expected the single top-level key {GUARDRAILS_KEY}")
    return Guardrails.parse(content[GUARDRAILS_KEY], origin=str(path))

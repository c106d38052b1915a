"""The rules as the deployment writes them: one JSON file, read by the service and by the gateway's hook.

What the operator declares (guardrails.yml) is checked long before, by sizing/guardrails.py; here a file is read that a
program wrote. Needs Python alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from guard.errors import GuardError
from guard.tail import Hold

# What Presidio's own recognizers and a pipeline for names look at is no longer than this.
OTHER_ENTITY_CHARACTERS = 64
CUSTOM_CHARACTERS = 200


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One guardrail."""

    name: str
    kind: str  # personal_data, words, injection, custom
    directions: tuple[str, ...] = ("in",)
    action: str = "mask"
    on_failure: str = "closed"
    timeout_seconds: float = 2.0
    keys: frozenset[str] = frozenset()  # nobody named: everybody
    except_keys: frozenset[str] = frozenset()
    # personal_data
    entities: tuple[str, ...] = ()
    presidio: tuple[str, ...] = ()
    pipelines: Mapping[str, str] = field(default_factory=dict)  # language: directory
    labels: tuple[str, ...] = ()  # of those pipelines; none named: all that they know
    style: str = "label"
    # words
    words: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ()
    longest_characters: int = 100
    # injection
    threshold: float = 0.7
    pipeline: str | None = None
    # custom
    file: str | None = None

    @property
    def hold(self) -> Hold:
        """What a stream keeps back for it."""
        match self.kind:
            case "personal_data":
                others = OTHER_ENTITY_CHARACTERS if self.presidio or self.pipelines else 0
                return Hold(numbers=True, characters=others)
            case "words":
                longest = max((len(word) for word in self.words), default=0)
                return Hold(characters=max(longest, self.longest_characters if self.patterns else 0) + 1)
            case _:
                return Hold(characters=CUSTOM_CHARACTERS)

    def concerns(self, *, alias: str | None, direction: str) -> bool:
        """Whether it looks at what comes from, or goes to, the key of this alias."""
        if direction not in self.directions or (alias is not None and alias in self.except_keys):
            return False
        return not self.keys or alias in self.keys


@dataclass(frozen=True, kw_only=True)
class Rules:
    """All of them, in the order in which they look, and where they are asked."""

    socket: Path
    processes: int
    unreadable: str  # refuse, pass
    rules: tuple[Rule, ...]

    @classmethod
    def load(cls, path: Path) -> Rules:
        """Raises GuardError with one line."""
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            rules = tuple(_rule(one) for one in content["rules"])
            return cls(
                socket=Path(content["socket"]),
                processes=int(content["processes"]),
                unreadable=str(content["unreadable"]),
                rules=rules,
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise GuardError(f"{path}: {type(error).__name__}: {error}") from error

    def named(self, name: str) -> Rule:
        """Raises GuardError for a rule that there is not."""
        for rule in self.rules:
            if rule.name == name:
                return rule
        raise GuardError(f"there is no guardrail {name}")


def _rule(content: Mapping[str, Any]) -> Rule:
    known = {one.name: one.type for one in fields(Rule)}
    given: dict[str, Any] = {}
    for name, value in content.items():
        if name not in known:
            raise ValueError(f"rule {content.get('name')}: unknown key {name}")
        kind = str(known[name])
        given[name] = frozenset(value) if "frozenset" in kind else tuple(value) if "tuple" in kind else value
    return Rule(**given)

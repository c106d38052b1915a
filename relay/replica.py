"""Replica: one engine as this relay sees it, and what a request wants of one."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from time import time
from typing import Literal, Protocol

from relay.config import ReplicaConfig
from relay.http_client import Pool

State = Literal["serving", "ejected", "draining"]


class Carried(Protocol):
    """A leg under way."""

    def replica_out(self, reason: str) -> None: ...


@dataclass(eq=False, kw_only=True)
class Replica:
    """One engine as this relay sees it."""

    config: ReplicaConfig
    pool: Pool
    state: State = "serving"
    since: float = field(default_factory=time)
    ejected_at: float = 0.0
    hung: bool = False  # whether it was silence that it was ejected for
    outstanding_tokens: int = 0
    outstanding_requests: int = 0
    chosen_at: float = 0.0  # of two that are equally idle, the one that has rested longer
    last_fault: str | None = None
    progress_at: float = 0.0  # when bytes came from it last, for whomever
    probed_at: float = 0.0
    suspected: bool = False
    legs: set[Carried] = field(default_factory=set)

    @property
    def id(self) -> str:
        """The plan's name of it."""
        return self.config.id

    def become(self, state: State) -> None:
        """Another state, from now on."""
        if state != self.state:
            self.state, self.since = state, time()


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What a request asks of the choice."""

    tokens: int  # prompt and expected answer, a guess
    prefixes: Sequence[int] = ()  # hashes of the conversation's beginnings, longest first

"""Usage: requests, tokens, spend and times by team and model, from the ledgers of a gateway host.

LiteLLM has a Prometheus callback of its own; it costs the gateway's workers CPU for each request, and a killed worker
forgets. The ledgers are written anyway, by the gateway (who asks) and by the relays (what was used), so this process
reads them beside the gateway and costs its workers nothing. Team and model are the only labels; keys would be
thousands.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sight.exposition import Counters, Family, Histograms, Sample
from sight.ledgers import Follower

FIRST_TOKEN_BOUNDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 30.0, 60.0)
REQUEST_BOUNDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
REMEMBERED_MAXIMUM = 100_000
CALLERS_TAIL_BYTES = 1024**2
NOBODY = "none"
"""Requests of keys without a team, and those whose caller no gateway of this host wrote down."""


@dataclass(frozen=True, kw_only=True)
class Price:
    """Of one token."""

    input: float
    output: float


@dataclass(frozen=True, kw_only=True)
class Caller:
    """Whose request it is."""

    team: str
    model: str


class _Remembered(OrderedDict[str, Any]):
    """The newest entries of a kind; the oldest go first."""

    def keep(self, name: str, value: Any) -> None:
        self[name] = value
        if len(self) > REMEMBERED_MAXIMUM:
            self.popitem(last=False)


class Usage:
    """The counters of one gateway host."""

    def __init__(self, *, relay_directory: Path, identity_directory: Path, prices: Mapping[str, Price]) -> None:
        self.prices = prices
        self._relays = Follower(relay_directory)
        self._identities = Follower(identity_directory, tail_bytes=CALLERS_TAIL_BYTES)
        self._callers, self._begun = _Remembered(), _Remembered()
        # A new segment repeats the lines of open requests, and a repaired one those of ended requests.
        self._answered, self._booked = _Remembered(), _Remembered()
        by_team = ("team", "model")
        self._asked = Counters("appliance_requests_begun_total", "Requests that the gateway let in", by_team)
        self._ended = Counters(
            "appliance_requests_total", "Requests that ended, by how they ended", (*by_team, "outcome")
        )
        self._tokens = Counters("appliance_tokens_total", "Tokens used", (*by_team, "kind"))
        self._spend = Counters("appliance_spend_total", "Cost in the unit of the models' prices", by_team)
        self._first_token = Histograms(
            "appliance_first_token_seconds", "Until the relay had the first token", by_team, FIRST_TOKEN_BOUNDS
        )
        self._seconds = Histograms("appliance_request_seconds", "Until the answer was whole", by_team, REQUEST_BOUNDS)
        # Who asked before this process began, so that running requests find their team; they are not counted as new.
        for record in self._identities.new_records():
            self._remember(record)

    def families(self) -> list[Family]:
        """Reads on, and returns everything."""
        used = list(self._relays.new_records())
        # After the relays' lines: whoever a line belongs to was written down before the request left the gateway.
        for record in self._identities.new_records():
            if (caller := self._remember(record)) is not None:
                self._asked.add((caller.team, caller.model))
            elif record.get("kind") == "end" and record.get("billed_by") == "provider":
                self._end(record, cost=float(record["cost"]))
        for record in used:
            self._read_relay(record)
        damaged = self._relays.damaged_lines + self._identities.damaged_lines
        counted = (self._asked, self._ended, self._tokens, self._spend, self._first_token, self._seconds)
        return [
            *(one.family() for one in counted),
            Family(
                name="appliance_followed_damaged_lines_total",
                kind="counter",
                help="Lines of ledgers that failed their checksum",
                samples=[Sample(value=damaged)],
            ),
        ]

    def _remember(self, record: Mapping[str, Any]) -> Caller | None:
        if record.get("kind") != "begin":
            return None
        team = record.get("team_alias") or record.get("team_id") or NOBODY
        caller = Caller(team=str(team), model=str(record["model"]))
        self._callers.keep(record["request"], caller)
        return caller

    def _read_relay(self, record: Mapping[str, Any]) -> None:
        match record.get("kind"):
            case "begin":
                if record["entry"] not in self._answered:
                    self._begun.keep(record["entry"], record)
            case "progress":
                # Written at the first token, then once a second: the first one is the first token.
                if (begun := self._begun.pop(record["entry"], None)) is not None:
                    self._answered.keep(record["entry"], True)
                    caller = self._caller(begun)
                    seconds = max(0.0, record["at"] - begun["begun_at"])
                    self._first_token.add((caller.team, caller.model), seconds)
            case "end":
                self._begun.pop(record["entry"], None)
                price = self.prices.get(record["model"]) or self.prices.get(record["group"])
                cost = 0.0
                if price is not None:
                    cost = record["prompt_tokens"] * price.input + record["completion_tokens"] * price.output
                self._end(record, cost=cost)

    def _end(self, record: Mapping[str, Any], *, cost: float) -> None:
        if record["entry"] in self._booked:
            return
        self._booked.keep(record["entry"], True)
        caller = self._caller(record)
        labels = (caller.team, caller.model)
        self._ended.add((*labels, record["outcome"]))
        for kind in ("prompt", "completion", "cached"):
            self._tokens.add((*labels, kind), record[f"{kind}_tokens"])
        self._spend.add(labels, cost)
        if record["outcome"] == "completed":
            self._seconds.add(labels, max(0.0, record["at"] - record["begun_at"]))

    def _caller(self, record: Mapping[str, Any]) -> Caller:
        known: Caller | None = self._callers.get(record["request"])
        return known or Caller(team=NOBODY, model=str(record["model"]))

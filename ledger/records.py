"""What segment lines mean: who called (gateway), what was used (relay, or the gateway for models without one)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from ledger.configuration import Price

# `<call id>-<8 hex>`: what the gateway sends as X-Request-Id.
_REQUEST_ID = re.compile(r"^(?P<call>.*)-[0-9a-f]{8}$")
_FREE = Price(input_cost=Decimal(0), output_cost=Decimal(0))


@dataclass(frozen=True, kw_only=True)
class Caller:
    """Whose request it is."""

    request: str
    call_id: str
    begun_at: float
    key_hash: str | None = None
    key_alias: str | None = None
    team_id: str | None = None
    team_alias: str | None = None
    user_id: str | None = None
    organization_id: str | None = None
    end_user: str | None = None
    tags: Sequence[str] = ()
    model_group: str | None = None
    client: str | None = None

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Caller:
        """From a `begin` line of the gateway's hook."""
        names = ("key_hash", "key_alias", "team_id", "team_alias", "user_id", "organization_id", "end_user")
        return cls(
            request=record["request"],
            call_id=record["call_id"],
            begun_at=record["at"],
            tags=tuple(storable(str(tag)) for tag in record["tags"]),
            model_group=_text(record["model"]),
            client=_text(record.get("client")),
            **{name: _text(record[name]) for name in names},
        )

    @classmethod
    def unknown(cls, request: str, *, begun_at: float) -> Caller:
        """For a request that no gateway wrote down."""
        return cls(request=request, call_id=call_id_of(request), begun_at=begun_at)


@dataclass(frozen=True, kw_only=True)
class Usage:
    """One line of the bill, without its caller."""

    entry: str
    request: str
    source: str
    model: str
    endpoint: str | None
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    outcome: str
    cost: Decimal
    begun_at: float
    ended_at: float
    legs: Sequence[Mapping[str, Any]] = field(default=())


def storable(text: str) -> str:
    """What a client wrote, as PostgreSQL can hold it: a character that it cannot must keep no bill from being made."""
    return text.replace("\x00", "\ufffd")


def _text(value: Any) -> str | None:
    return None if value is None else storable(str(value))


def call_id_of(request: str) -> str:
    """What the client reads as `x-litellm-call-id`; the whole id when it was not made by the gateway."""
    match = _REQUEST_ID.match(request)
    return match["call"] if match else request


def usage_of_relay(record: Mapping[str, Any], prices: Mapping[str, Price]) -> Usage:
    """From a relay's `end` line. Billed is what engines reported."""
    price = prices.get(record["model"]) or prices.get(record["group"]) or _FREE
    prompt_tokens, completion_tokens = record["prompt_tokens"], record["completion_tokens"]
    return Usage(
        entry=record["entry"],
        request=record["request"],
        source="relay",
        model=storable(record["model"]),
        endpoint=_text(record["endpoint"]),
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        cached_tokens=record["cached_tokens"],
        outcome=record["outcome"],
        cost=price.of(prompt_tokens=prompt_tokens, completion_tokens=completion_tokens),
        begun_at=record["begun_at"],
        ended_at=record["at"],
        legs=record["legs"],
    )


def is_priced(record: Mapping[str, Any], prices: Mapping[str, Price]) -> bool:
    """Whether anything says what the model of a relay's record costs."""
    return record["model"] in prices or record["group"] in prices


def usage_of_provider(record: Mapping[str, Any]) -> Usage:
    """From the hook's `end` line of a model without a relay: what the provider reported, and LiteLLM's price for it."""
    return Usage(
        entry=record["entry"],
        request=record["request"],
        source="provider",
        model=storable(record["model"]),
        endpoint=_text(record["endpoint"]),
        prompt_tokens=record["prompt_tokens"],
        completion_tokens=record["completion_tokens"],
        cached_tokens=record["cached_tokens"],
        outcome=record["outcome"],
        cost=Decimal(str(record["cost"])),
        begun_at=record["begun_at"],
        ended_at=record["at"],
    )

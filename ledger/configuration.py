"""The configuration of a reconciliation: where segments lie, and what a token of each model costs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from ledger.errors import LedgerError


@dataclass(frozen=True, kw_only=True)
class Price:
    """Per token, in the site's currency."""

    input_cost: Decimal
    output_cost: Decimal

    def of(self, *, prompt_tokens: int, completion_tokens: int) -> Decimal:
        """Prompt tokens that an engine found in its cache cost what all prompt tokens cost."""
        return self.input_cost * prompt_tokens + self.output_cost * completion_tokens


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """`ledger.json`, as the gateway role writes it."""

    host: str
    relay_directory: Path
    identity_directory: Path
    metrics_path: Path | None
    # What may still be in a gateway worker's memory: LiteLLM's own row is looked for after this time only.
    grace_seconds: float
    # How long a relay's record waits for the gateway's word on who sent it, before it is booked to nobody.
    unclaimed_seconds: float
    retention_days: float
    prices: Mapping[str, Price]
    # Of reports and alerts.
    currency: str = ""
    time_zone: str = "UTC"
    alerts_path: Path | None = None

    @classmethod
    def load(cls, path: Path) -> Configuration:
        """Unknown and missing names are refused."""
        try:
            content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            prices = {
                name: Price(input_cost=Decimal(str(price["input"])), output_cost=Decimal(str(price["output"])))
                for name, price in content.pop("prices").items()
            }
            metrics = content.pop("metrics_path")
            alerts = content.pop("alerts_path", None)
            for name in ("relay_deployments", "record_prompts"):  # the gateway's hook reads these
                content.pop(name, None)
            return cls(
                relay_directory=Path(content.pop("relay_directory")),
                identity_directory=Path(content.pop("identity_directory")),
                metrics_path=Path(metrics) if metrics else None,
                alerts_path=Path(alerts) if alerts else None,
                prices=prices,
                **content,
            )
        except (OSError, ValueError, KeyError, TypeError, ArithmeticError) as error:
            raise LedgerError(f"{path}: {type(error).__name__}: {error}") from error

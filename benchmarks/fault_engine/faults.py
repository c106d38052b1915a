"""Faults of the fault engine: what can be switched on while it runs, and what each does to whom."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

REFUSALS = {
    "500": (500, "InternalServerError"),
    "503": (503, "ServiceUnavailableError"),
    "429": (429, "RateLimitError"),
    "poison": (500, "InternalServerError"),
}
NAMES = {
    "500": "new requests are answered HTTP 500",
    "503": "new requests are answered HTTP 503",
    "429": "new requests are answered HTTP 429",
    "poison": "new requests with the word poison in them are answered HTTP 500",
    "mute": "new requests are read and never answered",
    "reset": "new requests get a TCP reset",
    "slow": "everything takes `factor` times as long, also what runs",
    "cut": "streams lose their connection after `after_tokens` tokens, also those that run",
    "stall": "streams fall silent after `after_tokens` tokens and stay open, also those that run",
    "error_event": "streams say an error and then [DONE], as vLLM does when its core dies, also those that run",
    "false_end": "streams say [DONE] without a finish reason, also those that run",
    "hang": "nothing is answered or sent any more, new connections included, as under SIGSTOP",
}
BEFORE = frozenset({*REFUSALS, "mute", "reset", "poison"})
DURING = frozenset({"cut", "stall", "error_event", "false_end"})


@dataclass(kw_only=True)
class Fault:
    """The one that is switched on."""

    name: str
    after_tokens: int = 0
    requests: int = 0  # at most so many are hit; 0 = all
    factor: float = 10.0
    since: float = field(default_factory=monotonic)
    hits: int = 0

    def __post_init__(self) -> None:
        if self.name not in NAMES:
            raise ValueError(f"no fault {self.name!r}; there are {', '.join(NAMES)}")

    def meant_for(self, body: Mapping[str, Any]) -> bool:
        """Whether a request is of the kind that is hit."""
        return self.name != "poison" or "poison" in str(body.get("messages") or body.get("prompt"))

    def hit(self) -> bool:
        """Counts one victim; False once there were enough."""
        if self.requests and self.hits >= self.requests:
            return False
        self.hits += 1
        return True

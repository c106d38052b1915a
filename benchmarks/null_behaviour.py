"""Null behaviour: how the null server is to answer, as the model's name tells it, and what it has answered so far."""

from dataclasses import dataclass, field, fields, replace
from urllib.parse import parse_qsl


@dataclass(frozen=True, kw_only=True)
class Behaviour:
    """How one stream goes."""

    ttft_ms: float = 10.0
    itl_ms: float = 50.0
    tokens: int = 0  # 0 = the request's max_tokens
    reasoning: int = 0
    fault: str = ""

    def told_by(self, model: str) -> "Behaviour":
        """This behaviour with what the model's name asks for."""
        asked = dict(parse_qsl(model.partition("?")[2]))
        kinds = {item.name: type(getattr(self, item.name)) for item in fields(self)}
        return replace(self, **{key: kinds[key](value) for key, value in asked.items() if key in kinds})


@dataclass(kw_only=True)
class Traffic:
    """What the server has seen, for tests and calibration."""

    requests: int = 0
    chunks: int = 0
    request_ids: list[str] = field(default_factory=list)

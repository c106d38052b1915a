"""Bodies: of requests to engines and of their whole answers, as bytes."""

import json
from typing import Any


def with_ids(body: dict[str, Any], ids: bytes) -> bytes:
    """A request as JSON. The ids of its prompt go in as they were written by another engine: nobody reads them."""
    made = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
    return made[:-1] + b',"prompt":[' + ids + b"]}" if ids else made


def usage_of(body: bytes) -> dict[str, Any]:
    """The usage record of a whole answer; empty if there is none."""
    try:
        usage = json.loads(body).get("usage")
    except (ValueError, AttributeError):
        return {}
    return usage if isinstance(usage, dict) else {}

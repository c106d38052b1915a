"""Bodies: of requests to engines and of their whole answers, as bytes."""

import json
from typing import Any

BAD_REQUEST, SERVER_ERROR = 400, 500
NOT_THE_REQUEST = frozenset({401, 403, 408, 429})


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


def refusal_in(error: Any) -> int:
    """The status of an error event that blames the request, as vLLM does from within a stream; else 0."""
    code = error.get("code") if isinstance(error, dict) else None
    blames = isinstance(code, int) and BAD_REQUEST <= code < SERVER_ERROR and code not in NOT_THE_REQUEST
    return code if blames and isinstance(code, int) else 0

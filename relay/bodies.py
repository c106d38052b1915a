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


def used_in(said: bytes) -> tuple[int, int, int]:
    """Tokens of prompt, answer and cache, in the words of any of vLLM's APIs: of a whole answer, or of a last event."""
    at = said.find(b"data:")
    usage = usage_of(said)
    if not usage and at >= 0:
        try:
            usage = json.loads(said[at + 5 :])["response"]["usage"] or {}
        except (ValueError, KeyError, TypeError):
            usage = {}
    completion = usage.get("completion_tokens") or usage.get("output_tokens") or 0
    total = (usage.get("total_tokens") or 0) - completion
    prompt = usage.get("prompt_tokens") or usage.get("input_tokens") or total
    details = usage.get("prompt_tokens_details") or usage.get("input_tokens_details") or {}
    return int(prompt), int(completion), int(details.get("cached_tokens") or 0)


def refusal_in(error: Any) -> int:
    """The status of an error event that blames the request, as vLLM does from within a stream; else 0."""
    code = error.get("code") if isinstance(error, dict) else None
    blames = isinstance(code, int) and BAD_REQUEST <= code < SERVER_ERROR and code not in NOT_THE_REQUEST
    return code if blames and isinstance(code, int) else 0

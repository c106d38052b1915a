"""Assemble: a stream's chunks as the one JSON that vLLM gives to a client that does not stream."""

import json
from collections.abc import Sequence
from typing import Any


class Collected:
    """Takes the chunks of a continued stream, of which only texts and the end matter."""

    def __init__(self) -> None:
        self._chunks: list[bytes] = []

    def write(self, data: bytes) -> None:
        """One or more events."""
        self._chunks.append(data)

    def whole(self, *, chat: bool, show_ids: bool, usage: dict[str, Any], fingerprint: Any) -> dict[str, Any]:
        """The answer."""
        events = [
            json.loads(event[6:]) for event in b"".join(self._chunks).split(b"\n\n") if event.startswith(b"data: {")
        ]
        choices = [event["choices"][0] for event in events if event["choices"]]
        last = choices[-1]
        made: dict[str, Any] = {key: events[0][key] for key in ("id", "object", "created", "model")}
        made["object"] = "chat.completion" if chat else "text_completion"
        choice: dict[str, Any] = {"index": 0}
        ids = [token for one in choices for token in one.get("token_ids") or ()] if show_ids else None
        prompt = (
            _first([*(event.get("prompt_token_ids") for event in events), *_prompts(choices)]) if show_ids else None
        )
        ends = {"finish_reason": last["finish_reason"], "stop_reason": last.get("stop_reason")}
        if chat:
            choice["message"] = _message([one["delta"] for one in choices])
            choice |= {"logprobs": None, **ends, "token_ids": ids, "routed_experts": None}
        else:
            choice |= {"text": "".join(one["text"] for one in choices), "logprobs": None, **ends}
            choice |= {"token_ids": ids, "prompt_logprobs": None, "prompt_token_ids": prompt, "routed_experts": None}
        made["choices"] = [choice]
        made["service_tier"] = None
        made["system_fingerprint"] = fingerprint
        made["usage"] = {"prompt_tokens_details": None, "completion_tokens_details": None} | usage
        if chat:
            made |= {"prompt_logprobs": None, "prompt_token_ids": prompt, "prompt_text": None}
        made |= {"kv_transfer_params": None, "ec_transfer_params": None, "metrics": None}
        return made


def _prompts(choices: Sequence[dict[str, Any]]) -> list[Any]:
    return [one.get("prompt_token_ids") for one in choices]


def _first(found: Sequence[Any]) -> Any:
    return next((one for one in found if one), None)


def _message(deltas: Sequence[dict[str, Any]]) -> dict[str, Any]:
    content = "".join(delta.get("content") or "" for delta in deltas)
    thought = "".join(delta.get("reasoning") or "" for delta in deltas)
    return {
        "role": next((delta["role"] for delta in deltas if "role" in delta), "assistant"),
        "content": content if content or not thought else None,
        "refusal": None,
        "annotations": None,
        "audio": None,
        "function_call": None,
        "reasoning": thought or None,
    }

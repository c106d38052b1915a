"""A client of the site's gateway that reads one stream and can be told to do something in the middle of it."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx

TIMEOUT_SECONDS = 120.0


@dataclass(kw_only=True)
class Streamed:
    """What one stream said."""

    status: int
    pieces: list[str] = field(default_factory=list)
    ids: set[str] = field(default_factory=set)
    finish_reasons: list[str] = field(default_factory=list)
    usages: list[tuple[int, int]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    ended_with_done: bool = False
    pieces_before_act: int | None = None

    @property
    def text(self) -> str:
        return "".join(self.pieces)


def stream_chat(
    url: str,
    key: str,
    body: dict[str, object],
    *,
    act_after: int | None = None,
    act: Callable[[], object] = lambda: None,
) -> Streamed:
    """One streamed chat, greedy; `act` is called once when so many pieces of text have come."""
    request = {**body, "stream": True, "temperature": 0, "stream_options": {"include_usage": True}}
    headers = {"Authorization": f"Bearer {key}"}
    with (
        httpx.Client(timeout=TIMEOUT_SECONDS, trust_env=False) as client,
        client.stream("POST", f"{url}/v1/chat/completions", headers=headers, json=request) as answer,
    ):
        seen = Streamed(status=answer.status_code)
        for line in answer.iter_lines():
            if not line.startswith("data: "):
                continue
            data = line.removeprefix("data: ")
            seen.ended_with_done = data == "[DONE]"
            if not seen.ended_with_done:
                _take(json.loads(data), seen)
            if act_after is not None and seen.pieces_before_act is None and len(seen.pieces) >= act_after:
                seen.pieces_before_act = len(seen.pieces)
                act()
    return seen


def _take(event: dict[str, object], seen: Streamed) -> None:
    if event.get("error"):
        seen.errors.append(str(event["error"]))
        return
    seen.ids.add(str(event.get("id")))
    usage = event.get("usage")
    if isinstance(usage, dict):
        seen.usages.append((usage["prompt_tokens"], usage["completion_tokens"]))
    choices = event.get("choices")
    for choice in choices if isinstance(choices, list) else []:
        piece = choice.get("delta", {}).get("content")
        if piece:
            seen.pieces.append(piece)
        if choice.get("finish_reason"):
            seen.finish_reasons.append(choice["finish_reason"])

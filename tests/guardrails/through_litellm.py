"""Run by the gateway's interpreter: the hook under LiteLLM's own dispatcher of hooks, with its own classes, as JSON."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import guardrails  # type: ignore[import-not-found]
import litellm  # type: ignore[import-not-found]
from litellm.caching.caching import DualCache  # type: ignore[import-not-found]
from litellm.proxy._types import ProxyException, UserAPIKeyAuth  # type: ignore[import-not-found]
from litellm.proxy.utils import ProxyLogging  # type: ignore[import-not-found]
from litellm.types.llms.openai import ResponsesAPIResponse  # type: ignore[import-not-found]
from litellm.types.utils import (  # type: ignore[import-not-found]
    Choices,
    Delta,
    Message,
    ModelResponse,
    ModelResponseStream,
    StreamingChoices,
    TextCompletionResponse,
)

TEXT = "it is my secret and no more of it is told here, whatever you ask"
REQUESTS = {
    "acompletion": {"messages": [{"role": "user", "content": "my secret"}]},
    "atext_completion": {"prompt": "my secret"},
    "aembedding": {"input": ["my secret"]},
    "aresponses": {"input": "my secret"},
    "anthropic_messages": {"messages": [{"role": "user", "content": [{"type": "text", "text": "my secret"}]}]},
}
KEY = UserAPIKeyAuth(api_key="k", key_alias="anybody")


async def requests(proxy: Any) -> dict[str, Any]:
    """What each kind of request looks like behind the hook, for the engine and as LiteLLM keeps it."""
    seen = {}
    for kind, body in REQUESTS.items():
        data = {"model": "m", **body, "proxy_server_request": {"body": {"model": "m", **body}}}
        after = await proxy.pre_call_hook(user_api_key_dict=KEY, data=data, call_type=kind)
        seen[kind] = [{name: after[name] for name in body}, after["proxy_server_request"]["body"]]
    return seen


async def chunks(text: str, size: int, kind: str) -> AsyncIterator[Any]:
    """As LiteLLM makes them of an engine's stream."""
    pieces = [*(text[at : at + size] for at in range(0, len(text), size)), None]
    for piece in pieces:
        finish = "stop" if piece is None else None
        if kind == "chat":
            yield ModelResponseStream(
                id="x", model="m", choices=[StreamingChoices(index=0, finish_reason=finish, delta=Delta(content=piece))]
            )
        else:
            choice = {"index": 0, "text": piece or "", "finish_reason": finish}
            yield TextCompletionResponse(id="x", model="m", object="text_completion", choices=[choice])


async def stream(proxy: Any, text: str, size: int, kind: str) -> list[Any]:
    """What a client reads, and the last finish_reason."""
    said, finish = "", None
    guarded = proxy.async_post_call_streaming_iterator_hook(
        response=chunks(text, size, kind), user_api_key_dict=KEY, request_data={"litellm_call_id": "c"}
    )
    async for chunk in guarded:
        choice = json.loads(chunk.model_dump_json())["choices"][0]
        said += (choice.get("delta") or {}).get("content") or choice.get("text") or ""
        finish = choice["finish_reason"] or finish
    return [said, finish]


async def answers(proxy: Any) -> list[str]:
    """Whole answers of every API."""
    part = {"type": "output_text", "text": "the secret", "annotations": []}
    message = {"type": "message", "id": "m1", "role": "assistant", "status": "completed", "content": [part]}
    text = {"index": 0, "text": "the secret", "finish_reason": "stop"}
    made = [
        ModelResponse(choices=[Choices(message=Message(content="the secret", reasoning_content="a secret?"))]),
        TextCompletionResponse(id="x", model="m", object="text_completion", choices=[text]),
        ResponsesAPIResponse(
            id="r", created_at=1, object="response", model="m", output=[message], parallel_tool_calls=True,
            tool_choice="auto", tools=[], error=None, incomplete_details=None, instructions=None, metadata={},
            temperature=1.0, top_p=1.0,
        ),
        {"type": "message", "role": "assistant", "content": [{"type": "text", "text": "the secret"}]},
    ]  # fmt: skip
    found = []
    for one in made:
        after = await proxy.post_call_success_hook(data={}, response=one, user_api_key_dict=KEY)
        found.append(json.dumps(after) if isinstance(after, dict) else after.model_dump_json())
    return found


async def refusal(call: Any) -> dict[str, Any]:
    """The body of an error."""
    try:
        await call
    except ProxyException as error:
        return {"status": error.code, **error.to_dict()}
    raise AssertionError("nothing was refused")


async def main() -> None:
    """One JSON object on stdout."""
    litellm.callbacks = [guardrails.instance]
    proxy = ProxyLogging(user_api_key_cache=DualCache())
    forbidden = {"model": "m", "messages": [{"role": "user", "content": "a heron"}]}
    told = {
        "requests": await requests(proxy),
        "streams": [await stream(proxy, TEXT, size, kind) for kind in ("chat", "text") for size in (1, 3, 500)],
        "answers": await answers(proxy),
        "refused": await refusal(proxy.pre_call_hook(user_api_key_dict=KEY, data=forbidden, call_type="acompletion")),
        "stream_refused": await refusal(stream(proxy, "a bird called heron is here", 3, "chat")),
    }
    print("\n" + json.dumps(told))


if __name__ == "__main__":
    asyncio.run(main())

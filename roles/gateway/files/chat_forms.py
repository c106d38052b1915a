"""Requests of every API as the chat requests that engines will see, translated by LiteLLM's own code on copies.

Apart from the hook that counts them (token_window.py), because this is all that depends on how LiteLLM translates.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any


def chat_of(request: Mapping[str, Any], call_type: str) -> dict[str, Any] | None:
    """The chat request that an engine will see; None for what becomes none."""
    if call_type == "anthropic_messages":
        return as_engines_see_it(from_anthropic(request))
    if call_type in {"aresponses", "responses"}:
        return as_engines_see_it(from_responses(request))
    return as_engines_see_it(request) if isinstance(request.get("messages"), list) else None


def as_engines_see_it(request: Mapping[str, Any]) -> dict[str, Any]:
    """What LiteLLM changes in a chat request on its way to vLLM, done by LiteLLM's own code on a copy."""
    from litellm.llms.hosted_vllm.chat.transformation import HostedVLLMChatConfig  # noqa: PLC0415

    vllm = HostedVLLMChatConfig()
    model = str(request.get("model"))
    messages = vllm._transform_messages(copy.deepcopy(request["messages"]), model)
    mapped_names = ("tools", "thinking", "reasoning_effort")
    given = {name: copy.deepcopy(request[name]) for name in mapped_names if request.get(name) is not None}
    mapped = vllm.map_openai_params(given, {}, model, False)
    unchanged = {name: value for name, value in request.items() if name not in mapped_names}
    return {**unchanged, **mapped, "messages": messages}


def from_anthropic(request: Mapping[str, Any]) -> dict[str, Any]:
    """A request of the Messages API as a chat request."""
    from litellm.llms.anthropic.messages.adapters.transformation import (  # noqa: PLC0415
        LiteLLMAnthropicMessagesAdapter,
    )

    translated, _ = LiteLLMAnthropicMessagesAdapter().translate_anthropic_to_openai(copy.deepcopy(dict(request)))
    return dict(translated)


def from_responses(request: Mapping[str, Any]) -> dict[str, Any]:
    """A request of the Responses API as a chat request."""
    from litellm.responses.litellm_completion_transformation.transformation import (  # noqa: PLC0415
        LiteLLMCompletionResponsesConfig,
    )

    copied = copy.deepcopy({name: value for name, value in request.items() if name not in {"model", "input"}})
    translated = LiteLLMCompletionResponsesConfig.transform_responses_api_request_to_chat_completion_request(
        model=str(request.get("model")), input=copy.deepcopy(request["input"]), responses_api_request=copied
    )
    return dict(translated)

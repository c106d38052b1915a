"""Counts a prompt as the engine will: the model's own tokenizer and chat template, no torch, no network.

What vLLM does to a request before it counts is repeated here step by step (vLLM 0.32.0: renderers/hf.py,
renderers/chat_utils.py, entrypoints/openai/chat_completion/protocol.py). It stands apart from the gateway's
hook so that it can be tested, and run as a check, without a gateway.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Arguments of apply_chat_template that are not variables of a template; vLLM refuses or ignores them in a request.
_NOT_FOR_TEMPLATES = frozenset(
    {
        "chat_template",
        "conversation",
        "tools",
        "tokenize",
        "return_tensors",
        "return_dict",
        "padding",
        "truncation",
        "max_length",
        "return_assistant_tokens_mask",
        "tokenizer_kwargs",
        "processor_kwargs",
    }
)
# Where a request says what is counted, and how much of it takes less time to count (some 0.3 ms) than a thread's turn.
_SAYING = ("messages", "prompt", "input", "instructions", "system", "tools", "functions", "documents", "chat_template",
           "chat_template_kwargs", "response_format", "extra_body")  # fmt: skip
SHORT_CHARACTERS = 2_000
_FIRST_PROBE, _SECOND_PROBE = "first probe", "second probe"


class RulerError(Exception):
    """A tokenizer that cannot be used; one line for the operator."""


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """Tokens of one prompt. `exact` is false when counting stopped early because the text cannot fit anyway."""

    tokens: int
    exact: bool = True


@dataclass(frozen=True, kw_only=True)
class PromptRuler:
    """One model's ruler, and what a prompt of it may hold."""

    window_tokens: int
    max_input_tokens: int
    tokenizer: Any
    takes_content_parts: bool
    longest_token_chars: int

    def chat(self, request: Mapping[str, Any]) -> Measurement:
        """A chat request, in OpenAI's form with vLLM's additions."""
        conversation = [
            _message_for_template(message, as_parts=self.takes_content_parts) for message in request["messages"]
        ]
        template_options = {
            "add_generation_prompt": request.get("add_generation_prompt", True),
            "continue_final_message": request.get("continue_final_message", False),
            **_reasoning_options(request),
            **({"documents": request["documents"]} if request.get("documents") else {}),
            **(request.get("chat_template_kwargs") or {}),
        }
        tools = request.get("tools")
        text = self.tokenizer.apply_chat_template(
            conversation,
            tools=None if tools is None else [_tool_for_template(tool) for tool in tools],
            tokenize=False,
            **{name: value for name, value in template_options.items() if name not in _NOT_FOR_TEMPLATES},
        )
        measured = self.text(text, add_special_tokens=bool(request.get("add_special_tokens", False)))
        return _truncated(measured, request.get("truncate_prompt_tokens"))

    def completion(self, request: Mapping[str, Any]) -> Measurement:
        """The longest prompt of a completion request: a string, strings, token ids, or lists of token ids."""
        prompt = request["prompt"]
        prompts = prompt if isinstance(prompt, list) and not all(isinstance(item, int) for item in prompt) else [prompt]
        add_special_tokens = bool(request.get("add_special_tokens", True))
        measured = [
            self.text(item, add_special_tokens=add_special_tokens)
            if isinstance(item, str)
            else Measurement(tokens=len(item))
            for item in prompts
        ]
        longest = max(measured, key=lambda one: one.tokens, default=Measurement(tokens=0))
        return _truncated(longest, request.get("truncate_prompt_tokens"))

    def text(self, text: str, *, add_special_tokens: bool) -> Measurement:
        """Plain text. Text that no tokenization could fit into the window is not tokenized: the bound is vLLM's own."""
        if len(text) > self.window_tokens * self.longest_token_chars:
            return Measurement(tokens=math.ceil(len(text) / self.longest_token_chars), exact=False)
        return Measurement(tokens=len(self._encode(text, add_special_tokens)))

    def _encode(self, text: str, add_special_tokens: bool) -> Sequence[int]:
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        if backend is None:
            return list(self.tokenizer.encode(text, add_special_tokens=add_special_tokens))
        # Neither truncation nor padding is ever switched on, so threads may share the tokenizer.
        ids: list[int] = backend.encode_batch_fast([text], add_special_tokens=add_special_tokens)[0].ids
        return ids


def is_short(request: Mapping[str, Any]) -> bool:
    """Whether everything that a request says has few characters; found out without walking through a long one."""
    left = SHORT_CHARACTERS
    waiting = [request.get(name) for name in _SAYING]
    while waiting and left >= 0:
        one = waiting.pop()
        left -= len(one) if isinstance(one, str) else 1
        if isinstance(one, Mapping | list | tuple):
            left -= len(one)
            if left >= 0:
                waiting += one.values() if isinstance(one, Mapping) else one
    return left >= 0


def load_ruler(directory: Path, *, window_tokens: int, max_input_tokens: int, chats: bool = True) -> PromptRuler:
    """Loads a tokenizer from a local directory; raises RulerError in one line when that cannot be done.

    An embedding model (not `chats`) needs no chat template.
    """
    from transformers import AutoTokenizer  # noqa: PLC0415  (a second of imports, wasted on whoever only wants the types)

    if not directory.is_dir():
        raise RulerError(f"{directory}: no such directory; the role copies the tokenizer there from the model store")
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(directory), local_files_only=True)
    except Exception as error:  # what tokenizers raises for a file that it cannot parse; re-raised in one line
        raise RulerError(f"{directory}: no usable tokenizer ({type(error).__name__}: {_first_line(error)})") from error
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        backend.no_truncation()
        backend.no_padding()
    if chats and not tokenizer.chat_template:
        raise RulerError(f"{directory}: the tokenizer has no chat template; chat requests could not be counted")
    return PromptRuler(
        window_tokens=window_tokens,
        max_input_tokens=max_input_tokens,
        tokenizer=tokenizer,
        takes_content_parts=_takes_content_parts(tokenizer.apply_chat_template),
        longest_token_chars=max(map(len, tokenizer.get_vocab())),
    )


def _takes_content_parts(render: Callable[..., Any]) -> bool:
    """Whether the template walks through a list of content parts itself; if not, their text is joined beforehand.

    vLLM reads this off the template's syntax tree; rendering a probe answers the same question.
    """
    parts = [{"type": "text", "text": _FIRST_PROBE}, {"type": "text", "text": _SECOND_PROBE}]
    try:
        text = render([{"role": "user", "content": parts}], tokenize=False)
    except Exception:  # noqa: BLE001  (whatever a template does with what it does not know, it does not take it)
        return False
    return _FIRST_PROBE in text and _SECOND_PROBE in text and "'text'" not in text


def _message_for_template(message: Mapping[str, Any], *, as_parts: bool) -> dict[str, Any]:
    role = message["role"]
    rendered: dict[str, Any] = {
        "role": role,
        "content": _content_for_template(message.get("content"), as_parts=as_parts),
    }
    if role == "tool" and isinstance(rendered["content"], list):
        rendered["content"] = "\n".join(part["text"] for part in rendered["content"])
    if role == "assistant":
        if message.get("tool_calls"):
            rendered["tool_calls"] = [_tool_call_for_template(call) for call in message["tool_calls"]]
        reasoning = message.get("reasoning")
        if reasoning is not None:
            rendered["reasoning"] = rendered["reasoning_content"] = reasoning
    for name in ("tool_call_id", "name"):
        if isinstance(message.get(name), str):
            rendered[name] = message[name]
    return rendered


def _content_for_template(content: Any, *, as_parts: bool) -> str | list[dict[str, str]]:
    """Text of a message as vLLM hands it to the template. Only text can be counted here; the engine counts the rest."""
    if isinstance(content, str):
        texts = [content]
    else:
        texts = [part if isinstance(part, str) else part["text"] for part in content or [] if _is_text(part)]
    return [{"type": "text", "text": text} for text in texts] if as_parts else "\n".join(texts)


def _is_text(part: Any) -> bool:
    return isinstance(part, str) or (isinstance(part, Mapping) and isinstance(part.get("text"), str))


def _tool_call_for_template(call: Mapping[str, Any]) -> dict[str, Any]:
    """Templates expect the arguments as an object; clients send them as JSON text."""
    function = dict(call.get("function") or {})
    arguments = function.get("arguments") or {}
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except ValueError:
            arguments = {}
    return {**call, "function": {**function, "arguments": arguments}}


def _tool_for_template(tool: Mapping[str, Any]) -> dict[str, Any]:
    """A tool with exactly the fields, in the order, that vLLM's own model of it writes."""
    function = tool.get("function") or {}
    rendered = {name: function.get(name) for name in ("name", "description", "parameters")}
    rendered |= {name: function[name] for name in ("strict", "defer_loading") if function.get(name) is not None}
    return {"type": "function", "function": rendered}


def _reasoning_options(request: Mapping[str, Any]) -> dict[str, Any]:
    effort = request.get("reasoning_effort")
    return {} if effort is None else {"reasoning_effort": effort, "enable_thinking": effort != "none"}


def _truncated(measured: Measurement, truncate_prompt_tokens: Any) -> Measurement:
    """A request may ask the engine to cut its prompt; -1 means "to what fits", which always fits."""
    if not isinstance(truncate_prompt_tokens, int):
        return measured
    return Measurement(tokens=max(0, min(measured.tokens, truncate_prompt_tokens)))


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "no message")

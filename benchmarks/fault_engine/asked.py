"""Asked: one request as the fault engine understands it, refused with vLLM's words where vLLM would refuse it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.fault_engine import model

COMPLETION_MAX_TOKENS = 16


class Refused(Exception):
    """An answer with an error status."""

    def __init__(self, status: int, message: str, kind: str = "BadRequestError") -> None:
        super().__init__(message)
        self.status, self.kind = status, kind


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One valid request."""

    chat: bool
    model: str
    prompts: tuple[tuple[int, ...], ...]
    max_tokens: int
    min_tokens: int
    count: int
    stream: bool
    include_usage: bool
    continuous_usage: bool
    return_token_ids: bool
    echo: bool
    ignore_eos: bool
    stop: tuple[str, ...]
    stop_token_ids: frozenset[int]
    include_stop: bool
    logprobs: int | None  # how many alternatives; None = none asked for
    temperature: float
    seed: int | None
    forced_tool: str  # the function that must be called; "" = none
    penalized: bool  # presence and frequency penalties look at generated tokens only


def asked_of(body: Mapping[str, Any], *, chat: bool, served: str, max_model_len: int, reasoning: bool) -> Asked:
    """What a request's JSON asks for."""
    name = body.get("model") or served
    if name != served:
        raise Refused(404, f"The model `{name}` does not exist.", "NotFoundError")
    prompts = (_chat_prompt(body, reasoning),) if chat else _prompts(body.get("prompt"))
    longest = max(len(prompt) for prompt in prompts)
    wished = body.get("max_completion_tokens") or body.get("max_tokens")
    if wished is None:
        wished = max_model_len - longest if chat else COMPLETION_MAX_TOKENS
    if not isinstance(wished, int) or wished < 1:
        raise Refused(400, f"max_tokens must be at least 1, got {wished}.")
    if longest + wished > max_model_len:
        raise Refused(
            400,
            f"This model's maximum context length is {max_model_len} tokens. However, you requested {wished} output "
            f"tokens and your prompt contains {longest} input tokens, for a total of {longest + wished} tokens.",
        )
    options = body.get("stream_options") or {}
    stream = bool(body.get("stream"))
    if options and not stream:
        raise Refused(400, "Stream options can only be defined when `stream=True`.")
    stop = body.get("stop") or []
    temperature = float(1.0 if body.get("temperature") is None else body["temperature"])
    count = int(body.get("n") or 1)
    if count > 1 and temperature == 0:
        raise Refused(400, f"n must be 1 when using greedy sampling, got {count}.")
    logprobs = body.get("logprobs")
    return Asked(
        chat=chat,
        model=served,
        prompts=prompts,
        max_tokens=wished,
        min_tokens=int(body.get("min_tokens") or 0),
        count=count,
        stream=stream,
        include_usage=bool(options.get("include_usage")),
        continuous_usage=bool(options.get("include_usage") and options.get("continuous_usage_stats")),
        return_token_ids=bool(body.get("return_token_ids")),
        echo=bool(body.get("echo")) and not chat,
        ignore_eos=bool(body.get("ignore_eos")),
        stop=(stop,) if isinstance(stop, str) else tuple(stop),
        stop_token_ids=frozenset(body.get("stop_token_ids") or ()),
        include_stop=bool(body.get("include_stop_str_in_output")),
        logprobs=_logprobs(logprobs, body.get("top_logprobs"), chat),
        temperature=temperature,
        seed=body.get("seed"),
        forced_tool=_forced_tool(body.get("tool_choice")) if chat else "",
        penalized=bool(body.get("presence_penalty") or body.get("frequency_penalty")),
    )


def _logprobs(logprobs: Any, top: Any, chat: bool) -> int | None:
    if chat:
        return int(top or 0) if logprobs else None
    return None if logprobs is None else int(logprobs)


def _forced_tool(choice: Any) -> str:
    return str(choice["function"]["name"]) if isinstance(choice, dict) else ""


def _chat_prompt(body: Mapping[str, Any], reasoning: bool) -> tuple[int, ...]:
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise Refused(400, "[{'type': 'missing', 'loc': ('body', 'messages'), 'msg': 'Field required'}]")
    ids: list[int] = []
    for message in messages:
        ids += [model.IM_START, *model.encode(f"{message['role']}\n{_text_of(message.get('content'))}")]
        ids += [model.IM_END, *model.encode("\n")]
    if body.get("continue_final_message"):
        del ids[-2:]
    elif body.get("add_generation_prompt", True):
        ids += [model.IM_START, *model.encode("assistant\n"), *([model.THINK] if reasoning else [])]
    return tuple(ids)


def _text_of(content: Any) -> str:
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content)
    return str(content or "")


def _prompts(prompt: Any) -> tuple[tuple[int, ...], ...]:
    if isinstance(prompt, str):
        return (tuple(model.encode(prompt)),)
    if not isinstance(prompt, list) or not prompt:
        raise Refused(400, "Either prompt or prompt_embeds must be provided and non-empty.")
    if all(isinstance(item, int) for item in prompt):
        return (_checked(prompt),)
    return tuple(tuple(model.encode(item)) if isinstance(item, str) else _checked(item) for item in prompt)


def _checked(ids: Sequence[int]) -> tuple[int, ...]:
    worst = max(ids)
    if worst >= model.VOCABULARY_COUNT or min(ids) < 0:
        raise Refused(400, f"Token id {worst} is out of vocabulary")
    return tuple(ids)

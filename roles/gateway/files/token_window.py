"""The gateway's hook that refuses what cannot fit into a model's window, before any engine sees it.

LiteLLM counts the tokens of a model it does not know with OpenAI's tokenizer and never looks at `max_tokens`;
an engine shortens an answer silently when the window ends. So each prompt is counted here with the model's own
tokenizer (see prompt_ruler.py), and prompt + max_tokens beyond the window is answered with HTTP 400 and the
numbers.

A model with `context_window_fallbacks` is not refused at once where one of them takes the prompt: LiteLLM's router is
told that this model cannot, and goes on to the next, as it does when an engine says so.

The hook also sends the request's id to the engine as X-Request-Id: what the client reads as `x-litellm-call-id`
stands in the engine's log, and the id of a refused request does not.

Run as a program it checks that every tokenizer can be used, in one line per fault: `token_window.py CONFIG.json`.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import json
import logging
import os
import re
import secrets
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType
from typing import Any

from chat_forms import chat_of
from prompt_ruler import Measurement, PromptRuler, RulerError, is_short, load_ruler

CONFIG_VARIABLE = "TOKEN_WINDOW_CONFIG"
# LiteLLM cannot pass numbers on; it would try every engine, put each into cooldown and answer 500.
NUMBERS_REFUSED = "This gateway does not pass on prompts given as token ids. Send the prompt as text."
_LOG = logging.getLogger("token_window")
_OUTSIDE_AN_ID = re.compile(r"[^A-Za-z0-9._:-]")
# Why models cannot take the present request, by ruler: told to the router when it comes to one of them.
_too_long: contextvars.ContextVar[Mapping[int, str]] = contextvars.ContextVar("too_long", default={})  # noqa: B039
# Counting is CPU work that frees the interpreter; a pool of its own keeps long prompts from blocking LiteLLM's threads.
_COUNTING = ThreadPoolExecutor(max_workers=4, thread_name_prefix="token-window")


def _read(config_path: Path) -> Mapping[str, Any]:
    try:
        content: Mapping[str, Any] = json.loads(config_path.read_text(encoding="utf-8"))
        return {"models": content["models"], "context_window_fallbacks": content.get("context_window_fallbacks", {})}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RulerError(f"{config_path}: {type(error).__name__}: {error}") from error


def load_fallbacks(config_path: Path) -> dict[str, tuple[str, ...]]:
    """The models that a model's long prompts may go to, theirs included, in the order in which they are asked."""
    declared: Mapping[str, list[str]] = _read(config_path)["context_window_fallbacks"]
    found: dict[str, tuple[str, ...]] = {}
    for name in declared:
        onward: dict[str, None] = {}
        waiting = list(declared[name])
        while waiting:
            target = waiting.pop(0)
            if target not in onward:
                onward[target] = None
                waiting += declared.get(target, [])
        found[name] = tuple(onward)
    return found


def load_rulers(config_path: Path) -> dict[str, PromptRuler]:
    """One ruler per public model name and per deployment id, for both are valid in a request's `model`."""
    models = _read(config_path)["models"]
    rulers: dict[str, PromptRuler] = {}
    for name, model in models.items():
        max_input_tokens = model["max_input_tokens"]
        window_tokens = max_input_tokens + model["max_output_tokens"]
        directory = Path(model["tokenizer_directory"])
        try:
            ruler = load_ruler(
                directory,
                window_tokens=window_tokens,
                max_input_tokens=max_input_tokens,
                chats=model.get("task", "chat") == "chat",
            )
        except RulerError as error:
            raise RulerError(f"model {name}: {error}") from error
        rulers |= dict.fromkeys([name, *model["deployments"]], ruler)
    return rulers


def refusal(
    measured: Measurement, *, model: str, window_tokens: int, max_input_tokens: int, asked_tokens: int | None
) -> str | None:
    """Why a request cannot fit, with the numbers, or None when it fits.

    The declared `max_input_tokens` is a promise to both sides: what is longer is refused even if its answer would fit.
    """
    prompt = f"{'' if measured.exact else 'at least '}{measured.tokens}"
    if measured.tokens > max_input_tokens:
        excess = measured.tokens - max_input_tokens
        kept = f"the other {window_tokens - max_input_tokens} of its window of {window_tokens} are kept for the answer"
        takes = f"{model} takes prompts of at most {max_input_tokens} tokens"
        takes += f" ({kept})" if window_tokens > max_input_tokens else ""
        return f"{takes}; your prompt has {prompt}: {excess} too many. Shorten the prompt."
    if asked_tokens is None or measured.tokens + asked_tokens <= window_tokens:
        return None
    excess, room = measured.tokens + asked_tokens - window_tokens, window_tokens - measured.tokens
    window = f"{model} has a window of {window_tokens} tokens; your prompt has {prompt}"
    advice = f"Shorten the prompt or ask for at most {room}."
    return f"{window} and max_tokens asks for {asked_tokens}: {excess} too many. {advice}"


def engine_request_id(call_id: str) -> str:
    """The id for the engine's log: the call's own, made unique, since engines build the response id from it.

    A client may choose its call id. LiteLLM books spend under the response id, once: a repeated id must not
    swallow a row.
    """
    return f"{_OUTSIDE_AN_ID.sub('_', call_id)}-{secrets.token_hex(4)}"


def asked_output_tokens(data: Mapping[str, Any]) -> int | None:
    """The answer's size in tokens that the client asks for, under whichever of its names."""
    for name in ("max_completion_tokens", "max_output_tokens", "max_tokens", "max_tokens_to_sample"):
        value = data.get(name)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    return None


def has_token_ids(prompt: Any) -> bool:
    """Whether a completion's prompt is given as numbers."""
    return isinstance(prompt, list) and any(isinstance(item, int | list) for item in prompt)


def measure(data: Mapping[str, Any], call_type: str, ruler: PromptRuler) -> Measurement | None:
    """Counts the prompt of any request that has one; None for calls without a prompt."""
    request = {**(data.get("extra_body") or {}), **data}
    if call_type == "aembedding" and isinstance(request.get("input"), str | list):
        return ruler.completion({**request, "prompt": request["input"]})  # each text for itself, like prompts
    if (chat := chat_of(request, call_type)) is not None:
        return ruler.chat(chat)
    if isinstance(request.get("prompt"), str | list):
        return ruler.completion(request)
    return None


def make_hook(
    rulers: Mapping[str, PromptRuler], fallbacks: Mapping[str, tuple[str, ...]] = MappingProxyType({})
) -> Any:
    """The object LiteLLM calls. Its base classes exist in the gateway's interpreter only, hence a function."""
    from litellm.exceptions import ContextWindowExceededError  # noqa: PLC0415
    from litellm.integrations.custom_logger import CustomLogger  # noqa: PLC0415
    from litellm.proxy._types import ProxyException  # noqa: PLC0415

    class RefusedPrompt(ProxyException):
        """HTTP 400 in OpenAI's shape. LiteLLM repeats the status in `code`; clients look for a word there."""

        def __init__(self, message: str, *, word: str, parameter: str | None) -> None:
            super().__init__(message=message, type="invalid_request_error", param=parameter, code=400)
            self.word = word

        def to_dict(self) -> dict[str, Any]:
            return {**super().to_dict(), "code": self.word}

    class TokenWindow(CustomLogger):
        enforces_request_content = True

        async def async_pre_call_hook(
            self,
            user_api_key_dict: Any,  # noqa: ARG002  (LiteLLM passes all four by name)
            cache: Any,  # noqa: ARG002
            data: dict[str, Any],
            call_type: str,
        ) -> None:
            model = str(data.get("model"))
            # LiteLLM asks several models when they stand in one name.
            named = [name.strip() for name in model.split(",")]
            _too_long.set({})
            for name in named:
                if name in rulers and (reason := await self._judge(data, call_type, name)) is not None:
                    reasons = {id(rulers[name]): reason}
                    if len(named) > 1 or not await self._goes_on(data, call_type, name, reasons):
                        raise RefusedPrompt(reason, word="context_length_exceeded", parameter=_prompt_parameter(data))
                    _too_long.set(reasons)
            if call_id := data.get("litellm_call_id"):
                headers = {**(data.get("extra_headers") or {}), "x-request-id": engine_request_id(str(call_id))}
                data["extra_headers"] = headers

        async def _goes_on(self, data: dict[str, Any], call_type: str, model: str, reasons: dict[int, str]) -> bool:
            """Whether another model takes the prompt; `reasons` gets why the others cannot."""
            if data.get("disable_fallbacks"):
                return False
            takes = False
            for target in fallbacks.get(model, ()):
                reason = await self._judge(data, call_type, target) if target in rulers else None
                takes = takes or reason is None
                if reason is not None:
                    reasons[id(rulers[target])] = reason
            return takes

        async def async_filter_deployments(
            self,
            model: str,
            healthy_deployments: list[Any],
            messages: Any,  # noqa: ARG002
            request_kwargs: dict[str, Any] | None = None,  # noqa: ARG002
            parent_otel_span: Any = None,  # noqa: ARG002
        ) -> list[Any]:
            reason = _too_long.get().get(id(rulers.get(model)))
            if reason is not None:
                raise ContextWindowExceededError(message=reason, model=model, llm_provider="")
            return healthy_deployments

        async def _judge(self, data: dict[str, Any], call_type: str, model: str) -> str | None:
            """Why the model cannot take the request, or None."""
            ruler = rulers[model]
            try:
                if is_short(data):  # counted sooner than handed to a thread
                    measured = measure(data, call_type, ruler)
                else:
                    loop = asyncio.get_running_loop()
                    measured = await loop.run_in_executor(_COUNTING, measure, data, call_type, ruler)
            except Exception as error:  # noqa: BLE001  (the engine holds the same ruler: it judges, and explains)
                _LOG.warning(
                    "call %s: a prompt for %s could not be counted (%s: %s); it goes on and the engine judges it",
                    data.get("litellm_call_id"),
                    model,
                    type(error).__name__,
                    error,
                )
                return None
            if measured is None:
                return None
            reason = refusal(
                measured,
                model=model,
                window_tokens=ruler.window_tokens,
                max_input_tokens=ruler.max_input_tokens,
                asked_tokens=asked_output_tokens(data),
            )
            if reason is None and has_token_ids(data.get("prompt")):
                raise RefusedPrompt(NUMBERS_REFUSED, word="unsupported_prompt", parameter="prompt")
            return reason

    return TokenWindow()


def _prompt_parameter(data: Mapping[str, Any]) -> str | None:
    return next((name for name in ("messages", "prompt", "input") if name in data), None)


def leave_estimates_aside(known: Callable[[str], bool]) -> None:
    """Keeps LiteLLM's estimate from refusing what the exact count has let through.

    LiteLLM's pre-call checks compare an estimate by OpenAI's tokenizer with `max_input_tokens` alone. For the
    models counted here that check has been made already, exactly; its other checks stay. It looks up each deployment's
    window twice for that, half a millisecond each time, so they have none there.
    """
    from litellm.router_python_core import PythonCore  # noqa: PLC0415

    estimate, window_of = PythonCore._acount_pre_call_check_tokens, PythonCore._deployment_max_input_tokens

    async def only_for_strangers(self: Any, model: str, *arguments: Any, **options: Any) -> int | None:
        return None if known(model) else await estimate(self, model, *arguments, **options)

    def window_of_strangers(self: Any, model: str, deployment: Mapping[str, Any]) -> int | None:
        return None if known(model) else window_of(self, model, deployment)

    PythonCore._acount_pre_call_check_tokens = only_for_strangers
    PythonCore._deployment_max_input_tokens = window_of_strangers


@functools.cache
def _gateway_hook() -> Any:
    path = Path(os.environ[CONFIG_VARIABLE])
    rulers = load_rulers(path)
    leave_estimates_aside(rulers.__contains__)
    return make_hook(rulers, load_fallbacks(path))


def __getattr__(name: str) -> Any:
    """LiteLLM takes `token_window.instance`; made when asked for, so that importing this module needs no gateway."""
    if name == "instance":
        return _gateway_hook()
    raise AttributeError(name)


def main() -> int:
    """Loads every tokenizer; prints one line when one cannot be used."""
    try:
        rulers = load_rulers(Path(sys.argv[1]))
    except RulerError as error:
        print(f"token_window: {error}", file=sys.stderr)
        return 1
    print(f"token_window: {len(set(map(id, rulers.values())))} tokenizers are ready", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())

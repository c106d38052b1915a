"""The gateway's hook that masks or refuses what guardrails find, in requests and in answers.

It looks at nothing itself: the service beside the gateway does (`python -m guard serve`), in processes of its own, so
that no request waits for another one's text. Here stands which guardrail concerns which key, what happens when one
cannot look (`on_failure`), and what a client is told. Everything a client sent is replaced before the other hooks see
it: prompts are counted, cached, recorded and sent to engines masked. Loaded only where guardrails are declared.
"""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any

from guard.body import Unreadable, answer_slots, client_fields, fill_slot, slot_texts, texts_of, with_texts
from guard.chunks import masked_chunks
from guard.errors import GuardUnavailable
from guard.rules import Rule, Rules
from guard.spans import Span, masked
from guard.stream import StreamMask
from guard.wire import ask

CONFIG_VARIABLE = "GUARDRAILS_CONFIG"
# Where LiteLLM's hooks see the stream in a form that is masked here. Other ones are answered whole.
STREAMED = frozenset({"acompletion", "completion", "atext_completion", "text_completion"})
READ = STREAMED | {
    "aembedding",
    "embedding",
    "embeddings",
    "aresponses",
    "responses",
    "anthropic_messages",
    "arerank",
    "rerank",
    "amoderation",
    "moderation",
}
# These would give the answer once more, past the mask.
RAW_ANSWERS = ("logprobs", "top_logprobs", "prompt_logprobs", "return_token_ids", "return_tokens_as_token_ids")
# Under one of these names stands what a request asks.
ASKED = ("messages", "prompt", "input")
_LOG = logging.getLogger("guardrails")


class Guarding:
    """What is asked of the service and done with its answers. `refusal` makes the error that a client gets."""

    def __init__(self, rules: Rules, refusal: Callable[[str, str, int], Exception]) -> None:
        self._rules = rules
        self._refusal = refusal

    def concerned(self, key: Any, direction: str) -> list[Rule]:
        """The guardrails for a key."""
        alias = getattr(key, "key_alias", None)
        return [rule for rule in self._rules.rules if rule.concerns(alias=alias, direction=direction)]

    async def look(
        self, rule: Rule, texts: Sequence[tuple[str, str]], *, what: str, call: Any
    ) -> list[tuple[Span, ...]]:
        """What a guardrail finds; nothing where it may fail open, and does."""
        try:
            found = await ask(self._rules.socket, rule=rule.name, texts=texts, seconds=rule.timeout_seconds)
        except GuardUnavailable as error:
            passes = rule.on_failure == "open"
            ending = "it passes" if passes else "it is stopped"
            _LOG.warning("call %s: guardrail %s could not look at the %s (%s); as declared, %s", call, rule.name, what,
                         error, ending)  # fmt: skip
            if passes:
                return [()] * len(texts)
            message = (
                f"The guardrail {rule.name} could not look at this {what} ({error}), and nothing passes without it. "
                "Try again in a moment; if it stays so, tell your operators the name of the guardrail."
            )
            raise self._refusal(message, "guardrail_unavailable", HTTPStatus.SERVICE_UNAVAILABLE) from None
        if rule.action == "block" and any(found):
            labels = ", ".join(sorted({span.label for spans in found for span in spans} - {rule.name}))
            advice = "Nothing was sent to a model. Take that out and send it again"
            raise self._refused(
                f"The guardrail {rule.name} refuses this {what}{f' ({labels})' if labels else ''}. "
                f"{advice if what == 'request' else 'Ask for something else'}; "
                "your operators can tell what the guardrail is for."
            )
        return found

    async def mask_request(self, key: Any, data: dict[str, Any], call_type: str) -> None:
        """Everything that the client sent, in place, before anything else sees it."""
        inward = self.concerned(key, "in")
        if self.concerned(key, "out"):
            self._refuse_what_is_not_masked(data, call_type)
        if not inward:
            return
        _log_instead(data, [])
        sent = (data.get("proxy_server_request") or {}).get("body")
        fields = client_fields(data, sent if isinstance(sent, dict) else data)
        refuses = self._rules.unreadable == "refuse"
        if refuses and call_type not in READ:
            raise self._refused(f"The guardrails of this gateway cannot look at requests of this kind ({call_type}).")
        try:
            texts = texts_of(fields, refuses_unreadable=refuses)
        except Unreadable as what:
            raise self._refused(
                f"The guardrail {inward[0].name} cannot look at {what}. Send text only; your operators can let it pass "
                "(unreadable: pass)."
            ) from None
        texts = await self.mask_texts(inward, texts, what="request", call=data.get("litellm_call_id"))
        changed = with_texts(fields, (text for _, text in texts))
        _log_instead(data, next((changed[name] for name in ASKED if name in changed), []))
        data.update(changed)
        if isinstance(sent, dict):
            sent.update(changed)

    async def mask_texts(
        self, rules: Sequence[Rule], texts: list[tuple[str, str]], *, what: str, call: Any
    ) -> list[tuple[str, str]]:
        """By one guardrail after the other."""
        for rule in rules if texts else ():
            found = await self.look(rule, texts, what=what, call=call)
            texts = [(role, masked(text, spans)) for (role, text), spans in zip(texts, found, strict=True)]
        return texts

    async def mask_answer(self, key: Any, response: Any, call: Any) -> None:
        """A whole answer, in place."""
        outward = self.concerned(key, "out")
        slots = [slot for slot in answer_slots(response) if slot_texts(slot)] if outward else []
        before = [("assistant", slot_texts(slot)) for slot in slots]
        after = await self.mask_texts(outward, before, what="answer", call=call)
        for slot, (_, old), (_, new) in zip(slots, before, after, strict=True):
            if new != old:
                fill_slot(slot, new)

    def mask_stream(self, key: Any, chunks: AsyncIterator[Any], call: Any) -> AsyncIterator[Any]:
        """A stream, chunk by chunk."""
        outward = self.concerned(key, "out")

        def mask_of(rule: Rule) -> StreamMask:
            async def find(text: str) -> Sequence[Span]:
                return (await self.look(rule, [("assistant", text)], what="answer", call=call))[0]

            return StreamMask(find, rule.hold)

        return masked_chunks(chunks, lambda: [mask_of(rule) for rule in outward]) if outward else chunks

    def _refuse_what_is_not_masked(self, data: Mapping[str, Any], call_type: str) -> None:
        if data.get("stream") and call_type not in STREAMED:
            raise self._refused(
                "Answers are masked here, which streams of this API cannot be. Ask without `stream`, or through "
                "/v1/chat/completions or /v1/completions."
            )
        asked = {**(data.get("extra_body") or {}), **data}
        for name in RAW_ANSWERS:
            if asked.get(name) not in (None, False):
                raise self._refused(f"Answers are masked here, and `{name}` would give them unmasked. Ask without it.")

    def _refused(self, message: str) -> Exception:
        return self._refusal(message, "guardrail_refused", HTTPStatus.BAD_REQUEST)


def _log_instead(data: Mapping[str, Any], asked: Any) -> None:
    """LiteLLM has put aside what was asked, for whoever logs the request, before any hook was called."""
    log = data.get("litellm_logging_obj")
    if log is not None:
        log.update_messages(asked)


def make_hook(rules: Rules) -> Any:
    """The object LiteLLM calls. Its base classes exist in the gateway's interpreter only, hence a function."""
    from litellm.integrations.custom_logger import CustomLogger  # noqa: PLC0415
    from litellm.proxy._types import ProxyException  # noqa: PLC0415

    class Refused(ProxyException):
        """In OpenAI's shape. LiteLLM repeats the status in `code`; clients look for a word there."""

        def __init__(self, message: str, word: str, status: int) -> None:
            super().__init__(message=message, type=word, param=None, code=int(status))
            self.word = word

        def to_dict(self) -> dict[str, Any]:
            return {**super().to_dict(), "code": self.word}

    guarding = Guarding(rules, Refused)

    class Guardrails(CustomLogger):
        enforces_request_content = True

        async def async_pre_call_hook(
            self,
            user_api_key_dict: Any,
            cache: Any,  # noqa: ARG002  (LiteLLM passes all four by name)
            data: dict[str, Any],
            call_type: str,
        ) -> None:
            await guarding.mask_request(user_api_key_dict, data, call_type)

    if not any("out" in rule.directions for rule in rules.rules):
        return Guardrails()

    # A class of its own: LiteLLM takes every stream apart for a hook that has these methods, whatever they do. It looks
    # for each method in the class itself, not in those above it.
    class GuardrailsBothWays(Guardrails):
        async_pre_call_hook = Guardrails.async_pre_call_hook

        async def async_post_call_success_hook(
            self, data: dict[str, Any], user_api_key_dict: Any, response: Any
        ) -> Any:
            await guarding.mask_answer(user_api_key_dict, response, data.get("litellm_call_id"))
            return response

        async def async_post_call_streaming_iterator_hook(
            self, user_api_key_dict: Any, response: AsyncIterator[Any], request_data: dict[str, Any]
        ) -> AsyncIterator[Any]:
            call = request_data.get("litellm_call_id")
            async for chunk in guarding.mask_stream(user_api_key_dict, response, call):
                yield chunk

    return GuardrailsBothWays()


@functools.cache
def _gateway_hook() -> Any:
    return make_hook(Rules.load(Path(os.environ[CONFIG_VARIABLE])))


def __getattr__(name: str) -> Any:
    """LiteLLM takes `guardrails.instance`; made when asked for, so that importing this module needs no gateway."""
    if name == "instance":
        return _gateway_hook()
    raise AttributeError(name)

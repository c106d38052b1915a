"""Asking: what a request wants, how its answer can go on after a fault, and what each engine is asked for.

Two ways to go on. *Continue*: another engine gets the prompt's ids and the delivered ids; it needs one prefill.
*Replay*: another engine gets the same request again and whatever has been delivered already is checked and dropped;
it works for whatever depends on more than ids (parsers, grammars, penalties, several choices), if sampling repeats:
greedy, or with a seed, which the relay adds where the client gave none.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from random import SystemRandom
from typing import Any, Literal

How = Literal["continue", "replay"]
CHARACTERS_PER_TOKEN = 4  # a guess, for load and timers only
ANSWER_TOKENS_EXPECTED = 512  # the same, where a client sets no limit
SEED_BITS = 31
COUNT_MAX = 2**31 - 1  # whatever is more is refused as well

CARRIED = frozenset(
    {
        "allowed_token_ids",
        "cache_salt",
        "ignore_eos",
        "logit_bias",
        "min_p",
        "model",
        "priority",
        "repetition_penalty",  # vLLM counts prompt and answer alike, so that ids in the prompt weigh the same
        "session_id",
        "skip_special_tokens",
        "spaces_between_special_tokens",
        "stop",
        "stop_token_ids",
        "temperature",
        "top_k",
        "top_p",
        "user",
    }
)
"""What a continuing leg is asked with as well: it does not depend on what has been generated."""
SPENT = frozenset(
    {
        "add_generation_prompt",
        "add_special_tokens",
        "chat_template",
        "chat_template_kwargs",
        "continue_final_message",
        "documents",
        "include_stop_str_in_output",
        "max_completion_tokens",
        "max_tokens",
        "messages",
        "metadata",
        "min_tokens",
        "parallel_tool_calls",
        "prompt",
        "reasoning_effort",
        "request_id",
        "return_token_ids",
        "service_tier",
        "store",
        "stream",
        "stream_options",
        "truncate_prompt_tokens",
        "truncation_side",
    }
)
"""What has had its effect once the prompt's ids are known, or what the relay accounts for itself."""
NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "best_of": (1,),
    "include_reasoning": (True,),
    "n": (1,),
    "tool_choice": ("none",),
    "response_format": ({"type": "text"},),
}
"""Values that ask for nothing, besides null, false, zero and empty."""


ONLY_WHOLE = frozenset(
    {
        "best_of",
        "echo",
        "functions",
        "logprobs",
        "n",
        "prompt_logprobs",
        "tool_choice",
        "tools",
        "use_beam_search",
    }
)
"""With these, a client that does not stream gets the engine's own JSON, since chunks do not tell all of it."""


class BadRequest(Exception):
    """The client must change something."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One request for generated text."""

    body: Mapping[str, Any]
    chat: bool
    how: How
    because: str  # why it cannot be continued; "" if it can
    stream: bool
    include_usage: bool
    continuous_usage: bool
    show_ids: bool
    hide_thoughts: bool
    greedy: bool
    seed: int | None  # of the relay's own making
    stop: tuple[str, ...]
    include_stop: bool
    min_tokens: int
    limit: int | None
    prompt_characters: int

    @property
    def whole(self) -> bool:
        """Whether the engine is asked for its whole answer at once, to be asked for again after a fault."""
        unusual = self.because in {*ONLY_WHOLE, "prompt"} or any(self.body.get(key) for key in ONLY_WHOLE - {"n"})
        return not self.stream and self.how == "replay" and (unusual or self.choices != 1)

    @property
    def choices(self) -> int:
        """How many answers to each prompt."""
        return _count(self.body.get("n")) or 1

    @property
    def path(self) -> str:
        """Where the first leg goes."""
        return "/v1/chat/completions" if self.chat else "/v1/completions"

    @property
    def prompt_tokens_guess(self) -> int:
        """For load and timers."""
        return self.prompt_characters // CHARACTERS_PER_TOKEN

    @property
    def tokens_guess(self) -> int:
        """Of prompt and answer."""
        return self.prompt_tokens_guess + (self.limit or ANSWER_TOKENS_EXPECTED)

    def first_leg(self) -> dict[str, Any]:
        """What the engine is asked for when nothing has been delivered, and when a leg replays."""
        body = dict(self.body)
        body["stream"] = True
        if self.how == "continue":
            body["return_token_ids"] = True
            body["stream_options"] = {"include_usage": True}
            if self.stop:
                body["include_stop_str_in_output"] = True  # nothing is held back there; it is here
        else:
            body["stream_options"] = {"include_usage": True, "continuous_usage_stats": True}
            if self.chat:
                # A parser may say nothing for as long as a tool call or a hidden thought takes. With ids each token
                # is heard of, and silence means what it means elsewhere.
                body["return_token_ids"] = True
                if self.hide_thoughts:
                    body["include_reasoning"] = True
            if self.seed is not None:
                body["seed"] = self.seed
        return body

    def next_leg(self, *, delivered_count: int, prompt_count: int, window: int) -> dict[str, Any]:
        """What a continuing leg is asked for, less the ids."""
        body = {key: value for key, value in self.body.items() if key in CARRIED}
        body["max_tokens"] = self.tokens_left(delivered_count, prompt_count, window)
        if self.min_tokens > delivered_count:
            body["min_tokens"] = self.min_tokens - delivered_count
        if self.stop:
            body["include_stop_str_in_output"] = True
        body |= {"stream": True, "stream_options": {"include_usage": True}, "return_token_ids": True}
        return body

    def tokens_left(self, delivered_count: int, prompt_count: int, window: int) -> int:
        """How many more tokens the answer may have."""
        left = window - prompt_count - delivered_count
        return left if self.limit is None else min(left, self.limit - delivered_count)


def asked_of(body: Any, *, chat: bool) -> Asked:
    """A request's JSON, understood as far as going on needs it. Raises BadRequest."""
    if not isinstance(body, dict):
        raise BadRequest("the body of the request must be a JSON object")
    options = body.get("stream_options")
    options = options if isinstance(options, dict) else {}
    limit = body.get("max_completion_tokens") if chat else None
    limit = body.get("max_tokens", None if chat else 16) if limit is None else limit
    greedy = body.get("temperature") == 0
    because = _why_not_continued(body, chat=chat, greedy=greedy)
    characters = len(str(body.get("messages") if chat else body.get("prompt")))
    return Asked(
        body=body,
        chat=chat,
        how="replay" if because else "continue",
        because=because,
        stream=bool(body.get("stream")),
        include_usage=bool(options.get("include_usage")),
        continuous_usage=bool(options.get("include_usage") and options.get("continuous_usage_stats")),
        show_ids=bool(body.get("return_token_ids")),
        # vLLM hides ids and log probabilities with the thoughts: who asks for these gets them as vLLM gives them.
        hide_thoughts=body.get("include_reasoning") is False
        and not (body.get("logprobs") or body.get("return_token_ids")),
        greedy=greedy,
        seed=SystemRandom().getrandbits(SEED_BITS) if because and not greedy and body.get("seed") is None else None,
        stop=_texts(body.get("stop")),
        include_stop=bool(body.get("include_stop_str_in_output")),
        min_tokens=_count(body.get("min_tokens")) or 0,
        limit=_count(limit),
        prompt_characters=characters,
    )


def _count(value: Any) -> int | None:
    """As engines read it: 50.0 and "50" are 50 there. None for whatever they will refuse."""
    if isinstance(value, float) and not value.is_integer():
        return None
    try:
        count = int(value)
    except (TypeError, ValueError):
        return None
    return min(count, COUNT_MAX) if count >= 0 else None


def _texts(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,) if value else ()
    return tuple(text for text in value if isinstance(text, str)) if isinstance(value, list) else ()


def _why_not_continued(body: Mapping[str, Any], *, chat: bool, greedy: bool) -> str:
    for key, value in body.items():
        if key in {"logprobs", "prompt_logprobs"} and value is not None and value is not False:
            return key  # 0 asks for them too
        if key in CARRIED or key in SPENT or not value or value in NEUTRAL.get(key, ()):
            continue
        if key != "seed" or not greedy:
            return key
    if body.get("include_reasoning") is False:
        return "include_reasoning"
    if chat:
        return _why_messages_not_continued(body.get("messages"))
    prompt = body.get("prompt")
    if isinstance(prompt, str) or (isinstance(prompt, list) and prompt and all(type(item) is int for item in prompt)):
        return ""
    return "prompt"


def _why_messages_not_continued(messages: Any) -> str:
    """Images and sound become ids that mean nothing without them."""
    if not isinstance(messages, list):
        return "messages"
    for message in messages:
        content = message.get("content") if isinstance(message, dict) else None
        if isinstance(content, list) and any(
            not isinstance(part, dict) or part.get("type") not in {"text", "input_text"} for part in content
        ):
            return "multimodal input"
    return ""

"""Hard questions: what real engines are asked besides, where an answer depends on more than its ids.

Grammars, tool calls that are really made, several choices, several prompts: the relay replays each, and each must
come out as in the undisturbed runs. Random weights end no structure by themselves: each is bounded.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import Any

from benchmarks.failover.questions import CHAT, SENTENCES, TEXT, Question, questions

SCHEMA = {
    "type": "object",
    "properties": {
        "place": {"type": "string", "minLength": 12, "maxLength": 40},
        "kind": {"enum": ["a queue that grows", "a cache that is cold", "a network that waits"]},
        "machines": {"type": "array", "items": {"type": "integer"}, "minItems": 4, "maxItems": 6},
        "well": {"type": "boolean"},
    },
    "required": ["place", "kind", "machines", "well"],
    "additionalProperties": False,
}
SENTENCES_TO_CHOOSE = [
    f"the {what} of the machine waits for the network, and the server waits for the {what}"
    for what in ("cache", "queue", "token")
]
TOOLS = [
    {"type": "function", "function": {"name": name, "parameters": SCHEMA, "strict": True}}
    for name in ("look_at_machine", "call_operator")
]


@dataclass(frozen=True, kw_only=True)
class Hard:
    """One kind of request."""

    name: str
    wish: Mapping[str, Any]
    path: str = CHAT
    whole: bool = False


KINDS = (
    Hard(
        name="structured output by schema",
        wish={"response_format": {"type": "json_schema", "json_schema": {"name": "it", "schema": SCHEMA}}},
    ),
    Hard(
        name="a forced tool call",
        wish={"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "look_at_machine"}}},
    ),
    Hard(name="two choices", wish={"n": 2, "temperature": 0.7, "seed": 5}),
    Hard(name="two prompts", wish={}, path=TEXT),
    Hard(name="structured output by choice", wish={"structured_outputs": {"choice": SENTENCES_TO_CHOOSE}}),
    Hard(name="a required tool call", wish={"tools": TOOLS, "tool_choice": "required"}),
    Hard(name="log probabilities", wish={"logprobs": True, "top_logprobs": 2}),
    Hard(
        name="structured output by expression",
        wish={"structured_outputs": {"regex": "[a-z]{5,9}( [a-z]{5,9}){7}"}},
        path=TEXT,
    ),
    Hard(name="two choices, whole", wish={"n": 2, "temperature": 0.7, "seed": 6}, whole=True),
    Hard(
        name="a forced tool call, whole",
        wish={"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "call_operator"}}},
        whole=True,
    ),
    Hard(name="any JSON", wish={"response_format": {"type": "json_object"}}),
    Hard(
        name="structured output by schema, whole",
        wish={"response_format": {"type": "json_schema", "json_schema": {"name": "it", "schema": SCHEMA}}},
        whole=True,
    ),
)


def mixed(count: int, *, model: str, tokens: int, unreadable: Sequence[Sequence[int]]) -> list[Question]:
    """That many requests, every second one a hard one."""
    plain = questions(count - count // 2, model=model, tokens=tokens, unreadable=unreadable, special={})
    plain = [one for one in plain if "response_format" not in one.body]  # their grammar ends, `ignore_eos` does not
    hard = [
        _hard(KINDS[number % len(KINDS)], number, model=model, tokens=tokens) for number in range(count - len(plain))
    ]
    return [one for one in chain.from_iterable(zip_longest(plain, hard)) if one is not None]


def _hard(kind: Hard, number: int, *, model: str, tokens: int) -> Question:
    family = [*SENTENCES][number % len(SENTENCES)]
    body: dict[str, Any] = {"model": model, "temperature": 0, "max_tokens": 3 * tokens, **kind.wish}
    if "n" in kind.wish or "logprobs" in kind.wish or not kind.wish:
        body |= {"ignore_eos": True, "max_tokens": tokens}
    if kind.path == CHAT:
        body["messages"] = [{"role": "user", "content": SENTENCES[family].format(n=number)}]
    else:
        texts = [sentence.format(n=number) for sentence in SENTENCES.values()]
        body["prompt"] = texts[:2] if not kind.wish else texts[number % len(texts)]
    if not kind.whole:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return Question(family=f"{family}, {kind.name}", path=kind.path, body=body)

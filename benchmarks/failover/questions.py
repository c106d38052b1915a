"""Questions: requests of every kind that must survive a fault, each with the answer that is right.

Four families of prompts: English, Korean, emoji, and ids that no tokenizer would have made of their text. The fault
engine's answers are computed; those of a real engine are what undisturbed runs at equal load agree on.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.fault_engine import model as fault_model
from benchmarks.fault_engine.asked import asked_of
from benchmarks.fault_engine.sequence import Sequence as Generated
from benchmarks.listening import Heard

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
SENTENCES = {
    "English": "Explain how caches, queues and network graphs behave when machine number {n} slows down.",
    "Korean": "{n}번 서버가 느려지면 캐시와 대기열이 어떻게 되는지 설명해 주세요.",
    "emoji": "🎉 {n} 🙂🙃 network 🚀🇰🇷 machine 👩‍👩‍👧 why? 🎈",
}
WHOLE_EVERY, SPECIAL_EVERY = 5, 3
SPECIALS: tuple[tuple[str, Mapping[str, Any]], ...] = (
    ("penalties", {"presence_penalty": 0.5, "frequency_penalty": 0.2}),
    ("a seed", {"temperature": 0.7, "seed": 11}),
    ("log probabilities", {"logprobs": 1}),
    ("tools", {"tools": [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]}),
    ("a stop string", {"stop": ["zq", "다 "]}),
    ("min_tokens", {"min_tokens": 12, "stop": ["e"]}),
    ("structured output", {"response_format": {"type": "json_object"}}),
)
"""What a third of the requests ask for besides: each goes on in a way of its own (relay/README.md)."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """One request, and what must come back; None = not known."""

    family: str
    path: str
    body: Mapping[str, Any]
    text: str | None = None
    token_ids: tuple[int, ...] | None = None  # only where the client asks for them
    usage: tuple[int, int] | None = None
    ends: tuple[tuple[int, str, Any], ...] | None = None  # finish and stop reason of each choice

    def defect_of(self, heard: Heard) -> str:
        """What is wrong with an answer; empty = nothing."""
        if not heard.done:
            errors = [event["error"] for event in heard.events if "error" in event]
            return f"HTTP {heard.status}, no good end after {len(heard.times)} pieces: {str(errors)[:200]}"
        if heard.identities != 1:
            return f"{heard.identities} ids in one answer"
        if self.text is not None and heard.text != self.text:
            return f"another text: {_difference(heard.text, self.text)}"
        if self.token_ids is not None and tuple(heard.token_ids) != self.token_ids:
            return f"other token ids, {len(heard.token_ids)} instead of {len(self.token_ids)}"
        for what, seen, right in (("end", tuple(heard.ends), self.ends), ("usage", used(heard), self.usage)):
            if right is not None and seen != right:
                return f"{what} {seen} instead of {right}"
        return ""


def used(heard: Heard) -> tuple[int, int]:
    """Prompt and completion tokens, as the answer says."""
    usage = heard.usage or {}
    return int(usage.get("prompt_tokens") or 0), int(usage.get("completion_tokens") or 0)


def _difference(heard: str, right: str) -> str:
    at = next((n for n, (a, b) in enumerate(zip(heard, right, strict=False)) if a != b), min(len(heard), len(right)))
    return f"from character {at} on {heard[at : at + 20]!r} instead of {right[at : at + 20]!r}"


def questions(
    count: int, *, model: str, tokens: int, unreadable: Sequence[Sequence[int]], special: Mapping[str, Any]
) -> list[Question]:
    """That many requests: families take turns; of each, some stream and some do not, some are chats and some not.

    Unreadable = prompts by ids that are not what their text tokenizes to. The limit spreads by a half around `tokens`.
    """
    made = []
    families = [*SENTENCES, "unreadable ids"]
    for number in range(count):
        family = families[number % len(families)]
        chat = family in SENTENCES and number % 3 != 0
        body: dict[str, Any] = {"model": model, "temperature": 0, "ignore_eos": True, **special}
        body["max_tokens"] = tokens * 3 // 4 + (number * 37) % max(1, tokens // 2)
        if family not in SENTENCES:
            body["prompt"] = [*unreadable[number % len(unreadable)]]
        elif chat:
            body["messages"] = [{"role": "user", "content": SENTENCES[family].format(n=number)}]
        else:
            body["prompt"] = SENTENCES[family].format(n=number)
        if number % WHOLE_EVERY:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        kind = ""
        if number % SPECIAL_EVERY == 1:
            kind, wish = SPECIALS[number // SPECIAL_EVERY % len(SPECIALS)]
            body |= wish
            if chat and "logprobs" in body:
                body |= {"logprobs": True, "top_logprobs": 1}
            if not chat:
                body.pop("tools", None)
        elif number % 2:
            body["return_token_ids"] = True
        made.append(Question(family=", ".join(filter(None, (family, kind))), path=CHAT if chat else TEXT, body=body))
    return made


def computed(asked: Sequence[Question], *, max_model_len: int) -> list[Question]:
    """With the fault engine's answers, without asking any."""
    known = []
    for question in asked:
        parsed = asked_of(
            json.loads(json.dumps(question.body)),
            chat=question.path == CHAT,
            served=str(question.body["model"]),
            max_model_len=max_model_len,
            reasoning=False,
        )
        answer = Generated(parsed, index=0, weights=0, eos_every=0, reasoning_every=0, nonce=0)
        answer.step(parsed.max_tokens)
        ids = tuple(answer.tokens) if question.body.get("return_token_ids") else None
        usage = (len(parsed.prompts[0]), len(answer.tokens))
        known.append(dataclasses.replace(question, text=answer.text, token_ids=ids, usage=usage))
    return known


def agreed(asked: Sequence[Question], *runs: Sequence[Heard]) -> tuple[list[Question], int]:
    """(questions with what all undisturbed runs answered, how many had no such answer and stay without)."""
    known, unstable = [], 0
    for question, *answers in zip(asked, *runs, strict=True):
        said = {(one.text, tuple(one.token_ids), used(one), tuple(one.ends)) for one in answers}
        if len(said) == 1 and all(one.done for one in answers):
            text, ids, usage, ends = next(iter(said))
            wanted = ids if question.body.get("return_token_ids") else None
            known.append(dataclasses.replace(question, text=text, token_ids=wanted, usage=usage, ends=ends))
        else:
            unstable += 1
            known.append(question)
    return known, unstable


def unreadable_prompts() -> list[list[int]]:
    """For the fault engine: byte by byte what its tokenizer would have taken in words."""
    texts = [sentence.format(n=number) for number in range(8) for sentence in SENTENCES.values()]
    prompts = [[fault_model.ID_OF[bytes([byte])] for byte in text.encode()] for text in texts]
    return [ids for ids, text in zip(prompts, texts, strict=True) if ids != fault_model.encode(text)]

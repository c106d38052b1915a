"""Workload: what request number k says, as a pure function of (load, k), however many processes share the work.

A prompt is: shared prefix (if asked for), a nonce that no other request has, text up to its length, a task. With a
nonce in front nothing of the prompt can come from a prefix cache; with a shared prefix exactly that share can.
"""

import hashlib
import json
import math
from dataclasses import dataclass, field
from random import Random
from typing import Any

from benchmarks.corpus import corpus
from benchmarks.load import Lengths, Load
from benchmarks.schedule import Schedule
from benchmarks.tokens import Ruler, ruler_for

KOREAN_RATIO = 0.5  # of a mixed load
LANGUAGES = ("en", "ko")


@dataclass(frozen=True, kw_only=True)
class Call:
    """One request, ready to be put on the wire."""

    request_id: str
    sequence: int
    turn: int
    prompt_tokens: int
    output_tokens: int
    streamed: bool = True
    messages: list[dict[str, str]] = field(repr=False)
    body: bytes = field(repr=False)


class Workload:
    """Makes calls. Holds the shared prefixes and the ruler, so that making one is cheap."""

    def __init__(self, load: Load, *, run_id: str, schedule: Schedule | None = None) -> None:
        self._load, self._spec, self._run_id, self._schedule = load, load.workload, run_id, schedule
        self._ruler: Ruler = ruler_for(self._spec.tokenizer)
        longest = self._spec.prompt.maximum_tokens or self._spec.prompt.mean_tokens * 8
        self._prefixes: dict[str, str] = {}
        if self._spec.shared_prefix_ratio:
            tokens = math.ceil(longest * self._spec.shared_prefix_ratio)
            for language in LANGUAGES:
                random = Random(f"{load.seed}/prefix/{language}")
                self._prefixes[language] = self._ruler.text_of(tokens, corpus(language), random)

    def first(self, sequence: int) -> Call:
        """The first (mostly the only) turn of arrival number `sequence`."""
        return self._turn(sequence, turn=0, history=[])

    def following(self, call: Call, answer: str) -> Call | None:
        """The next turn of the same conversation, or None after the last."""
        if call.turn + 1 >= self._spec.turns:
            return None
        history = [*call.messages, {"role": "assistant", "content": answer}]
        return self._turn(call.sequence, turn=call.turn + 1, history=history)

    def _turn(self, sequence: int, *, turn: int, history: list[dict[str, str]]) -> Call:
        random = Random(f"{self._load.seed}/{sequence}/{turn}")
        prompt_tokens = _length(self._spec.prompt, random)
        output_tokens = _length(self._spec.output, random)
        if self._schedule is not None and self._schedule.prompt_tokens is not None and turn == 0:
            prompt_tokens = int(self._schedule.prompt_tokens[sequence])
        if self._schedule is not None and self._schedule.output_tokens is not None:
            output_tokens = int(self._schedule.output_tokens[sequence])
        language = self._spec.language
        if language == "mixed":
            language = "ko" if Random(f"{self._load.seed}/{sequence}/language").random() < KOREAN_RATIO else "en"
        prompt = self._prompt(prompt_tokens, language, random, request=f"{sequence}-{turn}", fresh=turn == 0)
        messages = [*history, {"role": "user", "content": prompt}]
        streaming = streamed(self._load, sequence)
        return Call(
            request_id=f"{self._run_id}-{sequence}-{turn}",
            sequence=sequence,
            turn=turn,
            prompt_tokens=prompt_tokens,
            output_tokens=output_tokens,
            streamed=streaming,
            messages=messages,
            body=json.dumps(
                self._body(messages, output_tokens, streaming), ensure_ascii=False, separators=(",", ":")
            ).encode(),
        )

    def _prompt(self, tokens: int, language: str, random: Random, *, request: str, fresh: bool) -> str:
        source = corpus(language)
        nonce = hashlib.sha256(f"{self._load.nonce or self._run_id}/{request}".encode()).hexdigest()[:12]
        task = source.task.replace("{count}", str(random.randint(3, 12)))
        prefix = ""
        if self._prefixes and fresh:
            prefix = self._ruler.cut(self._prefixes[language], round(tokens * self._spec.shared_prefix_ratio), source)
        frame = f"{prefix}\n[{nonce}] " if prefix else f"[{nonce}] "
        rest = tokens - self._ruler.count(frame + "\n" + task, source)
        return frame + (self._ruler.text_of(rest, source, random) if rest > 0 else "") + "\n" + task

    def _body(self, messages: list[dict[str, str]], output_tokens: int, streaming: bool) -> dict[str, Any]:
        body: dict[str, Any] = {"model": self._load.target.model}
        if self._spec.api == "chat":
            body["messages"] = messages
        else:
            body["prompt"] = "\n\n".join(message["content"] for message in messages)
        body |= {"max_tokens": output_tokens, "temperature": self._spec.temperature}
        if streaming:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        if self._spec.ignore_eos:
            body["ignore_eos"] = True
        return body


def streamed(load: Load, sequence: int) -> bool:
    """Whether that arrival wants a stream."""
    ratio = load.workload.unstreamed_ratio
    return ratio == 0 or Random(f"{load.seed}/{sequence}/unstreamed").random() >= ratio


def _length(lengths: Lengths, random: Random) -> int:
    """One log-normal length with the asked mean and standard deviation, at least 1, rounded to the nearest token."""
    if lengths.spread_ratio == 0:
        tokens = float(lengths.mean_tokens)
    else:
        variance = math.log(1 + lengths.spread_ratio**2)
        tokens = random.lognormvariate(math.log(lengths.mean_tokens) - variance / 2, math.sqrt(variance))
    return max(1, min(round(tokens), lengths.maximum_tokens or round(tokens) + 1))

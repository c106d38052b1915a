"""Replay: the same request on another engine, where what has been delivered must come again and is dropped.

For answers that depend on more than ids. What comes again is compared character by character; the first difference
ends the answer with an error, so that nothing is ever doubled, lost or mixed.
"""

import json
from collections.abc import Callable, Sequence
from typing import Any

from relay.asking import Asked
from relay.bodies import refusal_in
from relay.events import DONE, THOUGHTS, UNFINISHED_REASONS, encoded

LISTS = ("content", "tokens", "token_logprobs", "top_logprobs", "text_offset", "refusal")
"""Parts of log probabilities that have one entry a token."""
TEXTS = ("content", "reasoning", "reasoning_content", "refusal")


class Diverged(Exception):
    """The other engine says something else."""


class Progress:
    """How much of some text has been delivered, and how much of it has come again on the present leg."""

    __slots__ = ("again", "delivered")

    def __init__(self) -> None:
        self.delivered, self.again = "", 0

    def new(self, text: str) -> str:
        """The part of a text that is not delivered yet."""
        known = self.delivered[self.again : self.again + len(text)]
        if not text.startswith(known):
            raise Diverged(f"after {self.again} characters")
        self.again += len(text)
        fresh = text[len(known) :]
        self.delivered += fresh
        return fresh


class Choice:
    """One choice of the answer."""

    def __init__(self) -> None:
        self.texts: dict[str, Progress] = {}
        self.lengths: dict[str, list[int]] = {}  # name -> [delivered, come again]
        self.calls: set[int] = set()  # tool calls whose head is delivered
        self.role = self.finished = False
        self.opened = False  # a prompt or another constant of the first chunk

    def rewind(self) -> None:
        """Another leg begins."""
        for progress in self.texts.values():
            progress.again = 0
        for counts in self.lengths.values():
            counts[1] = 0

    def text(self, name: str, text: str) -> str:
        """What is new of a text."""
        return self.texts.setdefault(name, Progress()).new(text)

    def entries(self, name: str, entries: list[Any]) -> list[Any]:
        """What is new of a list with one entry a token."""
        counts = self.lengths.setdefault(name, [0, 0])
        known = min(len(entries), counts[0] - counts[1])
        counts[1] += len(entries)
        counts[0] = max(counts)
        return entries[known:]

    def outstanding(self) -> bool:
        """Whether something delivered has not come again."""
        return any(progress.again < len(progress.delivered) for progress in self.texts.values())


class Replay:
    """The answer so far."""

    def __init__(self, asked: Asked, *, write: Callable[[bytes], None]) -> None:
        self._asked, self._write = asked, write
        self._choices: dict[int, Choice] = {}
        self._head: dict[str, Any] | None = None
        self._usage: dict[str, Any] | None = None
        self.fingerprint: Any = None
        self._finished_on_leg = False
        self._read: dict[int, int] = {}  # tokens of each prompt
        self._generated: dict[int, int] = {}  # tokens of each choice
        self.prompt_tokens = self.completion_tokens = self.cached_tokens = 0
        self.legs = 0
        self.stopped_here = False
        self.error = ""
        self.refused = 0

    @property
    def resumable(self) -> str:
        """Why the next leg cannot go on."""
        return self.error

    def next_request(self) -> tuple[str, dict[str, Any], bytes] | None:
        """(path, body, no ids) of the next leg; None = everything has come."""
        if self._choices and all(choice.finished for choice in self._choices.values()) and self._is_whole():
            return None
        self.legs += 1
        self._finished_on_leg = False
        for choice in self._choices.values():
            choice.rewind()
        return self._asked.path, self._asked.first_leg(), b""

    def _is_whole(self) -> bool:
        prompts = self._asked.body.get("prompt")
        many = isinstance(prompts, list) and not all(type(item) is int for item in prompts)
        wanted = self._asked.choices * (len(prompts) if many and isinstance(prompts, list) else 1)
        return len(self._choices) >= wanted

    def feed(self, event: bytes) -> str | None:
        """One event of the present leg."""
        if not event.startswith(b"data:"):
            return None
        if event[5:].strip() == b"[DONE]":
            return "" if self._finished_on_leg else "[DONE] without a finish reason"
        try:
            chunk = json.loads(event[5:])
            if "error" in chunk:
                self.refused = refusal_in(chunk["error"])
                return f"error event: {str((chunk['error'] or {}).get('message'))[:200]}"
            return self._chunk(chunk)
        except Diverged as difference:
            self.error = f"the next engine answers differently {difference}"
            return self.error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            return f"an event that is none of vLLM's: {error!r}: {event[:120]!r}"

    def _chunk(self, chunk: dict[str, Any]) -> str | None:
        usage = chunk.pop("usage", None)
        if self._head is None:
            self._head = {key: chunk[key] for key in ("id", "object", "created", "model") if key in chunk}
        if usage:
            self._account(usage, chunk["choices"])
        if not chunk["choices"]:
            self._usage, self.fingerprint = usage, chunk.get("system_fingerprint")
            return None
        kept = []
        for choice in chunk["choices"]:
            if choice.get("finish_reason") in UNFINISHED_REASONS:
                return f"finish reason {choice['finish_reason']}"
            if (new := self._new(choice)) is not None:
                kept.append(new)
        if kept:
            out = chunk | self._head | {"choices": kept}
            if not self._asked.show_ids and "prompt_token_ids" in out:
                out["prompt_token_ids"] = None
            if self._asked.continuous_usage and usage:
                out["usage"] = usage
            self._write(encoded(out))
        return None

    def _account(self, usage: dict[str, Any], choices: Sequence[dict[str, Any]]) -> None:
        """Continuous counts are of the chunk's choice, the prompt's of its prompt; those of the last chunk are of all.

        Another leg counts from zero again: what an answer has used is the most that a leg said of it.
        """
        self.cached_tokens = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
        if not choices:
            self.prompt_tokens, self.completion_tokens = usage["prompt_tokens"], usage["completion_tokens"]
            return
        each = self._asked.choices
        for choice in choices:
            index = choice["index"]
            self._read[index // each] = usage["prompt_tokens"]
            self._generated[index] = max(self._generated.get(index, 0), usage["completion_tokens"])
        self.prompt_tokens, self.completion_tokens = sum(self._read.values()), sum(self._generated.values())

    def _new(self, choice: dict[str, Any]) -> dict[str, Any] | None:
        """What of a choice has not been delivered; None = nothing."""
        known = self._choices.setdefault(choice["index"], Choice())
        if known.finished:
            self._finished_on_leg = self._finished_on_leg or bool(choice.get("finish_reason"))
            return None
        again = self.legs > 1 and (known.opened or known.role)
        new = dict(choice)
        ids = known.entries("token_ids", choice.get("token_ids") or [])
        if "token_ids" in choice:
            new["token_ids"] = ids if ids and self._asked.show_ids else None
        if "delta" in choice:
            new["delta"] = self._new_delta(known, choice["delta"])
            something = bool(new["delta"] or new.get("token_ids"))
        else:
            new["text"] = known.text("text", choice.get("text") or "")
            something = bool(new["text"])
        if isinstance(choice.get("logprobs"), dict):
            new["logprobs"] = {
                name: known.entries(name, entries) if name in LISTS and isinstance(entries, list) else entries
                for name, entries in choice["logprobs"].items()
            }
            something = something or any(new["logprobs"].values())
        if again and new.get("prompt_token_ids"):
            new["prompt_token_ids"] = None
        known.opened = True
        if choice.get("finish_reason"):
            if known.outstanding():
                raise Diverged("by ending earlier")
            known.finished = self._finished_on_leg = something = True
        return new if something or not (again or "delta" in choice) else None

    def _new_delta(self, known: Choice, delta: dict[str, Any]) -> dict[str, Any]:
        new: dict[str, Any] = {}
        for name, value in delta.items():
            if name == "role":
                if not known.role:
                    new[name], known.role = value, True
            elif name in THOUGHTS and self._asked.hide_thoughts:
                continue
            elif name in TEXTS and isinstance(value, str):
                fresh = known.text(name, value)
                if fresh or self.legs == 1:
                    new[name] = fresh
            elif name == "tool_calls" and value:
                calls = [call for call in (self._new_call(known, call) for call in value) if call is not None]
                if calls:
                    new[name] = calls
            elif self.legs == 1:
                new[name] = value
        return new

    @staticmethod
    def _new_call(known: Choice, call: dict[str, Any]) -> dict[str, Any] | None:
        """A tool call less what is delivered. Its id is chance: the first one stays."""
        index, function = call.get("index", 0), dict(call.get("function") or {})
        new = dict(call)
        has_head = bool(function.get("name"))
        if has_head:
            known.text(f"name {index}", function["name"])
            if index in known.calls:
                del function["name"]
                for key in ("id", "type"):
                    new.pop(key, None)
            known.calls.add(index)
        if isinstance(function.get("arguments"), str):
            function["arguments"] = known.text(f"arguments {index}", function["arguments"])
        new["function"] = function
        return new if function.get("name") or function.get("arguments") else None

    def closing(self) -> bytes:
        """The last bytes."""
        head = self._head or {}
        usage = self._usage or self._counted()
        resumed = {"relay": {"legs": self.legs, "exact": True}} if self.legs > 1 else {}
        mark = {} if self.fingerprint is None else {"system_fingerprint": self.fingerprint}
        if self._asked.include_usage:
            return encoded(head | {"choices": [], "usage": usage} | mark | resumed) + DONE
        return (encoded(head | {"choices": []} | resumed) if resumed else b"") + DONE

    def usage(self) -> dict[str, Any]:
        """One record for all legs."""
        return self._usage or self._counted()

    def _counted(self) -> dict[str, int]:
        done = self.completion_tokens
        return {
            "prompt_tokens": self.prompt_tokens,
            "total_tokens": self.prompt_tokens + done,
            "completion_tokens": done,
        }

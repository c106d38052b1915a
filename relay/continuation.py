"""Continuation: one answer made of legs by token ids, as one stream in the endpoint's own format.

Ids count as delivered once their text has left the engine: what it holds back (half a character, a special token) is
generated again by the next one.
"""

import json
from collections.abc import Callable
from typing import Any

from relay import chunk_shape
from relay.asking import Asked
from relay.bodies import refusal_in
from relay.chunk_shape import Shape
from relay.events import DONE, THOUGHTS, UNFINISHED_REASONS, encoded, texts_of
from relay.stop_strings import StopStrings
from relay.thoughts import ThoughtEnd


class Continuation:
    """The answer so far."""

    def __init__(
        self,
        asked: Asked,
        *,
        window: int,
        thought_end: ThoughtEnd,
        write: Callable[[bytes], None],
        write_text: Callable[[bytes, bytes, bytes], None] | None = None,
    ) -> None:
        self._asked, self._window, self._write, self._thought_end = asked, window, write, thought_end
        self._write_text = write_text or (lambda head, piece, tail: write(head + piece + tail))
        self._prompt: bytes | None = None
        self._ids, self._pending = list[bytes](), list[bytes]()
        self.prompt_tokens = self.completion_tokens = self.cached_tokens = 0
        self._pending_count = self.reasoning_tokens = 0
        self._identity: bytes | None = None
        self._client_shapes: dict[str, Shape] = {}
        self._shapes: tuple[Shape, ...] = ()
        self._raw = False  # the present leg is a completion whose text goes into a chat
        self._opened = False  # the chunk with the role is out
        self._fresh = True  # the present leg began with nothing delivered
        self._thinking = False
        self._said = ""  # the kind of text that came last
        self._stops = StopStrings(asked.stop, include=asked.include_stop) if asked.stop else None
        self._fast = not asked.stop and not asked.show_ids and not asked.continuous_usage
        self._usage: dict[str, Any] | None = None
        self.fingerprint: Any = None
        self._last: dict[str, Any] | None = None  # the chunk with the finish reason, kept until the end
        self.legs, self.stopped_here = 0, False  # stopped: the relay found the end, the engine does not know of it
        self.error, self.refused = "", 0  # why it cannot go on; status of an error event that blames the client

    # legs
    def next_request(self) -> tuple[str, dict[str, Any], bytes] | None:
        """(path, body, ids of the prompt as written) of the next leg; None = there is nothing left to generate."""
        self.legs += 1
        self._pending, self._pending_count, self._shapes = [], 0, ()
        if self._stops is not None:
            self._stops.leg_begins()
        if self._last is not None:
            return None
        if not self.completion_tokens or self._prompt is None:
            self._raw, self._fresh = False, True
            return self._asked.path, self._asked.first_leg(), b""
        if self._asked.tokens_left(self.completion_tokens, self.prompt_tokens, self._window) <= 0:
            self._last = self._made_chunk("", finish="length", stop=None)
            return None
        self._raw, self._fresh = self._asked.chat, False
        body = self._asked.next_leg(
            delivered_count=self.completion_tokens, prompt_count=self.prompt_tokens, window=self._window
        )
        if self._thinking and self._thought_end.special:
            body["skip_special_tokens"] = False
        return "/v1/completions", body, b",".join((self._prompt, *self._ids))

    @property
    def resumable(self) -> str:
        """Why the next leg cannot go on; "" if it can."""
        if self._thinking and self._thought_end.special and self._stops is not None:
            return "its thought ends with a special token, and with stop strings more of these would be shown"
        return ""

    def feed(self, event: bytes) -> str | None:
        """One event of the present leg."""
        for shape in self._shapes:
            if event.startswith(shape.head):
                start = len(shape.head)
                at = event.find(shape.middle, start)
                if at < 0 or not event.endswith(shape.end):
                    break
                ids = event[at + len(shape.middle) : -len(shape.end)]
                if not ids.isdigit() and not ids.replace(b",", b"").isdigit():
                    break
                if at > start:
                    self._thinking = shape.thinking
                self._count(ids, out=at > start)
                self._write_text(shape.out_head, event[start:at], shape.out_tail)
                return None
        return self._read(event)

    def _count(self, ids: bytes, *, out: bool) -> None:
        """Ids of one chunk. `out`: their text has come."""
        count = chunk_shape.count_of(ids)
        if out:
            if self._pending:
                self._ids += self._pending
                self.completion_tokens += self._pending_count
                self.reasoning_tokens += self._pending_count if self._thinking else 0
                self._pending, self._pending_count = [], 0
            if count:
                self._ids.append(ids)
            self.completion_tokens += count
            self.reasoning_tokens += count if self._thinking else 0
        elif count:
            self._pending.append(ids)
            self._pending_count += count

    # events as JSON
    def _read(self, event: bytes) -> str | None:
        if not event.startswith(b"data:"):
            return None
        if event[5:].strip() == b"[DONE]":
            return "[DONE] without a finish reason" if self._last is None else ""
        event, prompt = chunk_shape.without_prompt_ids(event)
        try:
            chunk = json.loads(event[5:])
            if "error" in chunk:
                self.refused = refusal_in(chunk["error"])
                return f"error event: {str((chunk['error'] or {}).get('message'))[:200]}"
            choices = chunk["choices"]
            if prompt is not None and self._prompt is None:
                self._prompt, self.prompt_tokens = prompt, chunk_shape.count_of(prompt)
            if self._identity is None:
                self._identity = chunk_shape.identity_of(event)
            if choices:
                return self._choice(event, chunk, choices[0])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            return f"an event that is none of vLLM's: {error!r}: {event[:120]!r}"
        self._usage, self.fingerprint = chunk.get("usage"), chunk.get("system_fingerprint")
        return None

    def _choice(self, event: bytes, chunk: dict[str, Any], choice: dict[str, Any]) -> str | None:
        delta = choice["delta"] if "delta" in choice else {"text": choice["text"]}
        *before, (kind, text) = texts_of(delta)
        finish = choice.get("finish_reason")
        if finish in UNFINISHED_REASONS:
            return f"finish reason {finish}"
        if delta.get("tool_calls"):
            return "a tool call that nobody asked for"
        if "role" in delta and choice.get("token_ids") is None and not text:
            self._opening(event)
            return None
        ids = ",".join(map(str, choice.get("token_ids") or ())).encode()
        if self._raw:
            return self._from_completion(event, choice, text, ids)
        self._thinking = kind.startswith("reasoning") if text else self._thinking or bool(before)
        self._count(ids, out=bool(text or before) or finish is not None)
        if finish is None and self._fast and kind and len(delta) == 1 and ids:
            self._learn(event, kind)
        for thought in before:
            self._emit(chunk, choice, *thought, None)
        return self._emit(chunk, choice, kind or "content", text, finish)

    def _opening(self, event: bytes) -> None:
        """The chunk with the role, once."""
        if not self._opened:
            self._opened = True
            self._write(self._as_ours(event if not self._asked.show_ids else self._with_prompt(event)) + b"\n\n")

    def _with_prompt(self, event: bytes) -> bytes:
        return event.replace(b'"prompt_token_ids":null', b'"prompt_token_ids":[%b]' % (self._prompt or b""), 1)

    def _as_ours(self, event: bytes) -> bytes:
        """An event under the id, time and name that the client knows."""
        return (self._identity or b"") + event[event.index(chunk_shape.CHOICES) :]

    def _learn(self, event: bytes, kind: str) -> None:
        shape = chunk_shape.shape_of(event, kind=kind, identity=self._identity or b"")
        if shape is not None:
            self._client_shapes.setdefault(kind, shape)
            self._shapes = (shape, *(old for old in self._shapes if old.kind != kind))

    def _from_completion(self, event: bytes, choice: dict[str, Any], text: str, ids: bytes) -> str | None:
        finish = choice.get("finish_reason")
        self._count(ids, out=bool(text) or finish is not None)
        if self._thinking:
            return self._thought(text, choice, finish)
        if self.reasoning_tokens:
            text = self._thought_end.without(text)
        elif finish is None and self._fast and ids:
            shape = chunk_shape.shape_of(event, kind="text", identity=self._identity or b"")
            if shape is not None:
                model = self._client_shapes.get("content")
                own = chunk_shape.translated(shape, kind="content", identity=self._identity or b"", model=model)
                self._shapes = (own,)
        return self._emit(None, choice, "content", text, finish)

    def _thought(self, text: str, choice: dict[str, Any], finish: str | None) -> str | None:
        """Raw text inside a thought: what is before its end is reasoning, what is behind it is the answer."""
        kind = self._reasoning_kind()
        thought, answer = self._thought_end.split(text, last=finish is not None)
        if answer is None:
            return self._emit(None, choice, kind, thought, finish)
        self._thinking = False
        said = self._emit(None, choice, kind, thought, None) if thought else None
        return self._emit(None, choice, "content", answer, finish) if said is None and (answer or finish) else said

    def _reasoning_kind(self) -> str:
        return next((kind for kind in THOUGHTS if kind in self._client_shapes), "reasoning")

    def _emit(
        self, chunk: dict[str, Any] | None, choice: dict[str, Any], kind: str, text: str, finish: str | None
    ) -> str | None:
        """Writes one chunk, or keeps it if it is the last. `chunk` is the engine's own, if it fits the endpoint."""
        stop = choice.get("stop_reason")
        if self._stops is not None:
            if kind != self._said and text:
                if held := self._stops.switch():
                    self._write(encoded(self._made_chunk(held, finish=None, stop=None, kind=self._said)))
                self._said = kind
            enough = self.completion_tokens + self._pending_count > self._asked.min_tokens
            by = stop if finish == "stop" and isinstance(stop, str) else None
            text, across = self._stops.add(text, enough=enough, last=finish is not None, stop=by)
            if across is not None:
                finish, stop, self.stopped_here, self._fresh = "stop", across, True, False
        made = self._made_chunk(text, finish=finish, stop=stop, kind=kind, like=chunk)
        if finish is None:
            self._write(encoded(made))
            return None
        self._last = made
        return "" if self.stopped_here else None

    def _made_chunk(
        self, text: str, *, finish: str | None, stop: Any, kind: str = "", like: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        kind = kind or ("content" if self._asked.chat else "text")
        made = json.loads((self._identity or b"data: {")[6:] + b'"choices":[]}')
        choice: dict[str, Any] = {"index": 0}
        if self._asked.chat:
            choice["delta"] = {kind: text} if text or like is None or kind in like["choices"][0]["delta"] else {}
            choice |= {"logprobs": None, "finish_reason": finish} | ({"stop_reason": stop} if finish else {})
            choice["token_ids"] = None
        else:
            choice |= {"text": text, "logprobs": None, "finish_reason": finish, "stop_reason": stop}
            choice |= {"prompt_token_ids": None, "token_ids": None}
        if self._asked.show_ids:
            choice["token_ids"] = self._new_ids()
            if not self._asked.chat and not self._ids_shown_before:
                choice["prompt_token_ids"] = json.loads(b"[%b]" % (self._prompt or b""))
        made["choices"] = [choice]
        if self._asked.continuous_usage:
            made["usage"] = self._counted()
        return dict(made)

    _ids_shown = _ids_shown_before = 0

    def _new_ids(self) -> list[int]:
        """Delivered ids that the client has not been shown; it asked for them."""
        new = [int(number) for piece in self._ids[self._ids_shown :] for number in piece.split(b",")]
        self._ids_shown_before, self._ids_shown = self._ids_shown, len(self._ids)
        return new

    # the end
    def _counted(self) -> dict[str, int]:
        done = self.completion_tokens
        return {
            "prompt_tokens": self.prompt_tokens,
            "total_tokens": self.prompt_tokens + done,
            "completion_tokens": done,
        }

    def usage(self) -> dict[str, Any]:
        """One record for all legs: the prompt once, each token once."""
        own = self._usage
        if own is not None and self._fresh:
            self.prompt_tokens, self.completion_tokens = own["prompt_tokens"], own["completion_tokens"]
            self.cached_tokens = ((own.get("prompt_tokens_details") or {}).get("cached_tokens")) or 0
            return own
        counted: dict[str, Any] = dict(self._counted())
        details = (own or {}).get("prompt_tokens_details")
        if details:
            self.cached_tokens = min(details.get("cached_tokens") or 0, self.prompt_tokens)
            counted["prompt_tokens_details"] = {"cached_tokens": self.cached_tokens}
        if self.reasoning_tokens:
            counted["completion_tokens_details"] = {"reasoning_tokens": self.reasoning_tokens}
        return counted

    def closing(self) -> bytes:
        """The last bytes: the finish reason, the usage if asked for, the end mark."""
        last, usage = dict(self._last or {}), self.usage()
        if self._asked.continuous_usage:
            last["usage"] = self._counted()
        resumed = {"relay": {"legs": self.legs, "exact": self._asked.greedy}} if self.legs > 1 else {}
        mark = {} if self.fingerprint is None else {"system_fingerprint": self.fingerprint}
        if not self._asked.include_usage:
            return encoded(last | mark | resumed) + DONE
        head = {key: value for key, value in last.items() if key not in {"choices", "usage"}}
        return encoded(last | resumed) + encoded(head | {"choices": [], "usage": usage} | mark) + DONE

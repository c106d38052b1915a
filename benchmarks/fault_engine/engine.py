"""Engine: paces every answer by the clock and does to it what the fault that is switched on says."""

import asyncio
import os
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from time import time
from typing import Any, Protocol

from benchmarks.fault_engine.asked import Asked
from benchmarks.fault_engine.faults import DURING, Fault
from benchmarks.fault_engine.model import END_THINK
from benchmarks.fault_engine.replies import DONE, Replies, error_body, error_event
from benchmarks.fault_engine.sequence import Sequence
from benchmarks.null_replies import EVENT_STREAM_HEAD, frame, json_reply

LAST_CHUNK = b"0\r\n\r\n"
REQUESTS_REMEMBERED = 200_000
CACHE_TOKENS = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Character:
    """How this engine is. All of it can be changed while it runs."""

    ttft_ms: float = 20.0
    prefill_tokens_per_second: float = 20_000.0
    itl_ms: float = 20.0
    tokens_per_chunk: int = 1
    max_model_len: int = 8192
    max_num_seqs: int = 100_000
    weights: int = 0
    eos_every: int = 0
    reasoning_every: int = 0

    def changed(self, asked: dict[str, Any]) -> "Character":
        """This character with some values changed."""
        kinds = {item.name: type(getattr(self, item.name)) for item in fields(self)}
        if unknown := set(asked) - set(kinds):
            raise ValueError(f"no such setting: {', '.join(sorted(unknown))}; there are {', '.join(kinds)}")
        return replace(self, **{key: kinds[key](value) for key, value in asked.items()})


class Client(Protocol):
    """The connection an answer goes to."""

    gone: bool

    def write(self, data: bytes) -> None: ...
    def done(self) -> None: ...
    def drop(self) -> None: ...


class Engine:
    """All that runs."""

    def __init__(self, character: Character, *, name: str, served: str, key: str) -> None:
        self.character, self.name, self.served, self.key = character, name, served, key
        self.fault: Fault | None = None
        self.counters: Counter[str] = Counter()
        self.finished: deque[dict[str, Any]] = deque(maxlen=REQUESTS_REMEMBERED)
        self.running: set[Exchange] = set()
        self.waiting: deque[Exchange] = deque()
        self._frozen: list[Callable[[], None]] = []

    @property
    def hung(self) -> bool:
        """Whether nothing may happen."""
        return self.fault is not None and self.fault.name == "hang"

    @property
    def slowness(self) -> float:
        """By how much everything is stretched."""
        return self.fault.factor if self.fault is not None and self.fault.name == "slow" else 1.0

    def freeze(self, thaw: Callable[[], None]) -> None:
        """Keeps something until the fault is healed."""
        self._frozen.append(thaw)

    def switch(self, fault: Fault | None) -> None:
        """Another fault, or none: what the last one froze goes on."""
        self.fault, thawing, self._frozen = fault, self._frozen, []
        for thaw in thawing:
            thaw()

    def admit(self, exchange: "Exchange") -> None:
        """Starts an answer, or queues it."""
        self.counters["requests"] += 1
        exchange.acknowledge()
        self.waiting.append(exchange)
        self._fill()

    def over(self, exchange: "Exchange", outcome: str) -> None:
        """An answer has ended, one way or another."""
        if exchange in self.waiting:
            self.waiting.remove(exchange)
        self.running.discard(exchange)
        self.counters[outcome] += 1
        prompt, completion = exchange.counted()
        self.finished.append(
            {"id": exchange.identity, "outcome": outcome, "prompt_tokens": prompt, "completion_tokens": completion}
        )
        self._fill()

    def _fill(self) -> None:
        while self.waiting and len(self.running) < self.character.max_num_seqs:
            exchange = self.waiting.popleft()
            self.running.add(exchange)
            exchange.begin()

    def cache_usage(self) -> float:
        """A share that moves with every token that is read or made, and stands still where something stalls."""
        return sum(exchange.cached_tokens() for exchange in self.running) / CACHE_TOKENS

    def status(self) -> dict[str, Any]:
        """What the control endpoint tells."""
        fault = self.fault
        return {
            "id": self.name,
            "pid": os.getpid(),
            "running": len(self.running),
            "waiting": len(self.waiting),
            "fault": None if fault is None else {"name": fault.name, "hits": fault.hits},
            "counters": dict(self.counters),
        }


class Exchange:
    """One answer under way."""

    def __init__(self, engine: Engine, client: Client, asked: Asked, *, identity: str) -> None:
        self.identity = identity
        self._engine, self._client, self._asked = engine, client, asked
        self._replies = Replies(asked, identity=identity, created=int(time()))
        character = engine.character
        self._sequences = [
            Sequence(
                asked,
                index=index,
                weights=character.weights,
                eos_every=character.eos_every,
                reasoning_every=character.reasoning_every,
                nonce=engine.counters["requests"],
            )
            for index in range(asked.count * len(asked.prompts))
        ]
        self._due, self._tokens, self._opened, self._hit, self._ended = 0.0, 0, False, False, False
        self._timer: asyncio.TimerHandle | None = None

    def counted(self) -> tuple[int, int]:
        """(prompt tokens, completion tokens) so far."""
        return self._replies.counted(self._sequences)

    def cached_tokens(self) -> float:
        """Tokens of prompt and answer so far; of a prompt that is being read, the part that has been read."""
        if self._timer is None:
            return float(self._tokens)
        left = self._due - asyncio.get_running_loop().time() if not self._tokens else 0.0
        speed = self._engine.character.prefill_tokens_per_second / self._engine.slowness
        return max(0.0, sum(map(len, self._asked.prompts)) - left * speed) + self._tokens

    def acknowledge(self) -> None:
        """vLLM sends a stream's status before there is any token."""
        if self._asked.stream:
            self._client.write(EVENT_STREAM_HEAD)

    def begin(self) -> None:
        """The prefill starts now."""
        character = self._engine.character
        prompt = sum(map(len, self._asked.prompts))
        seconds = character.ttft_ms / 1000 + prompt / character.prefill_tokens_per_second
        self._due = asyncio.get_running_loop().time() + seconds * self._engine.slowness
        self._schedule()

    def give_up(self) -> None:
        """The client has gone."""
        self._end("abort")

    def _schedule(self) -> None:
        self._timer = asyncio.get_running_loop().call_at(self._due, self._advance)

    def _advance(self) -> None:
        engine, fault = self._engine, self._engine.fault
        self._timer = None
        if self._ended:
            return
        if engine.hung:
            engine.freeze(self._thaw)
            return
        if fault is not None and fault.name in DURING and self._tokens >= fault.after_tokens and not self._hit:
            self._hit = fault.hit()
            if self._hit:
                self._suffer(fault.name)
                return
        self._step()
        if not self._ended:
            self._due += engine.character.itl_ms / 1000 * engine.character.tokens_per_chunk * engine.slowness
            self._schedule()

    def _thaw(self) -> None:
        self._due = max(self._due, asyncio.get_running_loop().time())
        if not self._ended:
            self._schedule()

    def _step(self) -> None:
        engine, client = self._engine, self._client
        if not self._tokens:
            engine.counters["prompt_tokens"] += sum(map(len, self._asked.prompts))
        pieces = [] if self._opened else [self._replies.opening()]
        for sequence in self._sequences:
            if sequence.finish_reason is None:
                step = sequence.step(engine.character.tokens_per_chunk)
                engine.counters["generation_tokens"] += len(step.tokens)
                self._tokens += len(step.tokens)
                hidden = step.tokens[-1:] == (END_THINK,)  # a parser says nothing at the end of a thought
                if self._asked.stream and (
                    step.text or step.reasoning or self._asked.return_token_ids or step.finish_reason or not hidden
                ):
                    pieces.append(self._replies.chunk(sequence, step))
        over = all(sequence.finish_reason for sequence in self._sequences)
        if self._asked.stream:
            client.write(b"".join(frame(piece) for piece in pieces if piece))
            self._opened = True
        if not over:
            return
        if self._asked.stream:
            client.write(frame(self._replies.closing(self._sequences)) + LAST_CHUNK)
        else:
            client.write(json_reply(self._replies.whole(self._sequences)))
        self._end("success")
        client.done()

    def _suffer(self, fault: str) -> None:
        client = self._client
        if fault == "stall":
            self._engine.freeze(self._thaw)
            return
        if fault == "cut" or (fault == "false_end" and not self._asked.stream):
            self._end(fault)
            client.drop()
            return
        self._end(fault)
        if not self._asked.stream:
            died = error_body(500, "EngineCore encountered an issue.", "InternalServerError")
            client.write(json_reply(died, status=500))
        else:
            said = frame(error_event()) + frame(DONE) if fault == "error_event" else frame(DONE)
            client.write(said + LAST_CHUNK)
        client.done()

    def _end(self, outcome: str) -> None:
        if not self._ended:
            self._ended = True
            if self._timer is not None:
                self._timer.cancel()
            self._engine.over(self, outcome)

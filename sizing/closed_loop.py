"""Closed loop: what a load test with a fixed number of requests in flight sees of one engine.

Benchmarks that people publish, `vllm bench serve` and the acceptance suites run so: N prompts, at most C of them in
flight, the next one sent when one is answered. The scheduler is that of sizing/serving.py; here is only who sends, and
what such a client counts: the whole time from the first request to the last answer, ramp and tail included. It is what
calibration and docs/accuracy.md hold against observations.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, log

from sizing.serving import EngineLimits, Journal, simulate
from sizing.speed import StepTime
from sizing.step_seconds import steps_of

ENDLESS_TOKENS = 1e15
"""Stands for a cache that has no bound, in arithmetic that needs a number."""


@dataclass(frozen=True, kw_only=True)
class LoopLimits:
    """What bounds a batch; `kv_tokens` may be infinite."""

    max_num_batched_tokens: int
    max_num_seqs: int
    kv_tokens: float = inf


@dataclass(frozen=True, kw_only=True)
class LoopResult:
    """What the clients saw. Times are means over requests, `itl_seconds` over tokens."""

    duration_seconds: float
    output_tokens_per_second: float
    total_tokens_per_second: float
    ttft_seconds: float
    tpot_seconds: float
    itl_seconds: float


class LoopSource:
    """Requests in a given order, at most so many unanswered, and not faster than a rate."""

    def __init__(self, lengths: Sequence[tuple[int, int]], concurrency: int, requests_per_second: float) -> None:
        self._lengths = lengths
        self._gap_seconds = 1 / requests_per_second
        self._free_since = deque([0.0] * concurrency)
        self._sent = 0
        self.next_seconds = 0.0 if lengths else inf

    def take(self) -> tuple[int, int]:
        """The next one; moves on to the one after it, if that one may be sent."""
        sent = self._lengths[self._sent]
        self._sent += 1
        self._free_since.popleft()
        self._schedule()
        return sent

    def finished(self, now_seconds: float) -> None:
        """A request has been answered: its place is free."""
        self._free_since.append(now_seconds)
        self._schedule()

    def _schedule(self) -> None:
        may = self._sent < len(self._lengths) and bool(self._free_since)
        self.next_seconds = max(self._sent * self._gap_seconds, self._free_since[0]) if may else inf


def spread_lengths(mean_tokens: float, count: int, *, most_tokens: int = 2048) -> tuple[int, ...]:
    """Lengths of a chat dataset that is known by its mean alone: exponential, cut, in an order that mixes long and
    short, the same every time."""
    shares = [((index * 0.6180339887498949) % 1.0) for index in range(1, count + 1)]
    drawn = [min(float(most_tokens), max(4.0, -mean_tokens * log(1.0 - share))) for share in shares]
    scale = mean_tokens * count / sum(drawn)
    return tuple(max(1, round(one * scale)) for one in drawn)


def closed_loop(
    times: StepTime,
    limits: LoopLimits,
    lengths: Sequence[tuple[int, int]],
    *,
    concurrency: int,
    requests_per_second: float = inf,
    prefix_hit_ratio: float = 0.0,
    journal: Journal | None = None,
) -> LoopResult:
    """Replays `lengths` (prompt and output tokens) in order. `prefix_hit_ratio`: of each prompt, cached already."""
    served = simulate(
        EngineLimits(
            max_num_batched_tokens=limits.max_num_batched_tokens,
            max_num_seqs=limits.max_num_seqs,
            kv_blocks=min(limits.kv_tokens, ENDLESS_TOKENS),
            blocks_per_token=1.0,
            prefix_hit_ratio=prefix_hit_ratio,
            runs_ahead=times.host_overlaps,
        ),
        steps_of(times),
        LoopSource(lengths, concurrency, requests_per_second),
        seconds=inf,
        journal=journal,
    )
    outputs, seconds = sum(output for _, output in lengths), served.simulated_seconds
    return LoopResult(
        duration_seconds=seconds,
        output_tokens_per_second=outputs / seconds,
        total_tokens_per_second=(outputs + sum(prompt for prompt, _ in lengths)) / seconds,
        ttft_seconds=served.ttft_seconds.mean,
        tpot_seconds=served.tpot_seconds.mean,
        itl_seconds=served.itl_seconds.mean,
    )

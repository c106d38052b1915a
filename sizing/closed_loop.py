"""Closed loop: what a load test with a fixed number of requests in flight sees of one engine, replayed step by step.

Benchmarks that people publish, `vllm bench serve` and the acceptance suites run so: N prompts, at most C of them in
flight, the next one sent when one is answered. The replay takes the scheduler's rules (running requests first, prompts
in chunks up to max-num-batched-tokens, the last admitted gives way when the cache is full) and the step time; steps
that do the same are taken together. It is what calibration and docs/accuracy.md hold against observations.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, log

from sizing.speed import StepTime


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


@dataclass(kw_only=True, slots=True, eq=False)
class _Request:
    prompt: int
    output: int
    sent: float
    made: int = 0
    todo: int = 0
    first: float = 0.0
    started_step: int = 0

    def context(self, step: int) -> int:
        return self.prompt + self.made + step - self.started_step


def spread_lengths(mean_tokens: float, count: int, *, most_tokens: int = 2048) -> tuple[int, ...]:
    """Lengths of a chat dataset that is known by its mean alone: exponential, cut, in an order that mixes long and
    short, the same every time."""
    shares = [((index * 0.6180339887498949) % 1.0) for index in range(1, count + 1)]
    drawn = [min(float(most_tokens), max(4.0, -mean_tokens * log(1.0 - share))) for share in shares]
    scale = mean_tokens * count / sum(drawn)
    return tuple(max(1, round(one * scale)) for one in drawn)


def closed_loop(  # noqa: PLR0912, PLR0915 - one loop; its parts share all of its state
    times: StepTime,
    limits: LoopLimits,
    lengths: Sequence[tuple[int, int]],
    *,
    concurrency: int,
    requests_per_second: float = inf,
    prefix_tokens: int = 0,
) -> LoopResult:
    """Replays `lengths` (prompt and output tokens) in order. `prefix_tokens`: of each prompt, cached already."""
    unsent = deque(lengths)
    waiting: deque[_Request] = deque()
    running: list[_Request] = []
    ends: dict[int, list[_Request]] = {}
    partial: _Request | None = None
    now, step, decoding, context, used, open_count, sent_count = 0.0, 0, 0, 0, 0.0, 0, 0
    first_total, per_token_total, inter_total, inter_count, done = 0.0, 0.0, 0.0, 0, 0
    while unsent or open_count:
        while unsent and open_count < concurrency and sent_count / requests_per_second <= now:
            prompt, output = unsent.popleft()
            sent = max(sent_count / requests_per_second, 0.0) if requests_per_second < inf else now
            waiting.append(_Request(prompt=prompt, output=output, sent=max(sent, 0.0)))
            sent_count, open_count = sent_count + 1, open_count + 1
        if not (waiting or running or partial):
            now = max(now, sent_count / requests_per_second)
            continue
        while used + decoding > limits.kv_tokens and len(running) > 1:
            victim = running.pop()
            held = victim.context(step)
            ends[victim.started_step + victim.output - victim.made].remove(victim)
            decoding, context, used = decoding - 1, context - held, used - held
            victim.made += step - victim.started_step
            waiting.appendleft(victim)
        budget, prefill, pairs = limits.max_num_batched_tokens - decoding, 0, 0.0
        ready: list[_Request] = []
        while budget > 0:
            if partial is None:
                if not waiting or decoding + len(ready) >= limits.max_num_seqs:
                    break
                needed = waiting[0].prompt + waiting[0].made
                if used + needed + decoding > limits.kv_tokens and (running or ready):
                    break
                partial = waiting.popleft()
                partial.todo = max(1, needed - (prefix_tokens if not partial.made else 0))
                used += needed
            chunk = min(budget, partial.todo)
            old = partial.prompt + partial.made - partial.todo
            pairs += chunk * old + chunk * (chunk + 1) / 2
            prefill, budget = prefill + chunk, budget - chunk
            partial.todo -= chunk
            if partial.todo:
                break
            ready.append(partial)
            partial = None
        count = 1
        if not prefill:
            nearest = min(end for end, those in ends.items() if those) - step
            room = (limits.kv_tokens - used) / decoding if decoding else inf
            count = int(max(1, min(nearest, room)))
            if unsent and open_count < concurrency:
                count = 1
        old_mean = pairs / prefill - (prefill + 1) / 2 if prefill else 0.0
        took = times.step_seconds(
            decode_count=decoding,
            decode_context_tokens=context + decoding * (count - 1) // 2,
            prefill_tokens=prefill,
            prefill_context_tokens=round(old_mean),
        )
        now += took * count
        step += count
        inter_total, inter_count = inter_total + took * count * decoding, inter_count + decoding * count
        context, used = context + decoding * count, used + decoding * count
        for request in ends.pop(step, ()):
            running.remove(request)
            held = request.prompt + request.output
            decoding, context, used = decoding - 1, context - held, used - held
            open_count, done = open_count - 1, done + 1
            per_token_total += (now - request.first) / max(1, request.output - 1)
        for request in ready:
            if not request.made:
                request.first = now
                first_total += now - request.sent
                request.made = 1
                used += 1
            request.started_step = step
            if request.made >= request.output:
                open_count, done, used = open_count - 1, done + 1, used - request.prompt - request.made
                continue
            running.append(request)
            decoding, context = decoding + 1, context + request.prompt + request.made
            ends.setdefault(step + request.output - request.made, []).append(request)
    outputs = sum(output for _, output in lengths)
    return LoopResult(
        duration_seconds=now,
        output_tokens_per_second=outputs / now,
        total_tokens_per_second=(outputs + sum(prompt for prompt, _ in lengths)) / now,
        ttft_seconds=first_total / len(lengths),
        tpot_seconds=per_token_total / max(1, done),
        itl_seconds=inter_total / max(1, inter_count),
    )

"""Bounds: what one engine does under a load on average, without a simulation; quick, and on the hopeful side.

In a steady state every step has the same in it. With R requests a second, p prompt and o answer tokens each, a step of
T seconds holds R x o x T decoding requests and R x p x T prompt tokens, so

    T = step(R o T requests that decode, R p T tokens of prompts)            a load of n clients: R = n / (pause + E2E)

which is solved by iteration. Queues and chance only add to it: what fails here fails for certain.
"""

from dataclasses import dataclass

from sizing.demand import Demand
from sizing.serving import EngineLimits, StepSeconds

ITERATIONS = 60
TOLERANCE = 1e-4


@dataclass(frozen=True, kw_only=True)
class Alone:
    """A request that has the engine for itself: the best that anyone can see."""

    ttft_seconds: float
    tpot_seconds: float


@dataclass(frozen=True, kw_only=True)
class Steady:
    """The average step of one engine; `stable` False: there is more to do than it can."""

    step_seconds: float
    in_flight: float
    requests_per_second: float
    stable: bool


def alone(demand: Demand, limits: EngineLimits, step: StepSeconds, *, prompt_tokens: int | None = None) -> Alone:
    """TTFT of a prompt (default: the mean one) in chunks, TPOT at the mean context."""
    prompt = prompt_tokens or demand.prompt.mean_tokens
    cached = int(prompt * limits.prefix_hit_ratio)
    seconds, rest = 0.0, max(1, prompt - cached)
    while rest > 0:
        chunk = min(rest, limits.max_num_batched_tokens)
        seconds += step(0, 0, chunk, chunk * (prompt - rest + (chunk + 1) / 2))
        rest -= chunk
    return Alone(ttft_seconds=seconds, tpot_seconds=step(1, int(demand.context_tokens), 0, 0.0))


def steady(share: Demand, limits: EngineLimits, step: StepSeconds) -> Steady:
    """One engine under its share of a load."""
    first = alone(share, limits, step)
    prompt = max(1.0, share.prompt.mean_tokens * (1 - limits.prefix_hit_ratio))
    output = share.output.mean_tokens
    held = limits.fixed_blocks + limits.blocks_per_token * share.context_tokens
    most = min(float(limits.max_num_seqs), limits.kv_blocks / held if held else float("inf"))
    seconds, previous = first.tpot_seconds, 0.0
    rate = running = 0.0
    queues = False
    for _ in range(ITERATIONS):
        rate = share.rate_per_second or share.clients_count / (
            share.pause_seconds + first.ttft_seconds + output * seconds
        )
        running = rate * output * seconds
        queues = running > most
        if queues:
            # The rest waits: those who run get all of the engine, at the rate that this allows.
            running = most
            rate = min(rate, running / (output * seconds))
        new = rate * prompt * seconds
        if new + running > limits.max_num_batched_tokens:
            queues = True
            new = max(1.0, limits.max_num_batched_tokens - running)
            rate = new / (prompt * seconds)
        tokens = max(1, round(new)) if new >= 1 else 0
        pairs = tokens * min(prompt, limits.max_num_batched_tokens) / 2
        seconds = step(max(1, round(running)), int(running * share.context_tokens), tokens, pairs)
        if not tokens:
            seconds += new * (first.ttft_seconds / prompt)
        if abs(seconds - previous) < TOLERANCE * seconds:
            break
        seconds, previous = (seconds + previous) / 2 if previous else seconds, seconds
    offered = share.rate_per_second
    people_queue = queues and share.people_count is not None
    return Steady(
        step_seconds=seconds,
        in_flight=running,
        requests_per_second=rate,
        stable=not people_queue and (offered is None or rate >= offered * (1 - 1e-3)),
    )

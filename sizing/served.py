"""Served: what goes into the simulation of an engine and what comes out, apart from how it is simulated."""

from collections.abc import Callable
from dataclasses import dataclass

from sizing.quantiles import Distribution

StepSeconds = Callable[[int, int, int, float], float]
"""Seconds of one step: decoding requests, all their context tokens, prefill tokens, pairs of a prefill token with one
that it attends to."""


@dataclass(frozen=True, kw_only=True)
class EngineLimits:
    """What bounds the batch of one engine.

    A request of n tokens holds `fixed_blocks + n * blocks_per_token`. `prefix_hit_ratio`: share of each prompt that
    the prefix cache has. `runs_ahead`: the batch after the running one is chosen already (asynchronous scheduling).
    """

    max_num_batched_tokens: int
    max_num_seqs: int
    kv_blocks: float
    blocks_per_token: float
    fixed_blocks: float = 0.0
    prefix_hit_ratio: float = 0.0
    runs_ahead: bool = False


@dataclass(frozen=True, kw_only=True)
class Served:
    """What the requests saw that came within the measured time, and what the engine did during it.

    `good_ratio`: requests that met both times of the objective. `overloaded`: the queue grew without end.
    """

    ttft_seconds: Distribution
    tpot_seconds: Distribution
    itl_seconds: Distribution
    e2e_seconds: Distribution
    offered_per_second: float
    requests_per_second: float
    output_tokens_per_second: float
    prompt_tokens_per_second: float
    good_per_second: float
    good_ratio: float
    in_flight_mean: float
    busy_ratio: float
    kv_used_ratio: float
    preempted_count: int
    refused_count: int
    simulated_seconds: float
    overloaded: bool

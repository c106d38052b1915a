"""Gateway load: workers and hosts of the gateway from requests and streamed pieces per second.

    cores = requests/s x seconds a request + pieces/s x seconds a piece;    pieces of an answer of n tokens, k a piece:
    1 + ceil((n - 1) / k), because vLLM sends the first token at once (v1/engine/output_processor.py, 0.32.0)

LiteLLM 1.109.1 with keys, budgets, spend logs and Redis, one worker, uvicorn with uvloop and httptools, measured in a
closed loop on a shared EPYC core (2026-11-21): 16.2 ms of CPU a request and 0.39 ms a piece; other builds and busier
minutes gave up to 19.8 and 0.47 ms, which is the high end here. Another processor scales both.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

REQUEST_SECONDS = (0.0150, 0.0162, 0.0198)
PIECE_SECONDS = (0.00038, 0.00039, 0.00047)
"""Low, likely, high: CPU seconds of one core."""

WORKER_LOAD_RATIO = 0.6
"""A guess: above this share of its core a worker's own queue is felt in every token."""

GATEWAY_CORES = 8
"""Of a gateway host, where nobody says otherwise."""

INTERVALS = (1, 2, 4, 8, 16)
SMOOTH_SECONDS = 0.15
"""A guess: pieces that come more often than this read as flowing text."""


@dataclass(frozen=True, kw_only=True)
class Streaming:
    """What was said about the gateway; `interval_tokens` None: choose."""

    interval_tokens: int | None = None
    host_cores: int = GATEWAY_CORES


@dataclass(frozen=True, kw_only=True)
class Stream:
    """The answers of one model: how many, how long, how fast."""

    requests_per_second: float
    output_tokens: int
    tpot_seconds: float


@dataclass(frozen=True, kw_only=True)
class GatewayLoad:
    """One stream interval: what it costs the gateway and how it feels. `cores`: low, likely, high."""

    interval_tokens: int
    pieces_per_second: float
    cores: tuple[float, float, float]
    workers: int
    hosts: int
    gap_seconds: float
    chosen: bool
    because: str


def gateway_loads(streams: Sequence[Stream], streaming: Streaming) -> tuple[GatewayLoad, ...]:
    """Every interval that is worth weighing; the chosen one says why."""
    wanted = streaming.interval_tokens
    found = [
        _load(streams, interval, streaming.host_cores)
        for interval in sorted({*INTERVALS, *((wanted,) if wanted else ())})
    ]
    smooth = [one for one in found if one.gap_seconds <= SMOOTH_SECONDS] or found[:1]
    chosen = min(smooth, key=lambda one: (one.workers, one.interval_tokens))
    because = f"the fewest workers of those whose pieces come within {SMOOTH_SECONDS * 1000:.0f} ms, and the smoothest"
    if wanted is not None:
        chosen = next(one for one in found if one.interval_tokens == wanted)
        because = "asked for"
        if chosen.gap_seconds > SMOOTH_SECONDS:
            because += f"; text comes in jerks of {chosen.gap_seconds * 1000:.0f} ms"
    return tuple(
        one if one is not chosen else GatewayLoad(**{**vars(one), "chosen": True, "because": because}) for one in found
    )


def _load(streams: Sequence[Stream], interval: int, host_cores: int) -> GatewayLoad:
    requests = sum(one.requests_per_second for one in streams)
    pieces = sum(one.requests_per_second * (1 + ceil((one.output_tokens - 1) / interval)) for one in streams)
    low, likely, high = (
        requests * each + pieces * piece for each, piece in zip(REQUEST_SECONDS, PIECE_SECONDS, strict=True)
    )
    workers = max(1, ceil(high / WORKER_LOAD_RATIO))
    return GatewayLoad(
        interval_tokens=interval,
        pieces_per_second=pieces,
        cores=(low, likely, high),
        workers=workers,
        hosts=ceil(workers / host_cores),
        gap_seconds=interval * max((one.tpot_seconds for one in streams), default=0.0),
        chosen=False,
        because="",
    )

"""Calibrate speed: from the load tests of one engine to four factors that explain them together.

A step's time goes to whole steps, to each request in them, to reading and to arithmetic (sizing/speed.py). Each kind
gets one factor: least squares of the logarithms of predicted to seen, with a pull to 1 that is as strong as the stated
interval is narrow, so that what the loads do not show stays as it was. A handful of Gauss-Newton steps.
"""

from collections.abc import Callable, Sequence
from math import exp, inf, log, sqrt
from pathlib import Path

from sizing.calibration import CalibratedSpeed, SpeedFactors, SpeedPoint
from sizing.closed_loop import LoopLimits, LoopResult, closed_loop
from sizing.engine_settings import EngineConfiguration, settings_of
from sizing.errors import DocumentError
from sizing.estimate import estimate
from sizing.speed import StepTime
from sizing.speed_reports import speed_points

SEEN_SPREAD = 0.03
"""How exact one load test is, as the standard deviation of its logarithm; what it outweighs is the pull to 1."""

ROUNDS, NUDGE, FURTHEST = 12, 0.02, 4.0
USUAL_BATCHES, USUAL_TOKENS = (1, 8, 32, 128), 256
"""Steps by which it is judged what the loads left open, alone and with a prompt in them."""


def calibrate_speed(
    reports: Sequence[Path], configuration: EngineConfiguration, *, prompt_tokens: int | None = None
) -> CalibratedSpeed:
    """What the reports teach about an engine that was run as `configuration`."""
    points = [point for path in reports for point in speed_points(path, prompt_tokens=prompt_tokens)]
    if not points:
        raise DocumentError(f"{', '.join(map(str, reports))}: no load without failures")
    plain = StepTime.of(configuration)
    limits = loop_limits(configuration)
    factors, spread, unlearned = _fit(plain, limits, points)
    return CalibratedSpeed(
        reports=tuple(path.name for path in reports),
        vllm_version=configuration.vllm_version,
        gpu=configuration.device.name,
        model=configuration.model.name,
        tensor_parallel_size=configuration.tensor_parallel_size,
        points=tuple(_with_prediction(point, replayed(plain, limits, point)) for point in points),
        factors=factors,
        spread_ratio=spread,
        unlearned_ratio=unlearned,
    )


def loop_limits(configuration: EngineConfiguration) -> LoopLimits:
    """What bounds the batches of an engine."""
    settings = settings_of(configuration)
    return LoopLimits(
        max_num_batched_tokens=settings.max_num_batched_tokens,
        max_num_seqs=settings.max_num_seqs,
        kv_tokens=float(estimate(configuration).kv_cache_tokens) or inf,
    )


def replayed(times: StepTime, limits: LoopLimits, point: SpeedPoint) -> LoopResult:
    """The load of a point, with these step times."""
    return closed_loop(
        times,
        limits,
        ((point.prompt_tokens, point.output_tokens),) * point.request_count,
        concurrency=point.concurrency or point.request_count,
        requests_per_second=point.requests_per_second or inf,
    )


def _fit(plain: StepTime, limits: LoopLimits, points: Sequence[SpeedPoint]) -> tuple[SpeedFactors, float, float]:
    """The factors, the spread that they leave, and what they leave open about steps that the loads did not have."""
    low, high = plain.interval_ratio
    pull = (SEEN_SPREAD / (log(high / low) / 2)) ** 2
    logs = [0.0, 0.0, 0.0, 0.0]
    matrix: list[list[float]] = []
    for _ in range(ROUNDS):
        here = _misses(plain, limits, points, logs)
        slopes = _slopes(lambda nudged: _misses(plain, limits, points, nudged), logs, here)
        matrix = [[sum(a * b for a, b in zip(one, other, strict=True)) for other in slopes] for one in slopes]
        right = [-sum(a * b for a, b in zip(one, here, strict=True)) for one in slopes]
        for index, value in enumerate(logs):
            matrix[index][index] += pull
            right[index] -= pull * value
        steps = _solved(matrix, right)
        logs = [min(FURTHEST, max(-FURTHEST, value + step)) for value, step in zip(logs, steps, strict=True)]
    left = _misses(plain, limits, points, logs)
    spread = sqrt(sum(miss * miss for miss in left) / len(left))
    return _factors(logs), spread, _unlearned(plain, limits, logs, matrix)


def _slopes(of: Callable[[Sequence[float]], list[float]], at: Sequence[float], here: list[float]) -> list[list[float]]:
    """How each value grows with each factor."""
    found = []
    for index in range(len(at)):
        there = of([value + NUDGE * (index == place) for place, value in enumerate(at)])
        found.append([(after - before) / NUDGE for before, after in zip(here, there, strict=True)])
    return found


def _unlearned(plain: StepTime, limits: LoopLimits, logs: Sequence[float], matrix: list[list[float]]) -> float:
    """The standard deviation of usual steps, as a logarithm, that is left by what the loads could not tell apart: two
    loads cannot separate what steps cost from what requests and prompts in them cost."""

    def steps(at: Sequence[float]) -> list[float]:
        times = plain.scaled(_factors(at))
        return [
            log(times.step_seconds(decode_count=count, decode_context_tokens=count * USUAL_TOKENS, prefill_tokens=new))
            for count in USUAL_BATCHES
            if count <= limits.max_num_seqs
            for new in (0, min(USUAL_TOKENS, limits.max_num_batched_tokens - count))
        ]

    by_factor = _slopes(steps, logs, steps(logs))
    variances = []
    for one in zip(*by_factor, strict=True):
        slope = list(one)
        variances.append(sum(a * b for a, b in zip(slope, _solved(matrix, slope), strict=True)))
    return SEEN_SPREAD * sqrt(max(0.0, sum(variances) / len(variances)))


def _misses(plain: StepTime, limits: LoopLimits, points: Sequence[SpeedPoint], logs: Sequence[float]) -> list[float]:
    """Logarithms of predicted time to seen time."""
    times = plain.scaled(_factors(logs))
    misses = []
    for point in points:
        result = replayed(times, limits, point)
        if point.output_tokens_per_second is not None:
            misses.append(log(point.output_tokens_per_second / result.output_tokens_per_second))
        if point.seconds_per_token is not None and point.output_tokens > 1:
            misses.append(log(result.tpot_seconds / point.seconds_per_token))
    if not misses:
        raise DocumentError("the loads state neither a throughput nor a time per token")
    return misses


def _factors(logs: Sequence[float]) -> SpeedFactors:
    fixed, request, reading, multiplying = (exp(value) for value in logs)
    return SpeedFactors(fixed_ratio=fixed, request_ratio=request, reading_ratio=reading, multiplying_ratio=multiplying)


def _with_prediction(point: SpeedPoint, result: LoopResult) -> SpeedPoint:
    return point.model_copy(
        update={
            "predicted_output_tokens_per_second": result.output_tokens_per_second,
            "predicted_seconds_per_token": result.tpot_seconds,
        }
    )


def _solved(matrix: list[list[float]], right: list[float]) -> list[float]:
    """The solution of a small symmetric system with a positive diagonal."""
    size = len(right)
    rows = [[*row, value] for row, value in zip(matrix, right, strict=True)]
    for pivot in range(size):
        best = max(range(pivot, size), key=lambda index: abs(rows[index][pivot]))
        rows[pivot], rows[best] = rows[best], rows[pivot]
        for below in range(pivot + 1, size):
            share = rows[below][pivot] / rows[pivot][pivot]
            rows[below] = [a - share * b for a, b in zip(rows[below], rows[pivot], strict=True)]
    found = [0.0] * size
    for index in reversed(range(size)):
        known = sum(rows[index][other] * found[other] for other in range(index + 1, size))
        found[index] = (rows[index][size] - known) / rows[index][index]
    return found

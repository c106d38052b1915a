"""Speed reports: the load tests that calibration learns speed from, read from their JSON.

`vllm bench serve --save-result` writes one object for each run; a suite of benchmarks/ writes a document with the rates
that it offered, alone or inside the `report.json` of an acceptance bundle. Neither says what it ran on.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from sizing.calibration import SpeedPoint
from sizing.errors import DocumentError

SUITE_REQUESTS = 200
"""Requests that stand for one offered rate, of which a suite states no number."""


def is_speed_report(path: Path) -> bool:
    """Whether the file is JSON; start-up logs are not."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.read(64).lstrip().startswith("{")
    except OSError:
        return False


def speed_points(path: Path, *, prompt_tokens: int | None = None) -> tuple[SpeedPoint, ...]:
    """The loads of one report. `prompt_tokens`: mean length of the prompts, where the report does not say it."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DocumentError(f"{path}: cannot be read as JSON: {error}") from None
    if not isinstance(content, dict):
        raise DocumentError(f"{path}: holds a list, not a report of one run")
    if "output_throughput" in content:
        return (_of_bench(content, origin=str(path)),)
    points = tuple(_of_suites(content, origin=str(path), prompt_tokens=prompt_tokens))
    if not points:
        raise DocumentError(
            f"{path}: holds no speed: neither `output_throughput` (vllm bench serve --save-result) nor `rate_points` "
            "of a throughput suite"
        )
    return points


def _of_bench(content: Mapping[str, object], *, origin: str) -> SpeedPoint:
    completed = int(_number(content, "completed", origin))
    if completed < 1:
        raise DocumentError(f"{origin}: not one request was answered")
    rate, bound, tpot = content.get("request_rate"), content.get("max_concurrency"), content.get("mean_tpot_ms")
    return SpeedPoint(
        concurrency=bound if isinstance(bound, int) and bound > 0 else None,
        requests_per_second=float(rate) if isinstance(rate, int | float) and 0 < rate < float("inf") else None,
        prompt_tokens=max(1, round(_number(content, "total_input_tokens", origin) / completed)),
        output_tokens=max(1, round(_number(content, "total_output_tokens", origin) / completed)),
        request_count=completed,
        output_tokens_per_second=_number(content, "output_throughput", origin),
        seconds_per_token=float(tpot) / 1e3 if isinstance(tpot, int | float) and tpot > 0 else None,
    )


def _of_suites(content: Mapping[str, object], *, origin: str, prompt_tokens: int | None) -> list[SpeedPoint]:
    found: list[SpeedPoint] = []
    inner = content.get("suites")
    for one in [content, *(inner if isinstance(inner, list) else [])]:
        rates = one.get("rate_points") if isinstance(one, dict) else None
        for rate in rates if isinstance(rates, list) else []:
            if prompt_tokens is None:
                raise DocumentError(f"{origin}: a suite does not say how long its prompts are; give --prompt-tokens")
            found.extend(_of_rate(rate, origin=origin, prompt_tokens=prompt_tokens))
    return found


def _of_rate(rate: Mapping[str, object], *, origin: str, prompt_tokens: int) -> list[SpeedPoint]:
    completed = _number(rate, "completed_per_second", origin)
    if completed <= 0 or rate.get("failed_count"):
        return []
    saturated = bool(rate.get("saturated"))
    produced = _number(rate, "output_tokens_per_second", origin)
    return [
        SpeedPoint(
            requests_per_second=_number(rate, "offered_per_second", origin),
            prompt_tokens=prompt_tokens,
            output_tokens=max(1, round(produced / completed)),
            request_count=SUITE_REQUESTS,
            output_tokens_per_second=produced if saturated else None,
            seconds_per_token=None if saturated else _number(rate, "itl_p50_ms", origin) / 1e3,
        )
    ]


def _number(content: Mapping[str, object], key: str, origin: str) -> float:
    value = content.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise DocumentError(f"{origin}: {key} is {value!r}; a number is needed")
    return float(value)

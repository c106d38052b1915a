"""Judges the sizing of GPU memory by published start-up ledgers: predicted pool against the logged one, row by row.

`python -m tools.judge_ledgers` prints the table that docs/accuracy.md shows. A ledger whose model or vLLM version the
catalogue does not hold is listed, not judged.
"""

import statistics
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from sizing.errors import SizingError, UnknownFact
from sizing.estimate import Estimate, estimate
from sizing.units import GIB
from tools.hold_out_overhead import hold_out_lines
from tools.start_up_ledgers import Ledger, ledger_file

MEDIAN_TARGET_RATIO = 0.05
NINETIETH_TARGET_RATIO = 0.15
INTERVAL_TARGET_RATIO = 0.90


@dataclass(frozen=True, kw_only=True)
class Judged:
    """One ledger with the prediction, or with the reason why there is none."""

    ledger: Ledger
    verdict: Literal["fits", "does_not_fit", "refused", "not judged"]
    why: str = ""
    predicted_gib: float = 0.0
    low_gib: float = 0.0
    high_gib: float = 0.0

    @property
    def observed_gib(self) -> float:
        return self.ledger.observed.kv_cache_gib or 0.0

    @property
    def error_ratio(self) -> float:
        return self.predicted_gib / self.observed_gib - 1

    @property
    def interval_holds(self) -> bool:
        return self.low_gib <= self.observed_gib <= self.high_gib


def judged(ledger: Ledger) -> Judged:
    """One ledger against the sizing of today."""
    try:
        answer = estimate(ledger.configuration())
    except UnknownFact as error:
        return Judged(ledger=ledger, verdict="not judged", why=str(error))
    low, high = _interval(answer)
    return Judged(
        ledger=ledger,
        verdict=answer.verdict,
        why="; ".join(refusal.message for refusal in answer.refusals),
        predicted_gib=answer.per_gpu.kv_cache_bytes / GIB,
        low_gib=low,
        high_gib=high,
    )


def _interval(answer: Estimate) -> tuple[float, float]:
    low, high = answer.interval.kv_cache_bytes
    return low / GIB, high / GIB


def ledgers_judged() -> tuple[Judged, ...]:
    """Every ledger that sizing can answer for, refused ones included."""
    return tuple(judged(ledger) for ledger in ledger_file().ledgers)


@dataclass(frozen=True, kw_only=True)
class Score:
    """The figures that the accuracy target names."""

    count: int
    median_error_ratio: float
    ninetieth_error_ratio: float
    interval_ratio: float

    @property
    def meets_the_target(self) -> bool:
        return (
            self.median_error_ratio <= MEDIAN_TARGET_RATIO
            and self.ninetieth_error_ratio <= NINETIETH_TARGET_RATIO
            and self.interval_ratio >= INTERVAL_TARGET_RATIO
        )


def score(rows: tuple[Judged, ...]) -> Score | None:
    """Errors without sign over the rows that were judged; None where there are none."""
    counted = [row for row in rows if row.verdict != "not judged"]
    if not counted:
        return None
    errors = sorted(abs(row.error_ratio) for row in counted)
    return Score(
        count=len(counted),
        median_error_ratio=statistics.median(errors),
        ninetieth_error_ratio=errors[min(len(errors) - 1, int(0.9 * len(errors)))],
        interval_ratio=sum(row.interval_holds for row in counted) / len(counted),
    )


def section_lines() -> Iterator[str]:
    """Lines of Markdown: the scores, every row, the refusals, and what was left out."""
    rows = ledgers_judged()
    published = tuple(row for row in rows if not row.ledger.id.startswith("llmd-"))
    series = tuple(row for row in rows if row.ledger.id.startswith("llmd-"))
    yield "| ledgers | n | median error | 90th percentile | interval holds |"
    yield "| --- | ---: | ---: | ---: | ---: |"
    for name, group in (("single logs", published), ("series on H100, vLLM 0.19.0", series), ("all", rows)):
        one = score(group)
        if one is None:
            yield f"| {name} | 0 | | | |"
            continue
        yield (
            f"| {name} | {one.count} | {one.median_error_ratio:.1%} | {one.ninetieth_error_ratio:.1%} "
            f"| {one.interval_ratio:.0%} |"
        )
    yield ""
    yield "| ledger | GPU | vLLM | predicted GiB | logged GiB | error | interval GiB | holds | left open |"
    yield "| --- | --- | --- | ---: | ---: | ---: | --- | --- | --- |"
    yield from (_line(row) for row in rows)
    yield ""
    yield "Constants that are fitted, each profile run predicted by the constants of all others:"
    yield ""
    yield from hold_out_lines()
    yield ""
    yield "Starts that vLLM refused; sizing must never say that they fit:"
    yield ""
    yield "| ledger | sizing says | why |"
    yield "| --- | --- | --- |"
    for row in map(judged, ledger_file().refusals):
        yield f"| {row.ledger.id} | {row.verdict.replace('_', ' ')} | {row.why} |"
    yield ""
    yield f"Read and left out ({len(ledger_file().excluded)}), because the source says too little or it is no BF16 or"
    yield "official FP8 model on an NVIDIA GPU with vLLM 0.19 or newer:"
    yield ""
    for name, reason in sorted(ledger_file().excluded.items(), key=lambda item: (item[1], item[0])):
        yield f"- {name}: {reason}"


def _line(row: Judged) -> str:
    ledger = row.ledger
    place = f"| {ledger.id} | {ledger.gpu} x {ledger.tensor_parallel_size} | {ledger.vllm_version} |"
    if row.verdict == "not judged":
        return f"{place} | {row.observed_gib:.2f} | | | not judged | {row.why} |"
    return (
        f"{place} {row.predicted_gib:.2f} | {row.observed_gib:.2f} | {row.error_ratio:+.1%} | "
        f"{row.low_gib:.2f} to {row.high_gib:.2f} | {'yes' if row.interval_holds else '**no**'} | {ledger.assumed} |"
    )


def main() -> int:
    """Prints the section."""
    try:
        sys.stdout.write("\n".join(section_lines()) + "\n")
    except SizingError as error:
        sys.stderr.write(f"judge_ledgers: {error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())

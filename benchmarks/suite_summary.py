"""Suite summary: one suite's result on a terminal. The latency picture is drawn with block characters."""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from benchmarks.result import Distribution, Measurement, RatePoint, SuiteResult

COLOURS = {"passed": "bold green", "failed": "bold red", "invalid": "bold yellow"}
BARS = "▁▂▃▄▅▆▇█"
BAR_COUNT = 40
HIGH_SHARE = 0.99


def suite_summary(result: SuiteResult) -> Group:
    """The question, the answer, what was agreed and seen, the numbers, what speaks against them."""
    head = Text.assemble(
        f"{result.question}\n", (result.verdict.upper(), COLOURS.get(result.verdict, "bold")),
        f"  {result.suite}, {result.duration_seconds:.0f} s",
    )  # fmt: skip
    parts: list[RenderableType] = [head]
    if result.criteria:
        table = Table("", "criterion", "agreed", "seen")
        for criterion in result.criteria:
            mark = Text("yes", "green") if criterion.passed else Text("NO", "bold red")
            table.add_row(mark, Text(criterion.name), Text(criterion.agreed), Text(criterion.seen))
        parts.append(table)
    if result.rate_points:
        parts.append(_rates(result.rate_points))
    if result.measurements:
        parts.append(_measurements(result.measurements))
    parts += [_histogram(distribution) for distribution in result.distributions if distribution.count]
    parts += [Text(f"INVALID: {objection}", "bold red") for objection in result.objections]
    parts += [Text(f"note: {note}") for note in result.notes]
    return Group(*parts)


def _rates(points: Sequence[RatePoint]) -> Table:
    table = Table("offered/s", "done/s", "tokens/s", "TTFT p50", "p99", "ITL p50", "p99", "queue grows", "failed")
    for point in points:
        growth = f"{point.backlog_ratio:.1%}" + (" SATURATED" if point.saturated else "")
        latencies = (point.ttft_p50_ms, point.ttft_p99_ms, point.itl_p50_ms, point.itl_p99_ms)
        table.add_row(
            f"{point.offered_per_second:.2f}", f"{point.completed_per_second:.2f}",
            f"{point.output_tokens_per_second:.0f}", *(f"{value:.1f}" for value in latencies), growth,
            str(point.failed_count),
        )  # fmt: skip
    return table


def _measurements(measurements: Sequence[Measurement]) -> Table:
    table = Table("measured", "value", "95 % interval", "unit", "n")
    for measured in map(_in_mebibytes, measurements):
        known = measured.low is not None and measured.high is not None
        interval = f"{_number(measured.low or 0.0)} to {_number(measured.high or 0.0)}" if known else ""
        table.add_row(Text(measured.name), _number(measured.value), interval, measured.unit, str(measured.count or ""))
    return table


def _in_mebibytes(measured: Measurement) -> Measurement:
    if not measured.unit.startswith("bytes"):
        return measured
    scaled = {name: getattr(measured, name) for name in ("value", "low", "high")}
    scaled = {name: value / 2**20 for name, value in scaled.items() if value is not None}
    return measured.model_copy(update={**scaled, "unit": measured.unit.replace("bytes", "MiB")})


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"  # noqa: PLR2004  whole numbers from here on


def _histogram(distribution: Distribution) -> Text:
    """How the samples below p99 are spread, as bars over equal steps of time."""
    low = distribution.quantiles[0][1]
    high = max(value for share, value in distribution.quantiles if share <= HIGH_SHARE)
    heights = [0.0] * BAR_COUNT
    for (share, value), (following, _) in zip(distribution.quantiles, distribution.quantiles[1:], strict=False):
        place = int((value - low) / (high - low) * (BAR_COUNT - 1)) if high > low else 0
        heights[min(place, BAR_COUNT - 1)] += following - share
    tallest = max(heights)
    bars = "".join(BARS[round(height / tallest * (len(BARS) - 1))] if height else " " for height in heights)
    return Text(f"{distribution.name:>14} {low:>8.1f} ms |{bars}| {high:.1f} ms (p99), n = {distribution.count:,}")

"""Charts: inline SVG from matplotlib, coloured by the page's own variables so that they follow light, dark and print.

Figures are 4.4 inches wide with 9 point text: as wide as a phone, so that a small screen need not shrink their
letters. Given the same numbers the same bytes come out.
"""

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.acceptance import Prediction
from benchmarks.result import Distribution, Measurement, RatePoint, Series

INCHES = (4.4, 2.9)
# Stand-ins that matplotlib writes and the page replaces; no real colour is this dark and close.
_VARIABLES = {
    "#010203": "var(--ink)",
    "#020304": "var(--soft)",
    "#030405": "var(--line)",
    "#040506": "var(--one)",
    "#050607": "var(--two)",
    "#060708": "var(--three)",
    "#070809": "var(--bad)",
    "#08090a": "var(--good)",
}
INK, SOFT, LINE, ONE, TWO, THREE, BAD, GOOD = _VARIABLES
SIDES = (ONE, TWO, THREE)
_ON_WHITE = {
    "ink": "#1b1f24", "soft": "#59636e", "line": "#d1d9e0", "one": "#0969da", "two": "#bc4c00", "three": "#8250df",
    "bad": "#cf222e", "good": "#1a7f37",
}  # fmt: skip
LOG_FROM_RATIO = 8  # below, a logarithmic axis has no numbers to show
LOG_TICKS = (1.0, 2.0, 5.0)
LOG_TICKS_UP_TO_RATIO = 200  # beyond, powers of ten alone have room for their numbers


def saturation_curve(points: Sequence[RatePoint], *, name: str = "saturation") -> str:
    """Delivered tokens/s and TTFT over the offered rate; saturated rates are hollow and red."""
    with figure(name) as (drawn, result):
        upper, lower = drawn.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": [3, 2], "hspace": 0.12})
        offered = [point.offered_per_second for point in points]
        upper.plot(offered, [point.output_tokens_per_second for point in points], color=ONE, linewidth=1.6, zorder=2)
        lower.plot(offered, [point.ttft_p50_ms for point in points], color=TWO, linewidth=1.6, label="p50", zorder=2)
        lower.plot(
            offered, [point.ttft_p99_ms for point in points], color=THREE, linewidth=1.2, linestyle="--", label="p99"
        )
        for point in points:
            face, edge = ("none", BAD) if point.saturated else (ONE, ONE)
            upper.plot(
                [point.offered_per_second],
                [point.output_tokens_per_second],
                "o",
                markerfacecolor=face,
                color=edge,
                zorder=3,
            )
        saturated = [point.offered_per_second for point in points if point.saturated]
        sound = [point.offered_per_second for point in points if not point.saturated]
        if saturated and sound:
            edge_at = (max(sound) + min(saturated)) / 2
            for axes in (upper, lower):
                axes.axvline(edge_at, color=BAD, linewidth=0.9, linestyle=":")
            upper.annotate(
                "queue grows", (edge_at, 0.04), xycoords=("data", "axes fraction"), xytext=(3, 0),
                textcoords="offset points", color=BAD, fontsize=8,
            )  # fmt: skip
        upper.set_ylim(bottom=0)
        upper.set_ylabel("tokens/s")
        lower.set_yscale("log")
        lower.set_ylabel("TTFT, ms")
        lower.set_xlabel("offered requests/s (red, hollow: saturated)")
        lower.legend(loc="upper left", ncols=2)
    return result[0]


def latency_cdf(distributions: Sequence[Distribution], *, title: str, name: str, bound: float | None = None) -> str:
    """Share of samples within a latency, one line per side."""
    with figure("cdf-" + name) as (drawn, result):
        axes = drawn.subplots()
        for colour, distribution in zip(SIDES, distributions, strict=False):
            shares = [share for share, _ in distribution.quantiles]
            values = [value for _, value in distribution.quantiles]
            label = f"{distribution.name} (n = {distribution.count:,})"
            axes.plot(values, [share * 100 for share in shares], color=colour, linewidth=1.6, label=label)
        if bound is not None:
            axes.axvline(bound, color=BAD, linewidth=1, linestyle=":")
            axes.annotate("agreed", (bound, 94), xytext=(3, 0), textcoords="offset points", color=BAD, fontsize=8)
        values = [value for distribution in distributions for _, value in distribution.quantiles if value > 0]
        if values and max(values) > LOG_FROM_RATIO * min(values):
            axes.set_xscale("log")
        axes.set_xlabel(f"{title}, ms")
        axes.set_ylabel("% of samples within")
        axes.set_ylim(0, 101)
        axes.legend(loc="lower right")
    return result[0]


def intervals(measurements: Sequence[Measurement], *, title: str, name: str = "intervals") -> str:
    """Estimates with their 95 % intervals, one per row."""
    with figure(name, height=0.55 + 0.36 * len(measurements)) as (drawn, result):
        axes = drawn.subplots()
        for row, measured in enumerate(reversed(measurements)):
            low = measured.value if measured.low is None else measured.low
            high = measured.value if measured.high is None else measured.high
            axes.plot([low, high], [row, row], color=ONE, linewidth=3, solid_capstyle="butt", alpha=0.45)
            axes.plot([measured.value], [row], "o", color=ONE)
            axes.annotate(
                f"{measured.value:.3g}", (measured.value, row), xytext=(0, 6), textcoords="offset points",
                ha="center", fontsize=8,
            )  # fmt: skip
        axes.axvline(0, color=SOFT, linewidth=0.8)
        axes.set_yticks(range(len(measurements)), [measured.name for measured in reversed(measurements)])
        axes.set_ylim(-0.6, len(measurements) - 0.3)
        axes.margins(x=0.12)
        axes.set_xlabel(title)
    return result[0]


def over_time(series: Sequence[Series], *, title: str, name: str) -> str:
    """Quantities of one unit over time."""
    with figure("series-" + name) as (drawn, result):
        axes = drawn.subplots()
        for colour, line in zip(SIDES, series, strict=False):
            axes.plot(
                [at / 60 for at, _ in line.points], [value for _, value in line.points], color=colour, label=line.name
            )
        axes.set_ylim(bottom=0)
        axes.set_xlabel("minutes")
        axes.set_ylabel(title)
        axes.legend(loc="lower right")
    return result[0]


def predicted_against_measured(predictions: Sequence[Prediction], *, name: str = "predictions") -> str:
    """Each measured number as a share of its prediction; the promised interval is the bar."""
    rows = [prediction for prediction in predictions if prediction.measured is not None and prediction.predicted]
    with figure(name, height=0.7 + 0.36 * max(len(rows), 1)) as (drawn, result):
        axes = drawn.subplots()
        ends: list[float] = []
        for row, prediction in enumerate(reversed(rows)):
            low = (prediction.predicted_low or prediction.predicted) / prediction.predicted * 100
            high = (prediction.predicted_high or prediction.predicted) / prediction.predicted * 100
            axes.plot([low, high], [row, row], color=SOFT, linewidth=6, solid_capstyle="butt", alpha=0.35)
            share = (prediction.measured or 0.0) / prediction.predicted * 100
            missed = BAD if prediction.binding else THREE
            axes.plot([share], [row], "o", color=missed if prediction.holds is False else GOOD)
            ends += [low, high, share]
        axes.axvline(100, color=SOFT, linewidth=0.8)
        axes.set_yticks(range(len(rows)), [f"{entry.subject}\n{entry.name}" for entry in reversed(rows)], fontsize=8)
        axes.set_ylim(-0.6, len(rows) - 0.4)
        axes.margins(x=0.15)
        if ends and min(ends) > 0 and max(ends) > LOG_FROM_RATIO * min(ends):
            axes.set_xscale("log")
        axes.set_xlabel("measured, % of predicted")
    return result[0]


def standalone(svg: str) -> str:
    """The picture as a file of its own, with colours for a white ground."""
    for name, colour in _ON_WHITE.items():
        svg = svg.replace(f"var(--{name})", colour)
    return svg.replace("<svg ", '<svg style="background: white; font-family: sans-serif" ', 1)


@contextmanager
def figure(name: str, *, height: float = INCHES[1]) -> Iterator[tuple[Figure, list[str]]]:
    """A figure to draw on; the SVG stands in the list afterwards."""
    settings: dict[Any, Any] = {
        "svg.fonttype": "none",
        "svg.hashsalt": name,
        "font.size": 9,
        "axes.edgecolor": LINE,
        "axes.labelcolor": SOFT,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": LINE,
        "grid.linewidth": 0.6,
        "xtick.color": SOFT,
        "ytick.color": SOFT,
        "text.color": INK,
        "legend.frameon": False,
        "legend.fontsize": 8,
        "lines.markersize": 5,
    }
    result: list[str] = []
    with mpl.rc_context(settings):
        drawn = Figure(figsize=(INCHES[0], height), layout="constrained")
        yield drawn, result
        for axes in drawn.axes:
            _plain_numbers(axes)
        buffer = io.StringIO()
        drawn.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    result.append(_inline(buffer.getvalue(), name))


def _plain_numbers(axes: Axes) -> None:
    for axis in (axes.xaxis, axes.yaxis):
        if axis.get_scale() == "log":
            low, high = axis.get_view_interval()
            subs = LOG_TICKS if high <= low * LOG_TICKS_UP_TO_RATIO else (1.0,)
            axis.set_major_locator(ticker.LogLocator(subs=subs, numticks=8))
            axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
            axis.set_minor_formatter(ticker.NullFormatter())


def _inline(svg: str, name: str) -> str:
    """The <svg> element alone, its ids made unique, its colours the page's, its letters the page's."""
    prefix = re.sub(r"\W+", "-", name)
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{prefix}-', svg)
    svg = re.sub(r"url\(#", f"url(#{prefix}-", svg)
    svg = re.sub(r'xlink:href="#', f'xlink:href="#{prefix}-', svg)
    svg = re.sub(r" font-family: [^;\"]*;?", "", svg)
    svg = re.sub(r"font: (\d+px)[^;\"]*", r"font-size: \1", svg)
    svg = re.sub(r"<svg ", '<svg class="chart" role="img" ', svg, count=1)
    for stand_in, variable in _VARIABLES.items():
        svg = svg.replace(stand_in, variable)
    return svg

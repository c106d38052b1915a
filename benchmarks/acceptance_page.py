"""Acceptance page: one self-contained HTML file for somebody who was not there. No script, nothing from outside."""

from collections.abc import Mapping
from dataclasses import dataclass

from markupsafe import Markup

from benchmarks import charts, fault_charts, fault_view
from benchmarks.acceptance import LATE_ADVICE, Acceptance
from benchmarks.result import Criterion, Distribution, Measurement, Series, SuiteResult
from sizing.page_template import page_template

OBJECTIVE_SUITE = "agreed_load"
LISTED_WHOLE = 12  # criteria of one suite with faults
CHART_TITLES = {"TTFT": "time to first token", "ITL": "inter-token latency", "E2E": "end to end"}


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A picture and the sentence under it."""

    svg: Markup
    caption: str


@dataclass(frozen=True, kw_only=True)
class SuiteView:
    """A suite with its pictures."""

    result: SuiteResult
    charts: tuple[Chart, ...]
    times: tuple["Times", ...]

    @property
    def listed(self) -> tuple[Criterion, ...]:
        """Of many faults only what was missed, and the sum: the others are told fault by fault."""
        criteria = self.result.criteria
        if not self.result.faults or len(criteria) <= LISTED_WHOLE:
            return criteria
        return tuple(one for one in criteria if not one.passed or one is criteria[-1])

    @property
    def fault_groups(self) -> tuple[fault_view.FaultGroup, ...]:
        """The suite's faults, by name."""
        return fault_view.groups_of(self.result.faults)

    @property
    def fault_sums(self) -> tuple[fault_view.FaultSum, ...]:
        """All of them together."""
        return fault_view.sums_of(self.result.faults)

    @property
    def verdict(self) -> str:
        """In words that nobody takes for the site's failure when it was ours."""
        return "not judged" if self.result.verdict == "invalid" else self.result.verdict

    @property
    def title(self) -> str:
        """The suite in words, and the model it ran on."""
        words = self.result.suite.replace("_", " ").capitalize()
        return f"{words}: {self.result.subject}" if self.result.subject else words


@dataclass(frozen=True, kw_only=True)
class Times:
    """One latency of a suite beside its bound."""

    name: str
    p50: float
    p95: float
    p99: float
    bound: float | None


def render_page(acceptance: Acceptance) -> str:
    """The page, as HTML."""
    judged = [criterion for suite in acceptance.suites if suite.verdict != "invalid" for criterion in suite.criteria]
    return page_template("acceptance.html.j2", package="benchmarks").render(
        acceptance=acceptance,
        suites=[_view(suite, acceptance) for suite in acceptance.suites],
        predictions_charts=_prediction_charts(acceptance),
        passed_items=sum(item.status == "passed" for item in acceptance.checklist),
        has_faults=any(suite.faults for suite in acceptance.suites),
        met=sum(criterion.passed for criterion in judged),
        criteria_count=len(judged),
        late_advice=LATE_ADVICE,
        number=number,
        fault=fault_view,
    )


def _prediction_charts(acceptance: Acceptance) -> list[Chart]:
    """What was promised, and what was forecast: their scales differ."""
    measured = [prediction for prediction in acceptance.predictions if prediction.measured is not None]
    found = []
    for name, caption, rows in (
        ("predictions", "Promised by the plan", [one for one in measured if one.binding]),
        ("forecasts", "Forecast of speed, with its interval", [one for one in measured if not one.binding]),
    ):
        if rows:
            found.append(_chart(charts.predicted_against_measured(rows, name=name), caption))
    return found


def _view(suite: SuiteResult, acceptance: Acceptance) -> SuiteView:
    bounds = _bounds(acceptance) if suite.suite == OBJECTIVE_SUITE else {}
    return SuiteView(result=suite, charts=tuple(charts_of(suite, bounds)), times=_times(suite, acceptance))


def _times(suite: SuiteResult, acceptance: Acceptance) -> tuple[Times, ...]:
    """The table of objectives, for the suite that is judged by them."""
    if suite.suite != OBJECTIVE_SUITE:
        return ()
    values = {measured.name: measured.value for measured in suite.measurements}
    return tuple(
        Times(
            name=f"{title} ({key})",
            p50=values[f"{key} p50"],
            p95=values[f"{key} p95"],
            p99=values[f"{key} p99"],
            bound=_bounds(acceptance)[key],
        )
        for key, title in {**CHART_TITLES, "TPOT": "time per output token"}.items()
        if key in _bounds(acceptance) and f"{key} p50" in values
    )


def _bounds(acceptance: Acceptance) -> dict[str, float | None]:
    agreed = acceptance.criteria.objective
    return {"TTFT": agreed.ttft_ms, "TPOT": agreed.tpot_ms, "E2E": agreed.e2e_ms}


def number(value: float | None) -> str:
    """Three significant digits where that loses nothing a reader needs; thousands grouped."""
    if value is None:
        return ""
    if abs(value) >= 1000 or value == int(value):  # noqa: PLR2004  whole numbers from here on
        return f"{value:,.0f}"
    return f"{value:.3g}"


def charts_of(suite: SuiteResult, bounds: Mapping[str, float | None] | None = None) -> list[Chart]:
    """The pictures of one suite."""
    place = f"{suite.suite}-{suite.subject}"
    found: list[Chart] = []
    if suite.rate_points:
        repeats = suite.rate_points[0].repeats
        caption = f"Saturation: each point is {repeats} repeat{'s' if repeats > 1 else ''}, warm-up left out"
        found.append(_chart(charts.saturation_curve(suite.rate_points, name=f"saturation-{place}"), caption))
    if suite.faults:
        failed = fault_charts.failed_by_fault(suite.faults, name=f"failed-{place}")
        found.append(_chart(failed, "Requests that failed, or whose answer was wrong, of all sent around each fault"))
        silent = fault_charts.silence_by_fault(suite.faults, name=f"silence-{place}")
        found.append(_chart(silent, "The longest silence of each stream that ran when the fault struck"))
    for key, title in CHART_TITLES.items():
        same = [distribution for distribution in suite.distributions if distribution.name.split()[-1] == key]
        if any(distribution.count for distribution in same):
            svg = charts.latency_cdf(
                [_named(each) for each in same], title=title, name=f"{place}-{key}", bound=(bounds or {}).get(key)
            )
            found.append(_chart(svg, f"{title.capitalize()}: how many came within how long"))
    added = [measured for measured in suite.measurements if measured.name.startswith("added ")]
    if added:
        svg = charts.intervals([_short(measured) for measured in added], title="added ms", name=f"intervals-{place}")
        found.append(_chart(svg, "What the way through the gateway adds; bars are 95 % intervals over pairs"))
    for unit in sorted({series.unit for series in suite.series}):
        lines = [series for series in suite.series if series.unit == unit]
        scaled = [_scaled(line) for line in lines] if unit == "bytes" else lines
        title = "MiB" if unit == "bytes" else unit
        caption = "Memory over the run" if unit == "bytes" else "Latency over the run"
        for first in range(0, len(scaled), len(charts.SIDES)):
            few = scaled[first : first + len(charts.SIDES)]
            found.append(_chart(charts.over_time(few, title=title, name=f"{place}-{unit}-{first}"), caption))
    return found


def _chart(svg: str, caption: str) -> Chart:
    return Chart(svg=Markup(svg), caption=caption)  # noqa: S704  our own SVG; matplotlib escapes every label


def _named(distribution: Distribution) -> Distribution:
    """Without the quantity, which the axis already names."""
    side = distribution.name.rpartition(" ")[0]
    return distribution.model_copy(update={"name": side or "all requests"})


def _short(measured: Measurement) -> Measurement:
    return measured.model_copy(update={"name": measured.name.removeprefix("added ")})


def _scaled(line: Series) -> Series:
    points = tuple((at, value / 2**20) for at, value in line.points)
    return line.model_copy(update={"name": line.name.removeprefix("memory of "), "points": points})

"""Forecasts: what the speed model said of the agreed load, beside what the suites measured at it.

A forecast binds nobody: it holds in eight cases of ten, it knows the engines and not the way through the gateway, and
the site is judged by the agreed objective. On devices that nobody measured it is extrapolated and its interval wide.
"""

from collections.abc import Iterator, Mapping, Sequence

from benchmarks.acceptance import Prediction
from benchmarks.result import SuiteResult
from sizing.acceptance_criteria import LENGTH_SPREAD_RATIO, AcceptanceCriteria
from sizing.arrivals import Lengths
from sizing.calibration import Calibration
from sizing.demand import Demand
from sizing.errors import SizingError
from sizing.forecast import Forecast, forecast
from sizing.plan import Plan, PlannedModel
from sizing.site import Site

BASES = {
    "calibrated": "of the engines alone, from measured speeds of this device",
    "extrapolated": "of the engines alone, extrapolated: nobody measured this device; give --calibration",
}


def forecasts(
    site: Site,
    plan: Plan,
    criteria: AcceptanceCriteria,
    suites: Sequence[SuiteResult],
    *,
    calibration: Calibration | None = None,
) -> tuple[tuple[Prediction, ...], tuple[str, ...]]:
    """(forecasts beside measurements, why there are none of a model) for the models under load."""
    found: list[Prediction] = []
    notes: list[str] = []
    names = criteria.models_under_load(tuple(model.name for model in plan.models if model.task == "chat"))
    for model in plan.models:
        if model.name not in names:
            continue
        try:
            expected = forecast(site, plan, model, demand_of(criteria, model), calibration=calibration)
        except SizingError as error:
            notes.append(f"no speed is predicted for {model.name}: {error}")
            continue
        found += _beside(model, expected, suites)
        if not expected.alike:
            notes.append(f"the engines of {model.name} differ; the prediction takes all for engines like the first")
    return tuple(found), tuple(notes)


def demand_of(criteria: AcceptanceCriteria, model: PlannedModel) -> Demand:
    """The agreed load, as the speed model takes it."""
    load, spread = criteria.load, LENGTH_SPREAD_RATIO
    prompt_maximum, output_maximum = model.max_input_tokens // 2, model.max_output_tokens
    return Demand(
        prompt=Lengths(mean_tokens=load.prompt_tokens, spread_ratio=spread, maximum_tokens=prompt_maximum),
        output=Lengths(mean_tokens=load.output_tokens, spread_ratio=spread, maximum_tokens=output_maximum),
        rate_per_second=load.rate_per_second,
    )


def _beside(model: PlannedModel, expected: Forecast, suites: Sequence[SuiteResult]) -> Iterator[Prediction]:
    at_load, sweep = _measured(suites, "agreed_load", model.name), _measured(suites, "throughput", model.name)
    for name, unit, scale, figure, measured in (
        ("TTFT p50 at the agreed load", "ms", 1000, expected.ttft_p50_seconds, at_load.get("TTFT p50")),
        ("TTFT p95 at the agreed load", "ms", 1000, expected.ttft_p95_seconds, at_load.get("TTFT p95")),
        ("TPOT p50 at the agreed load", "ms", 1000, expected.tpot_p50_seconds, at_load.get("TPOT p50")),
        ("most output", "tokens/s", 1, expected.saturated_tokens_per_second, sweep.get("best sustained output")),
    ):
        yield Prediction(
            subject=model.name,
            name=name,
            unit=unit,
            predicted=figure.value * scale,
            predicted_low=figure.low * scale,
            predicted_high=figure.high * scale,
            measured=measured,
            binding=False,
            note=BASES[expected.provenance],
        )


def _measured(suites: Sequence[SuiteResult], name: str, model: str) -> Mapping[str, float]:
    """What a valid run measured; numbers of an overloaded client stand beside nothing."""
    return {
        one.name: one.value
        for suite in suites
        if (suite.suite, suite.subject) == (name, model) and suite.verdict in {"passed", "failed"}
        for one in suite.measurements
    }

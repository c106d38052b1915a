#!/usr/bin/env python3
"""Fit the factors of sizing/catalogue/efficiency.yaml that say `series`, and hold out each model in turn.

    .venv/bin/python -m tools.fit_efficiency                 print the factors that the series choose
    .venv/bin/python -m tools.fit_efficiency --hold-out      each model predicted by factors of the others, recorded

Least absolute error of the logarithm, every series weighing as the root of its rows, within bounds that hardware has,
and a weak pull to where the search starts. Coordinate search: some minutes for each fit.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log, sqrt
from pathlib import Path
from statistics import median
from typing import Any

import yaml

from sizing.catalogue import catalogue_document
from sizing.efficiency import EfficiencyTable, efficiency_table, use_table
from tools.speed_series import SeriesRow, series_rows, series_seconds

RECORD = Path(__file__).resolve().parents[1] / "tests" / "golden" / "speed_hold_out.yaml"
FAMILIES = ("Hopper", "Blackwell, data centre")
BOUNDS = {
    "bandwidth_ratio": (0.2, 0.92),
    "operations_ratio": (0.25, 0.85),
    "cache_bandwidth_ratio": (0.3, 0.9),
    "attention_ratio": (0.15, 0.7),
    "layer_us": (4, 40),
    "mixed_layer_us": (1, 100),
    "expert_layer_us": (5, 60),
    "expert_ratio": (0.3, 1.0),
    "reduce_us": (4, 30),
    "step_us": (300, 2500),
    "request_us": (1, 80),
    "overlap_power": (1.3, 5),
}
START = {
    "bandwidth_ratio": 0.7,
    "operations_ratio": 0.55,
    "cache_bandwidth_ratio": 0.7,
    "attention_ratio": 0.45,
    "layer_us": 25.0,
    "mixed_layer_us": 40.0,
    "expert_layer_us": 20.0,
    "expert_ratio": 0.75,
    "reduce_us": 12.0,
    "step_us": 700.0,
    "request_us": 15.0,
    "overlap_power": 3.0,
}
PULL, SMALLEST_STEP, LARGEST_ERROR = 0.0015, 0.06, 0.8
EVERY = 3
"""Holding out fits every third row: it chooses nearly the same factors in a third of the time."""


@dataclass(kw_only=True)
class _Factor:
    """One number of the table that the search may move."""

    home: dict[str, Any]
    key: str
    step: float = 0.25

    def move(self, direction: int) -> float:
        """Moves by one step within the bounds; returns where it was."""
        old = float(self.home[self.key])
        low, high = BOUNDS[self.key]
        self.home[self.key] = min(high, max(low, old * exp(direction * self.step)))
        return old


def fit(rows: Sequence[SeriesRow]) -> dict[str, Any]:
    """The whole table with the factors that these rows choose; it is in force afterwards."""
    table = EfficiencyTable.model_validate(catalogue_document("efficiency.yaml")).model_dump(mode="json")
    factors = _factors(table)
    best = _loss(table, rows) + _pull(factors)
    while max(factor.step for factor in factors) > SMALLEST_STEP:
        for factor in factors:
            moved = False
            for direction in (1, -1):
                old = factor.move(direction)
                loss = _loss(table, rows) + _pull(factors) if factor.home[factor.key] != old else best
                if loss < best - 1e-6:
                    best, moved = loss, True
                    break
                factor.home[factor.key] = old
            factor.step = min(0.4, factor.step * 1.3) if moved else factor.step * 0.6
        print(f"loss {best:.4f}", file=sys.stderr)
    use_table(EfficiencyTable.model_validate(table))
    return table


def hold_out() -> list[dict[str, object]]:
    """Every model of the series, predicted with factors that never saw it."""
    rows = series_rows()
    answers: list[dict[str, object]] = []
    for model in dict.fromkeys(row.model for row in rows):
        own = [row for row in rows if row.model == model]
        fit([row for row in rows if row.model != model][::EVERY])
        errors = [seconds / row.seen_seconds - 1 for row, seconds in zip(own, series_seconds(own), strict=True)]
        absolute = sorted(abs(error) for error in errors)
        answers.append(
            {
                "model": model,
                "count": len(own),
                "median_error": round(median(absolute), 4),
                "error_p90": round(absolute[int(0.9 * (len(absolute) - 1))], 4),
                "bias": round(median(errors), 4),
            }
        )
    return answers


def _factors(table: dict[str, Any]) -> list[_Factor]:
    homes: list[tuple[dict[str, Any], tuple[str, ...]]] = []
    for family in table["families"]:
        if family["name"] in FAMILIES:
            of_format = ("bandwidth_ratio", "operations_ratio")
            homes.extend((family["formats"][name], of_format) for name in ("plain", "fp8", "fp8_block"))
            homes.append((family, tuple(key for key in START if key in family)))
    homes.append((table["links"][0], ("reduce_us", "bandwidth_ratio")))
    homes.append((table["host"], ("step_us", "request_us")))
    homes.append((table, ("overlap_power",)))
    for home, keys in homes:
        home.update({key: START[key] for key in keys})
    return [_Factor(home=home, key=key) for home, keys in homes for key in keys]


def _loss(table: dict[str, Any], rows: Sequence[SeriesRow]) -> float:
    use_table(EfficiencyTable.model_validate(table))
    counts = Counter(row.series for row in rows)
    total = weights = 0.0
    for row, seconds in zip(rows, series_seconds(rows), strict=True):
        weight = 1 / sqrt(counts[row.series])
        total += weight * min(abs(log(seconds / row.seen_seconds)), LARGEST_ERROR)
        weights += weight
    return total / weights


def _pull(factors: Sequence[_Factor]) -> float:
    return PULL * sum(log(factor.home[factor.key] / START[factor.key]) ** 2 for factor in factors)


def main() -> int:
    """Fit, and print or record."""
    parser = argparse.ArgumentParser(description="Fit the factors of the speed model.")
    parser.add_argument("--hold-out", action="store_true", help="leave out each model in turn and record its errors")
    arguments = parser.parse_args()
    if arguments.hold_out:
        head = "# Made by tools/fit_efficiency.py --hold-out: each model predicted by factors that never saw it.\n"
        RECORD.write_text(head + yaml.safe_dump({"models": hold_out()}, sort_keys=False), encoding="utf-8")
        return 0
    fit(series_rows())
    print(yaml.safe_dump(efficiency_table().model_dump(mode="json"), sort_keys=False, width=120))
    return 0


if __name__ == "__main__":
    sys.exit(main())

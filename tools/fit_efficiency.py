#!/usr/bin/env python3
"""Fit the factors of sizing/catalogue/efficiency.yaml that say `series`, and hold out each model in turn.

    .venv/bin/python -m tools.fit_efficiency                 choose them again, and write them into the catalogue
    .venv/bin/python -m tools.fit_efficiency --check         write nothing; 1 where the catalogue holds others
    .venv/bin/python -m tools.fit_efficiency --hold-out      each model predicted by factors of the others, recorded

Least absolute error of the logarithm over every third row, each series weighing as the root of its rows, within
bounds that hardware has, and a weak pull to where the search starts. Coordinate search from the same start with ever
smaller steps, on numbers of three digits: the same rows always end at the same factors, and a further step of any of
them makes it no better.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import exp, log, sqrt
from pathlib import Path
from statistics import median
from typing import Any

import yaml

from sizing.catalogue import catalogue_document
from sizing.efficiency import EfficiencyTable, use_table
from tools.efficiency_file import EFFICIENCY, SERIES_FAMILIES, with_factors
from tools.speed_series import SeriesRow, family_name, series_rows, series_seconds

RECORD = Path(__file__).resolve().parents[1] / "tests" / "golden" / "speed_hold_out.yaml"
RECORD_HEAD = "# Made by tools/fit_efficiency.py --hold-out: each model predicted by factors that never saw it.\n"
BOUNDS = {
    "bandwidth_ratio": (0.2, 0.92),
    "operations_ratio": (0.25, 0.85),
    "cache_bandwidth_ratio": (0.3, 0.9),
    "attention_ratio": (0.15, 0.7),
    "layer_us": (4, 60),
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
PULL, LARGEST_ERROR, SMALLEST_GAIN = 0.0015, 0.8, 4e-6
STEPS = (0.24, 0.12, 0.06)
"""By how much a factor is moved, as its logarithm."""

SMALLEST_STEP = STEPS[-1]
EVERY = 3
"""Every third row chooses; the others are predicted by factors that never saw them."""


@dataclass(kw_only=True)
class Factor:
    """One number of the table that the search may move, and the rows that it says something about."""

    home: dict[str, Any]
    key: str
    touches: Callable[[SeriesRow], bool]

    def moved(self, step: float) -> float:
        """Where a step leads: within the bounds, and with three digits."""
        low, high = BOUNDS[self.key]
        return float(f"{min(high, max(low, self.home[self.key] * exp(step))):.3g}")

    @property
    def pull(self) -> float:
        """What it costs to be away from the start."""
        return PULL * log(self.home[self.key] / START[self.key]) ** 2


class Search:
    """Rows, factors and what every row costs with the factors as they are."""

    def __init__(self, table: dict[str, Any], rows: Sequence[SeriesRow]) -> None:
        self.table = table
        self.factors = factors_of(table)
        self._rows = rows
        counts = Counter(row.series for row in rows)
        weights = [1 / sqrt(counts[row.series]) for row in rows]
        self._weights = [weight / sum(weights) for weight in weights]
        self._costs = self._costs_of(range(len(rows)))

    def _costs_of(self, places: Sequence[int]) -> list[float]:
        use_table(EfficiencyTable.model_validate(self.table))
        said = series_seconds([self._rows[place] for place in places])
        return [
            self._weights[place] * min(abs(log(seconds / self._rows[place].seen_seconds)), LARGEST_ERROR)
            for place, seconds in zip(places, said, strict=True)
        ]

    def sweep(self, step: float) -> int:
        """Tries a step up and a step down with every factor; says how many were moved."""
        return sum(self._try(factor, step) or self._try(factor, -step) for factor in self.factors)

    def _try(self, factor: Factor, step: float) -> bool:
        old, cost = factor.home[factor.key], factor.pull
        factor.home[factor.key] = factor.moved(step)
        places = [place for place, row in enumerate(self._rows) if factor.touches(row)]
        if factor.home[factor.key] != old:
            costs = self._costs_of(places)
            gain = cost - factor.pull + sum(self._costs[place] for place in places) - sum(costs)
            if gain > SMALLEST_GAIN:
                for place, one in zip(places, costs, strict=True):
                    self._costs[place] = one
                return True
        factor.home[factor.key] = old
        return False


def fit(rows: Sequence[SeriesRow]) -> dict[str, Any]:
    """The whole table with the factors that these rows choose; it is in force afterwards."""
    table = catalogue_table()
    for factor in factors_of(table):
        factor.home[factor.key] = START[factor.key]
    search = Search(table, rows[::EVERY])
    for step in STEPS:
        while moved := search.sweep(step):
            print(f"step {step}: {moved} factors moved", file=sys.stderr)
    use_table(EfficiencyTable.model_validate(table))
    return table


def catalogue_table() -> dict[str, Any]:
    """The catalogue as it is."""
    return EfficiencyTable.model_validate(catalogue_document("efficiency.yaml")).model_dump(mode="json")


def factors_of(table: dict[str, Any]) -> list[Factor]:
    """What the search may move."""
    found: list[Factor] = []
    for family in table["families"]:
        name = family["name"]
        if name not in SERIES_FAMILIES:
            continue

        def of_family(row: SeriesRow, name: str = name) -> bool:
            return family_name(row) == name

        for stored in ("plain", "fp8", "fp8_block"):

            def of_format(row: SeriesRow, name: str = name, stored: str = stored) -> bool:
                return family_name(row) == name and stored in row.formats

            home = family["formats"][stored]
            found.extend(
                Factor(home=home, key=key, touches=of_format) for key in ("bandwidth_ratio", "operations_ratio")
            )
        found.extend(Factor(home=family, key=key, touches=of_family) for key in START if key in family)
    every = {"touches": lambda _: True}
    found.extend(Factor(home=table["links"][0], key=key, **every) for key in ("reduce_us", "bandwidth_ratio"))
    found.extend(Factor(home=table["host"], key=key, **every) for key in ("step_us", "request_us"))
    found.append(Factor(home=table, key="overlap_power", **every))
    return found


def hold_out(model: str) -> dict[str, object]:
    """A model of the series, predicted with factors that never saw it."""
    rows = series_rows()
    own = [row for row in rows if row.model == model]
    fit([row for row in rows if row.model != model])
    errors = [seconds / row.seen_seconds - 1 for row, seconds in zip(own, series_seconds(own), strict=True)]
    absolute = sorted(abs(error) for error in errors)
    return {
        "model": model,
        "count": len(own),
        "median_error": round(median(absolute), 4),
        "error_p90": round(absolute[int(0.9 * (len(absolute) - 1))], 4),
        "bias": round(median(errors), 4),
    }


def record_hold_out(wanted: str | None) -> None:
    """Records one model, or every one."""
    models = tuple(dict.fromkeys(row.model for row in series_rows()))
    if wanted is not None and wanted not in models:
        raise SystemExit(f"--hold-out {wanted}: no such model in the series; it has {', '.join(models)}")
    for model in models if wanted is None else (wanted,):
        answer = hold_out(model)
        known = {one["model"]: one for one in yaml.safe_load(RECORD.read_text(encoding="utf-8"))["models"]}
        known[model] = answer
        content = {"models": [known[one] for one in models if one in known]}
        RECORD.write_text(RECORD_HEAD + yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
        print(yaml.safe_dump([answer], sort_keys=False), end="")


def main() -> int:
    """Fit and write, check, or hold out and record."""
    parser = argparse.ArgumentParser(description="Fit the factors of the speed model.")
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--hold-out", metavar="MODEL", nargs="?", const="", help="leave out a model, or each in turn; record its errors"
    )
    what.add_argument("--check", action="store_true", help="write nothing; exit 1 where the catalogue differs")
    arguments = parser.parse_args()
    if arguments.hold_out is not None:
        record_hold_out(arguments.hold_out or None)
        return 0
    present = EFFICIENCY.read_text(encoding="utf-8")
    chosen = with_factors(present, fit(series_rows()))
    if arguments.check:
        print(
            "the catalogue holds what the series choose" if chosen == present else "the catalogue holds other factors"
        )
        return int(chosen != present)
    EFFICIENCY.write_text(chosen, encoding="utf-8")
    print(f"{'unchanged' if chosen == present else 'wrote'} {EFFICIENCY}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""Fit intervals: how far published times lie from the stated ones, as a rule, and not by hand.

    .venv/bin/python -m tools.fit_intervals            write them into sizing/catalogue/efficiency.yaml
    .venv/bin/python -m tools.fit_intervals --check    write nothing; 1 where the catalogue holds others

Rows of one page share its machine and its mistakes, so every source weighs the same, whatever its number of rows. An
interval is between two quantiles of the logarithm of seen to stated time, as far apart as it takes to hold for eight
rows of ten of a source that did not help to make it (leave one source out). Only sources of the fitting half count.

measured            the rows as they are
unmeasured_family   every GPU judged by the nearest other family, as one that nobody measured would be
unknown_gpu         that, and the spread of bandwidth where a GPU of the catalogue is guessed from the others
first_token         what times to first token need on top of the measured interval
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from math import exp, log

from sizing.device import Device, known_gpus
from sizing.efficiency import EfficiencyTable, efficiency_table, family_of, like_device, use_table
from tools.efficiency_file import EFFICIENCY, with_intervals
from tools.speed_rows import SpeedRow, device_of, predict, speed_rows

HOLDS_RATIO = 0.8
TAILS = tuple(number / 100 for number in range(10, -1, -1))
"""Shares beyond each end that are tried, the widest interval last."""

Residuals = Mapping[str, Sequence[float]]


def residuals(rows: Iterable[SpeedRow]) -> dict[str, list[float]]:
    """Logarithms of seen to stated time, by source; a throughput counts as the time that it takes."""
    found: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        result, seen = predict(row).result, row.seen
        if seen.output_tokens_per_second is not None:
            found[row.source].append(log(result.output_tokens_per_second / seen.output_tokens_per_second))
        elif seen.total_tokens_per_second is not None:
            found[row.source].append(log(result.total_tokens_per_second / seen.total_tokens_per_second))
        if seen.tpot_ms is not None:
            found[row.source].append(log(seen.tpot_ms / 1e3 / result.tpot_seconds))
        elif seen.itl_ms is not None:
            found[row.source].append(log(seen.itl_ms / 1e3 / result.itl_seconds))
    return dict(found)


def first_token_residuals(rows: Iterable[SpeedRow]) -> dict[str, list[float]]:
    """The same of times to first token."""
    found: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        if row.seen.ttft_ms is not None:
            found[row.source].append(log(row.seen.ttft_ms / 1e3 / predict(row).result.ttft_seconds))
    return dict(found)


def interval(of: Residuals) -> tuple[float, float]:
    """Low and high end of seen to stated time."""
    for tail in TAILS:
        if held_ratio(of, tail) >= HOLDS_RATIO:
            break
    low, high = _ends(of, tail)
    return round(min(1.0, exp(low)), 2), round(max(1.0, exp(high)), 2)


def held_ratio(of: Residuals, tail: float) -> float:
    """How often the interval of the other sources holds for the rows of a source; every source weighs the same."""
    shares = []
    for source, own in of.items():
        low, high = _ends({name: values for name, values in of.items() if name != source}, tail)
        shares.append(sum(min(0.0, low) <= one <= max(0.0, high) for one in own) / len(own))
    return sum(shares) / len(shares)


def _ends(of: Residuals, tail: float) -> tuple[float, float]:
    weighed = sorted((value, 1 / len(values) / len(of)) for values in of.values() for value in values)
    return _quantile(weighed, tail), -_quantile([(-value, weight) for value, weight in reversed(weighed)], tail)


def _quantile(weighed: Sequence[tuple[float, float]], tail: float) -> float:
    """The smallest value that leaves at most `tail` of the weight below it."""
    below = 0.0
    for value, weight in weighed:
        below += weight
        if below > tail + 1e-9:
            return value
    return weighed[-1][0]


def fitted() -> dict[str, tuple[float, float]]:
    """The intervals, by their names in the catalogue."""
    rows = [row for row in speed_rows() if row.half == "fit" and not row.left_out]
    strange = _in_other_families(rows)
    low, high = interval(strange)
    guess_low, guess_high = interval({name: [value] for name, value in _guesses().items()})
    measured, first = interval(residuals(rows)), interval(first_token_residuals(rows))
    return {
        "measured": measured,
        "unmeasured_family": (low, high),
        "unknown_gpu": (round(low * guess_low, 2), round(high * guess_high, 2)),
        "first_token": (round(min(1.0, first[0] / measured[0]), 2), round(max(1.0, first[1] / measured[1]), 2)),
    }


def _in_other_families(rows: Sequence[SpeedRow]) -> dict[str, list[float]]:
    """Every row with its GPU judged by the family that is nearest when its own is unknown."""
    whole = efficiency_table()
    found: dict[str, list[float]] = {}
    try:
        for name in {family_of(device_of(row)).name for row in rows}:
            own = [row for row in rows if family_of(device_of(row)).name == name]
            use_table(_without(whole, name))
            for source, values in residuals(own).items():
                found.setdefault(source, []).extend(values)
            use_table(whole)
    finally:
        use_table(whole)
    return found


def _without(table: EfficiencyTable, name: str) -> EfficiencyTable:
    return table.model_copy(update={"families": tuple(one for one in table.families if one.name != name)})


def _guesses() -> dict[str, float]:
    """For each GPU of the catalogue: guessed bandwidth to its own, as a logarithm of times."""
    found = {}
    for row in known_gpus():
        if not row.memory_total_mib or not row.memory_bandwidth_gb_s:
            continue
        device = replace(Device.of_gpu(row.as_gpu()), name="unknown")
        guess = like_device(device, [one for one in known_gpus() if one.key != row.key])
        found[row.key] = log((guess.memory_bandwidth_gb_s or 1.0) / row.memory_bandwidth_gb_s)
    return found


def main() -> int:
    """Write or check."""
    parser = argparse.ArgumentParser(description="Fit the intervals of the speed model.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where the catalogue differs")
    arguments = parser.parse_args()
    present = EFFICIENCY.read_text(encoding="utf-8")
    chosen = with_intervals(present, fitted())
    if not arguments.check:
        EFFICIENCY.write_text(chosen, encoding="utf-8")
    print("unchanged" if chosen == present else f"{'other' if arguments.check else 'wrote'} intervals: {fitted()}")
    return int(arguments.check and chosen != present)


if __name__ == "__main__":
    sys.exit(main())

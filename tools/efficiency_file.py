"""Efficiency file: sizing/catalogue/efficiency.yaml as text, so that fits change its numbers and keep its comments."""

import re
from pathlib import Path
from typing import Any

EFFICIENCY = Path(__file__).resolve().parents[1] / "sizing" / "catalogue" / "efficiency.yaml"
SERIES_FAMILIES = ("Hopper", "Blackwell, data centre")
"""The families that have series of their own."""

LAUNCHES_LIKE = {
    "Ampere, data centre": "Hopper",
    "Ampere and older, cards": "Hopper",
    "Ada": "Hopper",
    "Blackwell, cards": "Blackwell, data centre",
    "GB10": "Blackwell, data centre",
}
"""Families without series run the same small kernels between their matrices: they take these times of the nearest."""

LAUNCH_KEYS = ("layer_us", "mixed_layer_us", "expert_layer_us")
FAMILY_KEYS = ("cache_bandwidth_ratio", "attention_ratio", *LAUNCH_KEYS, "expert_ratio")
FORMATS = ("plain", "fp8", "fp8_block")


def with_factors(text: str, table: dict[str, Any]) -> str:
    """The file with the factors of a fitted table."""
    families = {family["name"]: family for family in table["families"]}
    for name in SERIES_FAMILIES:
        for stored in FORMATS:
            row = families[name]["formats"][stored]
            for key in ("bandwidth_ratio", "operations_ratio"):
                text = _replaced(text, name, rf"(\n    {stored}: .*?\b{key}: )[^,]+", row[key])
        for key in FAMILY_KEYS:
            text = _replaced(text, name, rf"(\n  {key}: )[^\n]+", families[name][key])
    for name, like in LAUNCHES_LIKE.items():
        for key in LAUNCH_KEYS:
            text = _replaced(text, name, rf"(\n  {key}: )[^\n]+", families[like][key])
    for key in ("reduce_us", "bandwidth_ratio"):
        text = _once(text, rf"(\n- \{{kind: nvlink, .*?\b{key}: )[^,]+", table["links"][0][key])
    for key in ("step_us", "request_us"):
        text = _once(text, rf"(\nhost: \{{.*?\b{key}: )[^,]+", table["host"][key])
    return _once(text, r"(\noverlap_power: )[0-9.]+", table["overlap_power"])


def with_intervals(text: str, intervals: dict[str, tuple[float, float]]) -> str:
    """The file with other intervals."""
    for name, (low, high) in intervals.items():
        text = _once(text, rf"(\n  {name}: \[)[^\]]+", f"{low}, {high}")
    return text


def _replaced(text: str, family: str, pattern: str, value: float) -> str:
    start = text.index(f"\n- name: {family}\n")
    end = min(place for place in (text.find("\n- name:", start + 1), text.index("\nlinks:")) if place > start)
    return text[:start] + _once(text[start:end], pattern, value) + text[end:]


def _once(text: str, pattern: str, value: object) -> str:
    changed, count = re.subn(pattern, lambda found: f"{found.group(1)}{value}", text, count=1)
    if count != 1:
        raise ValueError(f"{EFFICIENCY}: nothing matches {pattern}")
    return changed

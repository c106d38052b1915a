"""Exposition: families of samples, and the text that Prometheus reads (format 0.0.4)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
Labels = tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One line; `suffix` is `_bucket`, `_sum` or `_count` of a histogram."""

    value: float
    labels: Mapping[str, str] = field(default_factory=dict)
    suffix: str = ""


@dataclass(frozen=True, kw_only=True)
class Family:
    """All samples of one name."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    samples: Sequence[Sample]


def text_of(families: Iterable[Family]) -> str:
    """The page. Families without samples are left out."""
    return "".join(_family(family) for family in families if family.samples)


def _family(family: Family) -> str:
    lines = [f"# HELP {family.name} {family.help}", f"# TYPE {family.name} {family.kind}"]
    for sample in family.samples:
        inside = ",".join(f'{name}="{_escaped(value)}"' for name, value in sample.labels.items())
        lines.append(f"{family.name}{sample.suffix}{'{' + inside + '}' if inside else ''} {_number(sample.value)}")
    return "\n".join(lines) + "\n"


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else repr(float(value))


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


class Counters:
    """One counter family with fixed label names."""

    def __init__(self, name: str, help_text: str, labels: Labels) -> None:
        self._name, self._help, self._labels = name, help_text, labels
        self._values: dict[Labels, float] = {}

    def add(self, labels: Labels, amount: float = 1.0) -> None:
        """Adds; the first time it makes the sample."""
        self._values[labels] = self._values.get(labels, 0.0) + amount

    def family(self) -> Family:
        """What has been counted."""
        samples = [
            Sample(value=value, labels=dict(zip(self._labels, labels, strict=True)))
            for labels, value in self._values.items()
        ]
        return Family(name=self._name, kind="counter", help=self._help, samples=samples)


class Histograms:
    """One histogram family with fixed label names and bounds."""

    def __init__(self, name: str, help_text: str, labels: Labels, bounds: Sequence[float]) -> None:
        self._name, self._help, self._labels, self._bounds = name, help_text, labels, tuple(bounds)
        self._counts: dict[Labels, list[int]] = {}
        self._sums: dict[Labels, float] = {}

    def add(self, labels: Labels, value: float) -> None:
        """One observation."""
        counts = self._counts.setdefault(labels, [0] * (len(self._bounds) + 1))
        for place, bound in enumerate(self._bounds):
            counts[place] += value <= bound
        counts[-1] += 1
        self._sums[labels] = self._sums.get(labels, 0.0) + value

    def family(self) -> Family:
        """Cumulative buckets, sum and count of each."""
        samples = []
        for labels, counts in self._counts.items():
            named = dict(zip(self._labels, labels, strict=True))
            for bound, count in zip([f"{bound:g}" for bound in self._bounds] + ["+Inf"], counts, strict=True):
                samples.append(Sample(value=count, labels={**named, "le": bound}, suffix="_bucket"))
            samples.append(Sample(value=self._sums[labels], labels=named, suffix="_sum"))
            samples.append(Sample(value=counts[-1], labels=named, suffix="_count"))
        return Family(name=self._name, kind="histogram", help=self._help, samples=samples)

"""Intervals: how sure a number is. Resampling is seeded, so a report can be computed again to the last digit.

Samples of one request (its gaps) hang together, so whole requests are resampled, never single gaps. Slopes come from
batch means, because neighbouring queue lengths hang together as well.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[numpy.float64]
RESAMPLES = 500
CONFIDENCE = 0.95
CDF_QUANTILES = (*(number / 100 for number in range(100)), 0.995, 0.999, 1.0)


@dataclass(frozen=True, kw_only=True)
class Interval:
    """An estimate and its 95 % interval."""

    value: float
    low: float
    high: float
    count: int


def percentile_interval(groups: Sequence[Floats], quantile: float, *, seed: int = 1) -> Interval:
    """The quantile (0..1) of all samples, resampled by group; a plain array counts as groups of one."""
    filled = [numpy.atleast_1d(group) for group in groups if numpy.size(group)]
    if not filled:
        return Interval(value=0.0, low=0.0, high=0.0, count=0)
    everything = numpy.concatenate(filled)
    generator = numpy.random.default_rng([seed, 0xB007])
    order = numpy.argsort(everything)
    ascending = everything[order]
    owners = numpy.repeat(numpy.arange(len(filled)), [len(group) for group in filled])[order]
    estimates = numpy.empty(RESAMPLES)
    for index in range(RESAMPLES):  # a group drawn k times weighs k: no sample is copied
        drawn = numpy.bincount(generator.integers(0, len(filled), len(filled)), minlength=len(filled))
        weights = numpy.cumsum(drawn[owners])
        estimates[index] = ascending[min(numpy.searchsorted(weights, quantile * weights[-1]), len(ascending) - 1)]
    low, high = numpy.quantile(estimates, ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2))
    value = float(numpy.quantile(everything, quantile))
    return Interval(value=value, low=float(low), high=float(high), count=len(everything))


def mean_interval(values: Sequence[float], *, seed: int = 1) -> Interval:
    """The mean of independent values (one per pair or repeat), by bootstrap."""
    data = numpy.asarray(values, dtype=numpy.float64)
    if len(data) < 2:  # noqa: PLR2004  nothing to resample
        only = float(data[0]) if len(data) else 0.0
        return Interval(value=only, low=only, high=only, count=len(data))
    found = stats.bootstrap(
        (data,), numpy.mean, n_resamples=RESAMPLES * 4, method="percentile", rng=numpy.random.default_rng(seed)
    ).confidence_interval
    return Interval(value=float(data.mean()), low=float(found.low), high=float(found.high), count=len(data))


def slope_interval(times: Floats, values: Floats) -> Interval:
    """Least-squares slope with its t interval."""
    fit = stats.linregress(times, values)
    reach = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(times) - 2)) * float(fit.stderr)
    return Interval(
        value=float(fit.slope), low=float(fit.slope) - reach, high=float(fit.slope) + reach, count=len(times)
    )


def robust_slope(times: Floats, values: Floats) -> Interval:
    """Theil-Sen slope: one bad window does not make a drift."""
    slope, _, low, high = stats.theilslopes(values, times, alpha=CONFIDENCE)
    return Interval(value=float(slope), low=float(low), high=float(high), count=len(times))


def cdf(samples: Floats) -> tuple[tuple[float, float], ...]:
    """(share, value) at fixed quantiles, for drawing."""
    if not len(samples):
        return ()
    values = numpy.quantile(samples, CDF_QUANTILES)
    return tuple((share, round(float(value), 4)) for share, value in zip(CDF_QUANTILES, values, strict=True))

"""Speed: how long one engine step takes, from what it must read, multiply and send.

    step   = sum over pipeline stages of: matrices + experts + head + attention + all-reduce + launches;  + host
    host   = steps and requests in them; beside the device where the scheduler runs ahead, else after it

A step holds `decode_count` requests that get one token each and `prefill_tokens` of prompts. With p pipeline stages p
such batches are under way at once: a request gets its next token after every batch of a p-th of the requests has passed
every stage. The ratios and the fixed times are in `catalogue/efficiency.yaml`; no figure belongs to a single model.
"""

from dataclasses import dataclass, replace
from math import exp, hypot, sqrt
from statistics import geometric_mean
from typing import Literal, Self

from sizing.calibration import Calibration, SpeedFactors
from sizing.efficiency import MICRO, efficiency_table, family_of, interval_of, peaks_of
from sizing.engine_defaults import defaults_for
from sizing.engine_settings import EngineConfiguration, settings_of
from sizing.kv_cache import kv_element_bytes
from sizing.stage_time import StageTime, stage_time
from sizing.step_bytes import StoredAs

SpeedProvenance = Literal["calibrated", "extrapolated"]
REPEAT_SPREAD_RATIO = 0.06
"""How far two runs of the same load lie apart, as the standard deviation of the logarithm (a guess for machines that do
nothing else)."""

WITHIN_EIGHTY_PERCENT = 1.28
"""Standard deviations to either side that hold eight cases of ten."""


@dataclass(frozen=True, kw_only=True)
class Seconds:
    """A time with the interval that holds in eight cases of ten."""

    value: float
    low: float
    high: float
    provenance: SpeedProvenance


@dataclass(frozen=True, kw_only=True)
class StepTime:
    """How long one step of one engine takes; built once, asked often."""

    stages: tuple[StageTime, ...]
    host_seconds: float
    request_seconds: float
    host_overlaps: bool
    interval_ratio: tuple[float, float]
    first_token_ratio: tuple[float, float]
    provenance: SpeedProvenance

    @classmethod
    def of(
        cls,
        configuration: EngineConfiguration,
        *,
        calibration: Calibration | None = None,
        stored_as: StoredAs | None = None,
    ) -> "StepTime":
        """The times of a configuration, corrected by what the site's own loads taught.

        `stored_as`: for checkpoints that sizing cannot size, such as AWQ.
        """
        settings = settings_of(configuration)
        device, family = settings.device, family_of(settings.device)
        peaks = peaks_of(device)
        kv_bytes = kv_element_bytes(configuration.kv_cache_dtype, model_element_bytes=settings.weight_element_bytes)
        stages = tuple(
            stage_time(
                settings.model,
                stage,
                shards=settings.shards,
                peaks=peaks,
                family=family,
                kv_bytes=kv_bytes or 2,
                element_bytes=settings.weight_element_bytes,
                stored_as=stored_as,
            )
            for stage in settings.stages
        )
        table = efficiency_table()
        measured = family.measured and peaks.known and not configuration.enforce_eager
        plain = cls(
            stages=stages,
            host_seconds=table.host.step_us * MICRO,
            request_seconds=table.host.request_us * MICRO,
            host_overlaps=_host_overlaps(configuration),
            interval_ratio=interval_of(device, family, peaks, eager=configuration.enforce_eager),
            first_token_ratio=table.intervals.first_token,
            provenance="calibrated" if measured else "extrapolated",
        )
        return _learned(plain, calibration or device.calibration, configuration)

    def scaled(self, factors: SpeedFactors) -> Self:
        """The same steps with every kind of time multiplied by its factor."""
        return replace(
            self,
            stages=tuple(stage.scaled(factors) for stage in self.stages),
            host_seconds=self.host_seconds * factors.fixed_ratio,
            request_seconds=self.request_seconds * factors.request_ratio,
        )

    def step_seconds(
        self, *, decode_count: int, decode_context_tokens: int, prefill_tokens: int, prefill_context_tokens: int = 0
    ) -> float:
        """One step: `decode_count` requests that hold `decode_context_tokens` together get a token each, and
        `prefill_tokens` of prompts follow `prefill_context_tokens` that are cached already."""
        ways = len(self.stages)
        decodes, context = max(1.0, decode_count / ways) if decode_count else 0.0, decode_context_tokens / ways
        new = prefill_tokens / ways
        total = 0.0
        for stage in self.stages:
            total += stage.seconds(decodes, context, new, prefill_context_tokens)
        host = self.host_seconds + decode_count * self.request_seconds
        return max(total, host) if self.host_overlaps else total + host

    def first_token_at(self, slowness_ratio: float) -> float:
        """What times to first token are multiplied with at an end of the interval (1: where steps are as likely): more
        than the steps makes them uncertain."""
        low, high = self.first_token_ratio
        return high if slowness_ratio > 1 else low if slowness_ratio < 1 else 1.0

    def interval(self, seconds: float) -> Seconds:
        """A time that rests on these steps, with its interval."""
        low, high = self.interval_ratio
        return Seconds(value=seconds, low=seconds * low, high=seconds * high, provenance=self.provenance)


def _learned(plain: StepTime, calibration: Calibration | None, configuration: EngineConfiguration) -> StepTime:
    """The steps as the site's own loads correct them; those of the same model count before all others."""
    device, version = configuration.device, configuration.vllm_version
    speeds = calibration.speeds_like(gpu=device.name, vllm_version=version) if calibration else ()
    if not speeds:
        return plain
    wanted = (configuration.model.name, configuration.tensor_parallel_size)
    own = tuple(one for one in speeds if (one.model, one.tensor_parallel_size) == wanted)
    chosen = own or speeds
    factors = SpeedFactors(
        fixed_ratio=geometric_mean(one.factors.fixed_ratio for one in chosen),
        request_ratio=geometric_mean(one.factors.request_ratio for one in chosen),
        reading_ratio=geometric_mean(one.factors.reading_ratio for one in chosen),
        multiplying_ratio=geometric_mean(one.factors.multiplying_ratio for one in chosen),
    )
    spread = max(hypot(REPEAT_SPREAD_RATIO, one.spread_ratio, one.unlearned_ratio) for one in chosen)
    low, high = exp(-WITHIN_EIGHTY_PERCENT * spread), exp(WITHIN_EIGHTY_PERCENT * spread)
    if not own:
        low, high = low * sqrt(plain.interval_ratio[0]), high * sqrt(plain.interval_ratio[1])
    return replace(plain.scaled(factors), interval_ratio=(low, high), provenance="calibrated")


def _host_overlaps(configuration: EngineConfiguration) -> bool:
    """Whether the next step is scheduled while the device still computes this one."""
    if configuration.device.accelerator == "cpu":
        return False
    if configuration.async_scheduling is not None:
        return configuration.async_scheduling
    return defaults_for(configuration.device, vllm_version=configuration.vllm_version).async_scheduling

"""Forecast: what a plan's engines of one model will show under a load: the speed model asked about engines that stand
already, so that a measurement can be put beside it.

Engines alone: the gateway and the relay add to what clients see.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from sizing.calibration import Calibration
from sizing.demand import Demand
from sizing.device import Device
from sizing.engine_settings import EngineConfiguration
from sizing.estimate import estimate
from sizing.model_facts import load_model_facts
from sizing.plan import Engine, Plan, PlannedModel
from sizing.prospect import group_of, prospect_of, served_by
from sizing.serving import Served
from sizing.site import Site
from sizing.speed import SpeedProvenance

SATURATION_REQUESTS = 600


@dataclass(frozen=True, kw_only=True)
class Expected:
    """A figure with the interval that holds in eight cases of ten."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """Times at the load, and the output with a queue that never empties: all that the engines can do.

    `alike` False: the model's engines differ, and this is what they would show were all like the first.
    """

    ttft_p50_seconds: Expected
    ttft_p95_seconds: Expected
    tpot_p50_seconds: Expected
    saturated_tokens_per_second: Expected
    provenance: SpeedProvenance
    alike: bool


def forecast(
    site: Site, plan: Plan, model: PlannedModel, demand: Demand, *, calibration: Calibration | None = None
) -> Forecast:
    """Raises SizingError for what the speed model does not know."""
    engines = {(host, engine.name): engine for host, engine in plan.engines()}
    found = [
        _configuration(site, plan, one.host, engines[one.host, one.engine], calibration) for one in model.deployments
    ]
    configuration, count = found[0], len(found)
    group = group_of(configuration, estimate(configuration), demand, engine_count=count)
    prospect = prospect_of(group, demand)
    crowd = demand.with_users(count * 2 * group.limits.max_num_seqs)
    low, high = group.times.interval_ratio
    full = [served_by(group, crowd, slowness_ratio=ratio, requests=SATURATION_REQUESTS) for ratio in (1.0, low, high)]
    at_the_load = (prospect.likely, prospect.fast, prospect.slow)
    return Forecast(
        ttft_p50_seconds=_expected(at_the_load, lambda seen: seen.ttft_seconds.p50),
        ttft_p95_seconds=_expected(at_the_load, lambda seen: seen.ttft_seconds.p95),
        tpot_p50_seconds=_expected(at_the_load, lambda seen: seen.tpot_seconds.p50),
        saturated_tokens_per_second=_expected(full, lambda seen: seen.output_tokens_per_second * count),
        provenance=prospect.provenance,
        alike=all(one == configuration for one in found),
    )


def _expected(seen: "tuple[Served, ...] | list[Served]", pick: Callable[[Served], float]) -> Expected:
    """Likely, fast, slow."""
    values = [pick(one) for one in seen]
    return Expected(value=values[0], low=min(values), high=max(values))


def _configuration(
    site: Site, plan: Plan, host: str, engine: Engine, calibration: Calibration | None
) -> EngineConfiguration:
    """What the plan hands to `vllm serve`, as the arithmetic takes it."""
    hardware, options = site.hardware[host], engine.vllm_options
    gpus = {gpu.uuid: gpu for gpu in hardware.gpus}
    device = Device.of_gpu(gpus[engine.gpu_uuids[0]]) if engine.gpu_uuids else Device.of_cpu(hardware)
    return EngineConfiguration(
        model=load_model_facts(str(site.model_store / engine.model_directory)),
        device=replace(device, calibration=calibration),
        tensor_parallel_size=options.tensor_parallel_size,
        pipeline_parallel_size=options.pipeline_parallel_size or 1,
        gpu_memory_utilization=options.gpu_memory_utilization,
        max_model_len=options.max_model_len,
        quantization=options.quantization,
        kv_cache_dtype=options.kv_cache_dtype,
        max_num_batched_tokens=options.max_num_batched_tokens,
        max_num_seqs=options.max_num_seqs,
        enforce_eager=options.enforce_eager,
        kv_cache_memory_bytes=options.kv_cache_memory_bytes,
        vllm_version=plan.vllm_version,
    )

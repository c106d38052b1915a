"""Calibrate: from the start-up logs of a site to a calibration document."""

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from sizing.calibration import CalibratedSpeed, CalibratedStart, Calibration
from sizing.device import Device, GpuFacts, find_gpu, known_gpus
from sizing.engine_settings import EngineConfiguration, settings_of
from sizing.errors import DocumentError, UnknownFact
from sizing.memory_budget import memory_budget
from sizing.model_facts import load_model_facts
from sizing.start_up_log import StartUp, start_up_of
from sizing.units import MIB

SAME_MEMORY_BYTES = 12 * MIB
"""A log prints the memory of its device with two decimals of GiB."""


def calibrate(logs: Iterable[Path], *, gpu: str | None, model: str | None, made_at: str | None = None) -> Calibration:
    """What the logs teach. `gpu` and `model` stand in for what a log does not say or sizing does not know by name."""
    return calibration_of(calibrated_starts(logs, gpu=gpu, model=model), made_at=made_at)


def calibrated_starts(logs: Iterable[Path], *, gpu: str | None, model: str | None) -> tuple[CalibratedStart, ...]:
    """The same as rows of a document."""
    return tuple(calibrated_start(_read(log), origin=str(log), gpu=gpu, model=model) for log in logs)


def calibration_of(
    starts: tuple[CalibratedStart, ...], speeds: tuple[CalibratedSpeed, ...] = (), *, made_at: str | None = None
) -> Calibration:
    """A document of today."""
    stamp = made_at or datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return Calibration(made_at=stamp, starts=starts, speeds=speeds)


def calibrated_start(text: str, *, origin: str, gpu: str | None = None, model: str | None = None) -> CalibratedStart:
    """One log. Raises DocumentError in one line for what it does not hold."""
    seen = start_up_of(text, origin=origin)
    if "CPU KV cache size" in text:
        raise DocumentError(f"{origin}: a CPU engine gets its KV cache in bytes; there is nothing to calibrate")
    if seen.kv_cache_bytes is None:
        raise DocumentError(f"{origin}: cut short: no line with the available KV cache memory")
    if "as specified by kv_cache_memory_bytes" in text:
        raise DocumentError(f"{origin}: the KV cache was given in bytes, so vLLM measured nothing")
    if seen.vllm_version is None:
        raise DocumentError(f"{origin}: cut short: no line with vLLM's version; give the log from its first line on")
    if seen.pipeline_parallel_size > 1:
        raise DocumentError(f"{origin}: pipeline-parallel engines cannot be calibrated")
    configuration = _configuration(seen, origin=origin, gpu=gpu, model=model)
    settings = settings_of(configuration)
    budget = memory_budget(settings, configuration)
    requested = settings.requested_bytes or 0
    return CalibratedStart(
        log=Path(origin).name,
        vllm_version=configuration.vllm_version,
        gpu=configuration.device.name,
        model=configuration.model.name,
        tensor_parallel_size=settings.shards,
        gpu_memory_utilization=configuration.gpu_memory_utilization or requested / settings.device.memory_budget_bytes,
        max_model_len=settings.length_tokens,
        max_num_batched_tokens=settings.max_num_batched_tokens,
        max_num_seqs=settings.max_num_seqs,
        kv_cache_dtype=configuration.kv_cache_dtype,
        enforce_eager=configuration.enforce_eager,
        compile_cache_was_warm=seen.compile_cache_was_warm,
        weights_bytes=seen.weights_bytes,
        kv_cache_bytes=seen.kv_cache_bytes,
        overhead_bytes=requested - budget.weights_bytes[0] - seen.kv_cache_bytes,
        predicted_overhead_bytes=budget.overheads[0].likely_bytes,
        predicted_kv_cache_bytes=budget.kv_bytes[0],
    )


def _configuration(seen: StartUp, *, origin: str, gpu: str | None, model: str | None) -> EngineConfiguration:
    named = model or seen.model
    if named is None:
        raise DocumentError(f"{origin}: the log does not name its model; give --model")
    try:
        facts = load_model_facts(named)
    except UnknownFact as error:
        raise UnknownFact(f"{origin}: {error}; give --model") from None
    return EngineConfiguration(
        model=facts,
        device=Device.of_gpu(_gpu(seen, origin=origin, gpu=gpu).as_gpu()),
        tensor_parallel_size=seen.tensor_parallel_size,
        gpu_memory_utilization=seen.gpu_memory_utilization,
        max_model_len=seen.max_model_len,
        kv_cache_dtype="fp8" if seen.kv_cache_dtype.startswith("fp8") else "auto",
        max_num_batched_tokens=seen.max_num_batched_tokens,
        max_num_seqs=seen.max_num_seqs,
        enforce_eager=seen.enforce_eager,
        language_model_only=seen.language_model_only,
        limit_mm_per_prompt=seen.limit_mm_per_prompt,
        vllm_version=seen.vllm_version.partition("+")[0] if seen.vllm_version else "",
    )


def _gpu(seen: StartUp, *, origin: str, gpu: str | None) -> GpuFacts:
    """The GPU by name, or by the memory that the log prints where only one kind of the catalogue has it."""
    if gpu is not None:
        return find_gpu(gpu)
    if seen.device_total_bytes is None:
        raise DocumentError(f"{origin}: the log does not say how much memory its GPU has; give --gpu")
    alike = []
    for row in known_gpus():
        if row.memory_total_mib is None:
            continue
        if abs(row.as_gpu().memory_usable_bytes - seen.device_total_bytes) <= SAME_MEMORY_BYTES:
            alike.append(row)
    if len(alike) == 1:
        return alike[0]
    found = f"{len(alike)} kinds have ({', '.join(row.nvml_name for row in alike)})" if alike else "no known kind has"
    raise DocumentError(f"{origin}: its GPU has {seen.device_total_bytes / 2**30:.2f} GiB, which {found}; give --gpu")


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        raise DocumentError(f"{path}: no such file") from None
    except OSError as error:
        raise DocumentError(f"{path}: cannot be read ({error.strerror})") from None

"""GPUs: what NVML tells about each GPU of this host, read when Prometheus asks.

Read at the scrape and kept nowhere, so a number is never older than the scrape, and a driver that hangs shows as a
scrape that fails. What a board, a driver or a container does not tell is left out, never shown as zero.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from sight.exposition import Family, Sample

# nvml.h, nvmlClocksEventReasons: those that mean the hardware protects itself.
SLOWDOWNS = {
    "software_thermal": 0x20,
    "hardware": 0x08,
    "hardware_thermal": 0x40,
    "hardware_power_brake": 0x80,
    "power_cap": 0x04,
}


class GpusUnreadable(Exception):
    """NVML does not answer; the message says why."""


@dataclass(frozen=True, kw_only=True)
class _Metric:
    """One family, and how its samples come from a GPU."""

    name: str
    help: str
    read: Callable[[Any, Any], float | Mapping[tuple[str, str], float]]
    kind: Literal["counter", "gauge"] = "gauge"


@dataclass(kw_only=True)
class Gpus:
    """The GPUs of this host. NVML stays open between scrapes; after an error it is opened anew."""

    nvml: Any = field(default_factory=lambda: __import__("pynvml"))
    _is_open: bool = False

    def families(self) -> list[Family]:
        """Every family, for all GPUs; raises GpusUnreadable."""
        nvml = self.nvml
        try:
            if not self._is_open:
                nvml.nvmlInit()
                self._is_open = True
            return self._read()
        except nvml.NVMLError as error:
            self._close()
            raise GpusUnreadable(f"NVML: {error}; look at `nvidia-smi` and `dmesg | grep -i xid`") from None

    def _close(self) -> None:
        if self._is_open:
            self._is_open = False
            try:
                self.nvml.nvmlShutdown()
            except self.nvml.NVMLError:
                return  # it was gone already

    def _read(self) -> list[Family]:
        nvml = self.nvml
        found: dict[str, list[Sample]] = {metric.name: [] for metric in _METRICS}
        about = []
        driver = nvml.nvmlSystemGetDriverVersion()
        count = nvml.nvmlDeviceGetCount()
        for index in range(count):
            gpu = nvml.nvmlDeviceGetHandleByIndex(index)
            uuid = nvml.nvmlDeviceGetUUID(gpu)
            labels = {"gpu": str(index), "uuid": uuid}
            about.append(Sample(value=1, labels={**labels, "name": nvml.nvmlDeviceGetName(gpu), "driver": driver}))
            for metric in _METRICS:
                found[metric.name] += self._samples(metric, gpu, labels)
        return [
            Family(
                name="appliance_gpu_count",
                kind="gauge",
                help="GPUs that the driver sees",
                samples=[Sample(value=count)],
            ),
            Family(name="appliance_gpu_info", kind="gauge", help="Name and driver of a GPU", samples=about),
            *(
                Family(name=metric.name, kind=metric.kind, help=metric.help, samples=found[metric.name])
                for metric in _METRICS
            ),
        ]

    def _samples(self, metric: _Metric, gpu: Any, labels: Mapping[str, str]) -> list[Sample]:
        nvml = self.nvml
        try:
            answer = metric.read(nvml, gpu)
        except (
            nvml.NVMLError_NotSupported,
            nvml.NVMLError_FunctionNotFound,
            nvml.NVMLError_NoPermission,
            nvml.NVMLError_ArgumentVersionMismatch,
        ):
            return []
        if isinstance(answer, Mapping):
            return [Sample(value=value, labels={**labels, name: text}) for (name, text), value in answer.items()]
        return [Sample(value=answer, labels=labels)]


def _memory(nvml: Any, gpu: Any, name: str) -> float | dict[tuple[str, str], float]:
    """Version 2 tells the driver's own share apart; drivers before 510 know version 1 only.

    A GPU that shares the host's memory says nothing, or zero: then the node exporter has the answer.
    """
    try:
        memory = nvml.nvmlDeviceGetMemoryInfo(gpu, version=nvml.nvmlMemory_v2)
    except nvml.NVMLError_FunctionNotFound:
        memory = nvml.nvmlDeviceGetMemoryInfo(gpu)
    return float(getattr(memory, name)) if memory.total else {}


def _errors(nvml: Any, gpu: Any, kind: int) -> float:
    total: float = nvml.nvmlDeviceGetTotalEccErrors(gpu, kind, nvml.NVML_AGGREGATE_ECC)
    return total


def _slowdowns(nvml: Any, gpu: Any) -> dict[tuple[str, str], float]:
    reasons = nvml.nvmlDeviceGetCurrentClocksThrottleReasons(gpu)
    return {("reason", name): float(bool(reasons & bit)) for name, bit in SLOWDOWNS.items()}


_METRICS = (
    _Metric(
        name="appliance_gpu_temperature_celsius",
        help="Temperature of the chip",
        read=lambda nvml, gpu: nvml.nvmlDeviceGetTemperature(gpu, nvml.NVML_TEMPERATURE_GPU),
    ),
    _Metric(
        name="appliance_gpu_slowdown_temperature_celsius",
        help="Temperature at which the chip slows itself down",
        read=lambda nvml, gpu: nvml.nvmlDeviceGetTemperatureThreshold(gpu, nvml.NVML_TEMPERATURE_THRESHOLD_SLOWDOWN),
    ),
    _Metric(
        name="appliance_gpu_utilization_ratio",
        help="Share of the last sample period in which a kernel ran",
        read=lambda nvml, gpu: nvml.nvmlDeviceGetUtilizationRates(gpu).gpu / 100,
    ),
    _Metric(
        name="appliance_gpu_memory_used_bytes",
        help="Memory in use",
        read=lambda nvml, gpu: _memory(nvml, gpu, "used"),
    ),
    _Metric(
        name="appliance_gpu_memory_total_bytes",
        help="Memory of the GPU",
        read=lambda nvml, gpu: _memory(nvml, gpu, "total"),
    ),
    _Metric(
        name="appliance_gpu_power_watts",
        help="Power drawn",
        read=lambda nvml, gpu: nvml.nvmlDeviceGetPowerUsage(gpu) / 1000,
    ),
    _Metric(
        name="appliance_gpu_power_limit_watts",
        help="Power that may be drawn",
        read=lambda nvml, gpu: nvml.nvmlDeviceGetEnforcedPowerLimit(gpu) / 1000,
    ),
    _Metric(
        name="appliance_gpu_sm_clock_hertz",
        help="Clock of the multiprocessors",
        read=lambda nvml, gpu: nvml.nvmlDeviceGetClockInfo(gpu, nvml.NVML_CLOCK_SM) * 1e6,
    ),
    _Metric(
        name="appliance_gpu_slowdown",
        help="1 while the chip runs slower for this reason",
        read=_slowdowns,
    ),
    _Metric(
        name="appliance_gpu_ecc_corrected_errors_total",
        help="Memory errors that ECC corrected, over the life of the board",
        kind="counter",
        read=lambda nvml, gpu: _errors(nvml, gpu, nvml.NVML_MEMORY_ERROR_TYPE_CORRECTED),
    ),
    _Metric(
        name="appliance_gpu_ecc_uncorrected_errors_total",
        help="Memory errors that ECC could not correct, over the life of the board",
        kind="counter",
        read=lambda nvml, gpu: _errors(nvml, gpu, nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED),
    ),
    _Metric(
        name="appliance_gpu_remapped_rows_pending",
        help="1 when memory rows wait for a reset of the GPU to be replaced",
        read=lambda nvml, gpu: nvml.nvmlDeviceGetRemappedRows(gpu)[2],
    ),
)

"""Device: what one rank of an engine runs on, a GPU or the processor of a host, reduced to what sizing needs.

`memory_usable_bytes` of a GPU is what CUDA offers: NVML's total less the driver's reserve. A GPU that is not at hand
comes from `catalogue/gpus.yaml`, found by its NVML name, another name it goes by, or its short key.
"""

import difflib
from dataclasses import dataclass
from functools import cache
from typing import Self

from pydantic import Field

from sizing.calibration import Calibration
from sizing.catalogue import catalogue_document
from sizing.documents import Part
from sizing.errors import UnknownFact
from sizing.hardware import Accelerator, Gpu, Hardware
from sizing.units import MIB, ceil_div

RESERVE_BASE_BYTES = 440 * MIB
RESERVE_PER_MILLE = 2
"""Rule for a driver reserve that nobody has reported: 440 MiB + 0.2 % of the total, rounded up to MiB. It meets the
reported ones (T4 to B300, `memory_reserved_mib` in catalogue/gpus.yaml) within 0.5 % of the total."""

CPU_HOST_RESERVE_BYTES = 1024 * MIB
"""A guess: what the operating system and small services of a host keep for themselves. An option of `of_cpu`."""


@dataclass(frozen=True, kw_only=True)
class Device:
    """One GPU, or the processor with its memory. `memory_used_bytes`: what other processes already hold;
    `cpu_flags` is empty on a GPU and where nobody read them; `calibration`: what the site learned of engines on it."""

    accelerator: Accelerator
    name: str
    compute_capability: tuple[int, int] | None
    memory_total_bytes: int
    memory_usable_bytes: int
    memory_used_bytes: int = 0
    memory_unified: bool = False
    cpu_flags: frozenset[str] = frozenset()
    calibration: Calibration | None = None
    calibration_name: str = ""

    @classmethod
    def of_gpu(cls, gpu: Gpu, *, co_tenants_stay: bool = False) -> Self:
        """A measured GPU. What is in use now counts only if `co_tenants_stay`: it may be the engine we replace."""
        return cls(
            accelerator="cuda",
            name=gpu.name,
            compute_capability=gpu.compute_capability,
            memory_total_bytes=gpu.memory_total_bytes,
            memory_usable_bytes=gpu.memory_usable_bytes,
            memory_used_bytes=gpu.memory_used_bytes if co_tenants_stay else 0,
            memory_unified=gpu.memory_unified,
        )

    @classmethod
    def of_cpu(cls, hardware: Hardware, *, reserve_bytes: int = CPU_HOST_RESERVE_BYTES) -> Self:
        """The processor of a host; a small host keeps at most a tenth for itself."""
        kept_bytes = min(reserve_bytes, hardware.memory_total_bytes // 10)
        return cls(
            accelerator="cpu",
            name=hardware.cpu.model,
            compute_capability=None,
            memory_total_bytes=hardware.memory_total_bytes,
            memory_usable_bytes=hardware.memory_total_bytes - kept_bytes,
            cpu_flags=frozenset(hardware.cpu.flags),
        )

    @property
    def memory_budget_bytes(self) -> int:
        """What vLLM multiplies with gpu_memory_utilization: CUDA's total on a GPU, all memory of a host on a CPU."""
        return self.memory_usable_bytes if self.accelerator == "cuda" else self.memory_total_bytes


class GpuFacts(Part):
    """One row of the GPU catalogue."""

    key: str
    nvml_name: str
    aliases: tuple[str, ...] = ()
    architecture: str
    memory_total_mib: int | None
    memory_reserved_mib: int | None = None
    compute_capability: tuple[int, int]
    memory_bandwidth_gb_s: float | None = None
    bf16_dense_tflops: float | None = None
    fp16_dense_tflops: float | None = None
    fp8_dense_tflops: float | None = None
    fp4_dense_tflops: float | None = None
    nvlink_gb_s_total_bidir: float | None = None
    pcie_gen: int | None = None
    mig_max_instances: int | None = None
    tdp_w: float | None = None
    sources: dict[str, str] = Field(default_factory=dict)
    unverified: tuple[str, ...] = ()
    note: str = ""

    @property
    def reserve_is_reported(self) -> bool:
        """Whether the driver's reserve is a reported figure, not our rule."""
        return self.memory_reserved_mib is not None

    def as_gpu(self, index: int = 0) -> Gpu:
        """The row as a GPU that stands for a measured one; its uuid says where it comes from."""
        if self.memory_total_mib is None:
            why = f" ({self.note})" if self.note else ""
            raise UnknownFact(
                f"{self.nvml_name}: its memory as NVML reports it is not in the catalogue{why}; "
                "run `llm-size probe` on the host and hand its file over with --hardware"
            )
        total_bytes = self.memory_total_mib * MIB
        if self.memory_reserved_mib is not None:
            reserved_bytes = self.memory_reserved_mib * MIB
        else:
            reserved_bytes = RESERVE_BASE_BYTES + ceil_div(total_bytes * RESERVE_PER_MILLE, 1000 * MIB) * MIB
        return Gpu(
            index=index,
            uuid=f"GPU-catalogue-{self.key}-{index}",
            name=self.nvml_name,
            memory_total_bytes=total_bytes,
            memory_reserved_bytes=reserved_bytes,
            compute_capability=self.compute_capability,
        )


class _GpuTable(Part):
    gpus: tuple[GpuFacts, ...]


@cache
def known_gpus() -> tuple[GpuFacts, ...]:
    """Every GPU of the catalogue."""
    return _GpuTable.model_validate(catalogue_document("gpus.yaml")).gpus


def find_gpu(name: str) -> GpuFacts:
    """A GPU by NVML name, alias or key, whatever the case; raises UnknownFact with the nearest names."""
    wanted = name.strip().lower()
    names: dict[str, GpuFacts] = {}
    for row in known_gpus():
        for one in (row.nvml_name, row.key, *row.aliases):
            names.setdefault(one.lower(), row)
    if wanted in names:
        return names[wanted]
    near = difflib.get_close_matches(wanted, names, n=12, cutoff=0.3)
    nearest = list(dict.fromkeys(names[one].nvml_name for one in near))[:3] or [row.key for row in known_gpus()][:3]
    raise UnknownFact(
        f'GPU "{name}" is not in the catalogue; nearest: {", ".join(nearest)}. For another GPU run `llm-size probe` '
        "on its host and pass the file with --hardware"
    )

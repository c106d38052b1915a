"""Hardware: what one host has, measured by `llm-size probe` or taken from the GPU catalogue.

Memory of a GPU is what NVML reports; `memory_reserved_bytes` is the driver's own share of it, so
`memory_usable_bytes` is what CUDA can offer (NVML total less reserve; nvml.h, nvmlMemory_v2_t).
"""

import json
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from sizing.documents import Document, Part, digest_of, read_structured_file
from sizing.errors import DocumentError

Accelerator = Literal["cpu", "cuda"]

HARDWARE_KEY = "appliance_hardware"
"""The single top-level key of `host_vars/<host>/hardware.json`, which Ansible loads as host variables."""


class GpuProcess(Part):
    """A process that computed on a GPU while it was measured; a container may know neither its name nor its size."""

    pid: int
    name: str | None = None
    memory_used_bytes: int | None = Field(default=None, ge=0)


class Gpu(Part):
    """One GPU as NVML names and measures it."""

    index: int = Field(ge=0)
    uuid: str
    name: str
    memory_total_bytes: int = Field(gt=0)
    memory_reserved_bytes: int = Field(ge=0)
    memory_used_bytes: int = Field(default=0, ge=0)
    compute_capability: tuple[int, int]
    nvlink_peers: tuple[int, ...] = ()
    memory_unified: bool = Field(default=False, description="shares the host's memory (GB10); NVML reports none")
    mig: bool = Field(default=False, description="a MIG device: no peers, so no tensor parallelism across it")
    mig_parent_uuid: str | None = None
    virtual: bool = Field(default=False, description="a vGPU: the memory is the size of its profile")
    ecc: bool | None = None
    processes: tuple[GpuProcess, ...] = Field(default=(), description="who computed on it at the moment")

    @property
    def memory_usable_bytes(self) -> int:
        """What CUDA offers: total less the driver's reserve."""
        return self.memory_total_bytes - self.memory_reserved_bytes

    @property
    def co_tenant_bytes(self) -> int:
        """What others held when it was measured; on unified memory only their processes tell."""
        told_bytes = sum(one.memory_used_bytes or 0 for one in self.processes)
        return told_bytes if self.memory_unified else max(self.memory_used_bytes, told_bytes)

    @model_validator(mode="after")
    def _reserve_is_below_total(self) -> Self:
        if self.memory_reserved_bytes >= self.memory_total_bytes:
            raise ValueError(
                f"GPU {self.index} reserves {self.memory_reserved_bytes} of {self.memory_total_bytes} bytes"
            )
        return self


class Cpu(Part):
    """The processor of a host: the logical cores that a process may use, by number."""

    model: str
    architecture: str
    cores: tuple[int, ...] = Field(min_length=1)
    flags: tuple[str, ...] = ()


class Hardware(Document):
    """One host, as measured."""

    host: str
    accelerator: Accelerator
    cpu: Cpu
    memory_total_bytes: int = Field(gt=0)
    driver_version: str | None = None
    cuda_driver_version: str | None = None
    gpus: tuple[Gpu, ...] = ()

    @model_validator(mode="after")
    def _accelerator_matches_gpus(self) -> Self:
        if self.accelerator == "cuda" and not self.gpus:
            raise ValueError('accelerator is "cuda" but gpus is empty; a host without GPUs is "cpu"')
        uuids = [gpu.uuid for gpu in self.gpus]
        if len(set(uuids)) != len(uuids):
            raise ValueError("two GPUs have the same uuid")
        return self

    def nvlink_islands(self) -> tuple[tuple[int, ...], ...]:
        """Groups of GPUs, by index, in which every one reaches every other over NVLink; one without peers is alone."""
        islands: list[list[Gpu]] = []
        for gpu in self.gpus:
            home = next((one for one in islands if all(gpu.index in member.nvlink_peers for member in one)), None)
            if home is None:
                islands.append([gpu])
            else:
                home.append(gpu)
        return tuple(tuple(gpu.index for gpu in island) for island in islands)

    @classmethod
    def load_host_vars(cls, path: Path) -> Self:
        """The hardware in a `host_vars/<host>/hardware.json`."""
        content = read_structured_file(path)
        if not isinstance(content, dict) or set(content) != {HARDWARE_KEY}:
            raise DocumentError(f"{path}: expected the single top-level key {HARDWARE_KEY}; run playbooks/probe.yml")
        return cls.parse(content[HARDWARE_KEY], origin=str(path))

    def to_host_vars(self) -> str:
        """The text of a `host_vars/<host>/hardware.json`."""
        return json.dumps({HARDWARE_KEY: self.model_dump(mode="json")}, indent=2) + "\n"

    def digest(self) -> str:
        """The fingerprint of what does not change by itself: memory in use at the moment is left out."""
        content = self.model_dump(mode="json")
        for gpu in content["gpus"]:
            del gpu["memory_used_bytes"], gpu["processes"]
        return digest_of(content)

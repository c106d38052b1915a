"""Measure GPUs: what NVML says about the GPUs of this host, as plain dictionaries.

Runs on bare hosts like `measure.py`: the standard library and pynvml, Python 3.9. What it minds:
- Memory comes from nvmlDeviceGetMemoryInfo version 2, whose `reserved` is the driver's share; version 1 of older
  drivers counts the reserve as used. A GPU that shares the host's memory answers NotSupported (nvml.h), and
  /proc/meminfo answers for it.
- With MIG on, CUDA sees the MIG devices; memory of the GPU itself needs privilege then (NoPermission in containers).
- NVLink peers come from the P2P status: behind an NVSwitch the remote end of a link is the switch, so links cannot be
  matched by PCI address.
- A virtual GPU reports the size of its profile and refuses most else. Processes may have no size, or not be told.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Callable, TypedDict  # noqa: UP035  Python 3.9

from sizing.errors import DriverNotLoaded, NoDriver, NoGpu

MIB = 1024 * 1024
NOTABLE_USE_BYTES = 1024 * MIB
"""Memory in use above this is worth a word: vLLM refuses to start when less than it requests is free."""

VIRTUAL_GPU_MODE = 2
"""nvml.h, NVML_GPU_VIRTUALIZATION_MODE_VGPU: a guest that sees one profile of a GPU."""
PROHIBITED_MODE, EXCLUSIVE_MODE = 2, 3


class MeasuredProcess(TypedDict):
    """As `hardware.GpuProcess`."""

    pid: int
    name: str | None
    memory_used_bytes: int | None


class MeasuredGpu(TypedDict):
    """As `hardware.Gpu`."""

    index: int
    uuid: str
    name: str
    memory_total_bytes: int
    memory_reserved_bytes: int
    memory_used_bytes: int
    compute_capability: list[int]
    nvlink_peers: list[int]
    memory_unified: bool
    mig: bool
    mig_parent_uuid: str | None
    virtual: bool
    ecc: bool | None
    processes: list[MeasuredProcess]


class MeasuredGpus:
    """All GPUs of this host, and their driver."""

    def __init__(self, *, driver_version: str, cuda_driver_version: str, gpus: list[MeasuredGpu]) -> None:
        self.driver_version = driver_version
        self.cuda_driver_version = cuda_driver_version
        self.gpus = gpus


def read_gpus(memory: dict[str, int], notes: list[str], *, proc: Path) -> MeasuredGpus:
    """The GPUs. `memory` is /proc/meminfo in bytes; what a person should hear goes to `notes`."""
    nvml = _initialised_nvml()
    try:
        handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
        devices = [device for handle in handles for device in _devices_of(nvml, handle, notes)]
        if not handles:
            raise NoGpu("the NVIDIA driver works but reports no GPU; check `lspci`, and what a VM or container hides")
        if not devices:
            raise NoGpu("every GPU has MIG on but holds no MIG device; create one or turn MIG off")
        cuda_version: int = nvml.nvmlSystemGetCudaDriverVersion_v2()
        gpus = [_read_gpu(nvml, device, index, memory, notes) for index, device in enumerate(devices)]
        for device, gpu in zip(devices, gpus):  # noqa: B905  `strict` needs Python 3.10
            gpu["processes"] = _processes(nvml, device, proc)
            _tell_use(gpu, notes)
        _add_nvlink_peers(nvml, devices, gpus)
        return MeasuredGpus(
            driver_version=nvml.nvmlSystemGetDriverVersion(),
            cuda_driver_version=f"{cuda_version // 1000}.{cuda_version % 1000 // 10}",
            gpus=gpus,
        )
    except nvml.NVMLError_GpuIsLost:
        raise DriverNotLoaded("a GPU fell off the bus; look at `dmesg | grep -i xid` and reboot this host") from None
    except nvml.NVMLError as error:
        raise DriverNotLoaded(f"the NVIDIA driver fails: {error}; look at `nvidia-smi` and `dmesg`") from None
    finally:
        nvml.nvmlShutdown()


def _initialised_nvml() -> Any:
    import pynvml  # noqa: PLC0415  a CPU host needs none of it

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError_LibraryNotFound:
        raise NoDriver("no NVIDIA driver is installed here (libnvidia-ml.so.1 not found)") from None
    except pynvml.NVMLError_LibRmVersionMismatch:
        raise DriverNotLoaded("the NVIDIA driver was upgraded while loaded; reboot this host") from None
    except pynvml.NVMLError_DriverNotLoaded:
        raise DriverNotLoaded(
            "the NVIDIA driver is installed but not loaded; try `modprobe nvidia`, then look at `dmesg`"
        ) from None
    except pynvml.NVMLError as error:
        raise DriverNotLoaded(f"the NVIDIA driver does not answer: {error}; look at `dmesg`") from None
    return pynvml


class _Device:
    """A GPU, or one MIG device of it: what CUDA would see as one device."""

    def __init__(self, handle: Any, *, parent: Any, in_mig_mode: bool) -> None:
        self.handle = handle
        self.parent = parent
        self.in_mig_mode = in_mig_mode


def _told(nvml: Any, call: Callable[[], Any]) -> Any:
    """What a call answers, or None where this board, driver or container does not tell."""
    try:
        return call()
    except (
        nvml.NVMLError_NotSupported,
        nvml.NVMLError_FunctionNotFound,
        nvml.NVMLError_NoPermission,
        nvml.NVMLError_ArgumentVersionMismatch,
    ):
        return None


def _devices_of(nvml: Any, gpu: Any, notes: list[str]) -> list[_Device]:
    """The GPU itself, or with MIG on its MIG devices: the parent then runs nothing and hides its memory."""
    mode = _told(nvml, lambda: nvml.nvmlDeviceGetMigMode(gpu))
    if mode is None or mode[0] != nvml.NVML_DEVICE_MIG_ENABLE:
        return [_Device(gpu, parent=gpu, in_mig_mode=False)]
    devices = []
    for index in range(_told(nvml, lambda: nvml.nvmlDeviceGetMaxMigDeviceCount(gpu)) or 0):
        try:
            handle = nvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu, index)
        except (nvml.NVMLError_NotFound, nvml.NVMLError_InvalidArgument, nvml.NVMLError_NoPermission):
            continue
        devices.append(_Device(handle, parent=gpu, in_mig_mode=True))
    name, uuid = nvml.nvmlDeviceGetName(gpu), nvml.nvmlDeviceGetUUID(gpu)
    notes.append(f"{name} {uuid} has MIG on: its {len(devices)} MIG devices are listed instead of the GPU")
    return devices


def _read_gpu(nvml: Any, device: _Device, index: int, memory: dict[str, int], notes: list[str]) -> MeasuredGpu:
    name: str = nvml.nvmlDeviceGetName(device.handle)
    label = f"GPU {index} ({name})"
    total, reserved, used, unified = _read_gpu_memory(nvml, device.handle, memory, label, notes)
    virtual = _told(nvml, lambda: nvml.nvmlDeviceGetVirtualizationMode(device.parent)) == VIRTUAL_GPU_MODE
    if virtual:
        notes.append(f"{label} is a virtual GPU: its memory is the size of its profile")
    compute_mode = _told(nvml, lambda: nvml.nvmlDeviceGetComputeMode(device.parent))
    if compute_mode in (PROHIBITED_MODE, EXCLUSIVE_MODE):
        what = "forbids compute" if compute_mode == PROHIBITED_MODE else "lets one process compute"
        notes.append(f"{label} {what} (compute mode); `nvidia-smi -c DEFAULT` lifts that")
    ecc = _told(nvml, lambda: nvml.nvmlDeviceGetEccMode(device.parent))
    return {
        "index": index,
        "uuid": nvml.nvmlDeviceGetUUID(device.handle),
        "name": name,
        "memory_total_bytes": total,
        "memory_reserved_bytes": reserved,
        "memory_used_bytes": used,
        "compute_capability": list(nvml.nvmlDeviceGetCudaComputeCapability(device.parent)),
        "nvlink_peers": [],
        "memory_unified": unified,
        "mig": device.in_mig_mode,
        "mig_parent_uuid": nvml.nvmlDeviceGetUUID(device.parent) if device.in_mig_mode else None,
        "virtual": virtual,
        "ecc": None if ecc is None else bool(ecc[0]),
        "processes": [],
    }


def _processes(nvml: Any, device: _Device, proc: Path) -> list[MeasuredProcess]:
    """Who computes on the device, largest first. Process ids are the host's, so a container may know no names."""
    running = _told(nvml, lambda: nvml.nvmlDeviceGetComputeRunningProcesses(device.handle)) or []
    processes: list[MeasuredProcess] = []
    for one in running:
        try:
            name: str | None = (proc / str(one.pid) / "comm").read_text(encoding="utf-8", errors="replace").strip()
        except OSError:
            name = None
        processes.append({"pid": one.pid, "name": name, "memory_used_bytes": one.usedGpuMemory})
    return sorted(processes, key=lambda process: (-(process["memory_used_bytes"] or 0), process["pid"]))


def _tell_use(gpu: MeasuredGpu, notes: list[str]) -> None:
    used = gpu["memory_used_bytes"]
    if used > NOTABLE_USE_BYTES and not gpu["memory_unified"]:
        who = _names(gpu["processes"])
        notes.append(f"GPU {gpu['index']} ({gpu['name']}): other processes hold {used // MIB} MiB of it now{who}")


def _names(processes: Sequence[MeasuredProcess]) -> str:
    told = [f"{one['name'] or 'process'} {one['pid']}" for one in processes if one["pid"] != os.getpid()]
    return f" ({', '.join(told)})" if told else ""


def _read_gpu_memory(
    nvml: Any, handle: Any, memory: dict[str, int], label: str, notes: list[str]
) -> tuple[int, int, int, bool]:
    """Total, reserved and used bytes, and whether they are the host's own memory."""
    try:
        info = nvml.nvmlDeviceGetMemoryInfo(handle, version=nvml.nvmlMemory_v2)
    except nvml.NVMLError_NotSupported:
        return _host_memory(memory, label, notes)
    except nvml.NVMLError_NoPermission:
        raise DriverNotLoaded(
            f"{label}: NVML may not read its memory here; probe on the host itself, or as root in a container that "
            "holds the whole GPU"
        ) from None
    except (nvml.NVMLError_FunctionNotFound, nvml.NVMLError_ArgumentVersionMismatch):
        info = nvml.nvmlDeviceGetMemoryInfo(handle)
        notes.append(f"{label}: this old driver does not report its own reserve, so usable memory reads too high")
        return info.total, 0, info.used, False
    if info.total == 0:
        return _host_memory(memory, label, notes)
    return info.total, info.reserved, info.used, False


def _host_memory(memory: dict[str, int], label: str, notes: list[str]) -> tuple[int, int, int, bool]:
    """A GPU without memory of its own: most drivers say NotSupported, some answer with zero."""
    notes.append(f"{label} shares the host's memory; /proc/meminfo answers for it")
    total = memory["MemTotal"]
    return total, 0, total - memory.get("MemAvailable", total), True


def _add_nvlink_peers(nvml: Any, devices: Sequence[_Device], gpus: Sequence[MeasuredGpu]) -> None:
    index = nvml.NVML_P2P_CAPS_INDEX_NVLINK
    for one, gpu in zip(devices, gpus):  # noqa: B905  `strict` needs Python 3.10
        for other, peer in zip(devices, gpus):  # noqa: B905
            if one is other or one.in_mig_mode or other.in_mig_mode:
                continue
            status = _told(nvml, partial(nvml.nvmlDeviceGetP2PStatus, one.handle, other.handle, index))
            if status == nvml.NVML_P2P_STATUS_OK:
                gpu["nvlink_peers"].append(peer["index"])

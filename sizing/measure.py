"""Measure: what this host has, read from NVML and /proc, as plain dictionaries.

Apart from `probe.py` because it also runs on a bare host, packed with pynvml.py into one zipapp (see `probe.py`):
so it needs the standard library alone, and Python 3.9 is enough. The controller validates what it prints.

Memory of a GPU comes from nvmlDeviceGetMemoryInfo version 2, whose `reserved` is the driver's share; version 1 of
older drivers counts the reserve as used. A GPU that shares the host's memory answers NotSupported (nvml.h), and
/proc/meminfo answers for it. NVLink peers come from the P2P status: behind an NVSwitch the remote end of a link is
the switch, so links cannot be matched by PCI address.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypedDict

from sizing.errors import DriverNotLoaded, NoDriver, NoGpu, SizingError

ACCELERATORS = ("auto", "cpu", "cuda")

MIB = 1024 * 1024
NOTABLE_USE_BYTES = 1024 * MIB
"""Memory in use above this is worth a word: vLLM refuses to start when less than it requests is free."""

RELEVANT_CPU_FLAGS = (
    *("avx", "avx2", "f16c", "fma", "avx512f", "avx512_bf16", "avx512_vnni", "avx512_fp16"),
    *("amx_tile", "amx_bf16", "amx_int8"),
    *("asimd", "asimddp", "bf16", "i8mm", "sve", "sve2"),
)
"""Instruction sets that decide which vLLM CPU build and kernels run; the rest of the flags would only be noise."""


class MeasuredCpu(TypedDict):
    """As `hardware.Cpu`."""

    model: str
    architecture: str
    cores: list[int]
    flags: list[str]


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


class MeasuredHardware(TypedDict):
    """As `hardware.Hardware`."""

    schema_version: int
    host: str
    accelerator: str
    cpu: MeasuredCpu
    memory_total_bytes: int
    driver_version: str | None
    cuda_driver_version: str | None
    gpus: list[MeasuredGpu]


def measure(*, host: str, accelerator: str, proc: Path = Path("/proc")) -> tuple[MeasuredHardware, list[str]]:
    """This host, with notes for the person who reads along.

    `auto` means GPUs unless no NVIDIA driver is installed; a driver that is installed and broken stays an error,
    because a GPU host must not silently become a CPU host.
    """
    notes: list[str] = []
    memory = read_memory(proc)
    measured: MeasuredHardware = {
        "schema_version": 1,
        "host": host,
        "accelerator": "cpu",
        "cpu": read_cpu(proc),
        "memory_total_bytes": memory["MemTotal"],
        "driver_version": None,
        "cuda_driver_version": None,
        "gpus": [],
    }
    if accelerator == "cpu":
        return measured, notes
    try:
        _add_gpus(measured, memory, notes)
    except NoDriver as error:
        if accelerator == "cuda":
            raise NoDriver(f"{error}; install it, or probe with accelerator cpu") from None
        notes.append(f"{error}; measured as a CPU host")
    return measured, notes


def read_memory(proc: Path) -> dict[str, int]:
    """/proc/meminfo in bytes."""
    path = proc / "meminfo"
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except OSError as error:
        raise SizingError(f"{path}: cannot be read ({error.strerror}); probing needs Linux") from None
    sizes = {}
    for line in lines:
        name, _, value = line.partition(":")
        words = value.split()
        if words[1:] == ["kB"]:
            sizes[name] = int(words[0]) * 1024
    if "MemTotal" not in sizes:
        raise SizingError(f"{path}: no MemTotal in it")
    return sizes


def read_cpu(proc: Path) -> MeasuredCpu:
    """Model and flags from /proc/cpuinfo; cores are those this process may use, not those the machine has."""
    facts: dict[str, str] = {}
    for line in (proc / "cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
        name, _, value = line.partition(":")
        facts.setdefault(name.strip(), value.strip())
    arm = " ".join(f"{key} {facts[key]}" for key in ("CPU implementer", "CPU part") if key in facts)
    flags = facts.get("flags", facts.get("Features", "")).split()
    return {
        "model": facts.get("model name") or arm or platform.machine(),
        "architecture": platform.machine(),
        "cores": sorted(os.sched_getaffinity(0)),
        "flags": [flag for flag in RELEVANT_CPU_FLAGS if flag in flags],
    }


def _add_gpus(measured: MeasuredHardware, memory: dict[str, int], notes: list[str]) -> None:
    nvml = _initialised_nvml()
    try:
        handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
        devices = [device for handle in handles for device in _devices_of(nvml, handle, notes)]
        if not handles:
            raise NoGpu("the NVIDIA driver works but reports no GPU; check `lspci`, and what a VM or container hides")
        if not devices:
            raise NoGpu("every GPU has MIG on but holds no MIG device; create one or turn MIG off")
        cuda_version: int = nvml.nvmlSystemGetCudaDriverVersion_v2()
        measured["accelerator"] = "cuda"
        measured["driver_version"] = nvml.nvmlSystemGetDriverVersion()
        measured["cuda_driver_version"] = f"{cuda_version // 1000}.{cuda_version % 1000 // 10}"
        for index, device in enumerate(devices):
            measured["gpus"].append(_read_gpu(nvml, device, index, memory, notes))
        _add_nvlink_peers(nvml, devices, measured["gpus"])
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


def _devices_of(nvml: Any, gpu: Any, notes: list[str]) -> list[_Device]:
    """The GPU itself, or with MIG on its MIG devices: the parent then runs nothing and hides its memory."""
    try:
        mig_is_on = nvml.nvmlDeviceGetMigMode(gpu)[0] == nvml.NVML_DEVICE_MIG_ENABLE
    except (nvml.NVMLError_NotSupported, nvml.NVMLError_FunctionNotFound):
        mig_is_on = False
    if not mig_is_on:
        return [_Device(gpu, parent=gpu, in_mig_mode=False)]
    devices = []
    for index in range(nvml.nvmlDeviceGetMaxMigDeviceCount(gpu)):
        try:
            handle = nvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu, index)
        except (nvml.NVMLError_NotFound, nvml.NVMLError_InvalidArgument):
            continue
        devices.append(_Device(handle, parent=gpu, in_mig_mode=True))
    name, uuid = nvml.nvmlDeviceGetName(gpu), nvml.nvmlDeviceGetUUID(gpu)
    notes.append(f"{name} {uuid} has MIG on: its {len(devices)} MIG devices are listed instead of the GPU")
    return devices


def _read_gpu(nvml: Any, device: _Device, index: int, memory: dict[str, int], notes: list[str]) -> MeasuredGpu:
    name: str = nvml.nvmlDeviceGetName(device.handle)
    total, reserved, used, unified = _read_gpu_memory(nvml, device.handle, memory, f"GPU {index} ({name})", notes)
    if used > NOTABLE_USE_BYTES and not unified:
        notes.append(f"GPU {index} ({name}): other processes hold {used // MIB} MiB of it now")
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
    }


def _read_gpu_memory(
    nvml: Any, handle: Any, memory: dict[str, int], label: str, notes: list[str]
) -> tuple[int, int, int, bool]:
    """Total, reserved and used bytes, and whether they are the host's own memory."""
    try:
        info = nvml.nvmlDeviceGetMemoryInfo(handle, version=nvml.nvmlMemory_v2)
    except nvml.NVMLError_NotSupported:
        return _host_memory(memory, label, notes)
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
    for one, gpu in zip(devices, gpus):  # noqa: B905  `strict` needs Python 3.10
        for other, peer in zip(devices, gpus):  # noqa: B905
            if one is other or one.in_mig_mode or other.in_mig_mode:
                continue
            try:
                status = nvml.nvmlDeviceGetP2PStatus(one.handle, other.handle, nvml.NVML_P2P_CAPS_INDEX_NVLINK)
            except (nvml.NVMLError_NotSupported, nvml.NVMLError_FunctionNotFound):
                continue
            if status == nvml.NVML_P2P_STATUS_OK:
                gpu["nvlink_peers"].append(peer["index"])


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line of the zipapp: JSON on stdout, notes on stderr.

    `--one-stream` is for Ansible's `script`, which runs it on a pseudo-terminal, where stderr ends up in stdout.
    """
    parser = argparse.ArgumentParser(prog="probe.pyz", description="Measure this host for llm-appliance.")
    parser.add_argument("--host", default=socket.gethostname(), help="name of this host in the inventory")
    parser.add_argument("--accelerator", choices=ACCELERATORS, default="auto", help="what the engines shall run on")
    parser.add_argument(
        "--one-stream",
        action="store_true",
        help="notes or the error inside the JSON: for a caller that gets both streams as one",
    )
    options = parser.parse_args(arguments)
    try:
        measured, notes = measure(host=options.host, accelerator=options.accelerator)
    except SizingError as error:
        if options.one_stream:
            print(json.dumps({"error": str(error), "exit_code": error.exit_code}))
        else:
            print(f"llm-size: {error}", file=sys.stderr)
        return error.exit_code
    if options.one_stream:
        print(json.dumps({"hardware": measured, "notes": notes}))
        return 0
    for note in notes:
        print(f"llm-size: note: {note}", file=sys.stderr)
    print(json.dumps(measured, indent=2))
    return 0

"""Measure: what this host has, read from NVML and /proc, as plain dictionaries.

Apart from `probe.py` because it also runs on a bare host, packed with pynvml.py into one zipapp (see `probe.py`):
so it needs the standard library alone, and Python 3.9 is enough. The controller validates what it prints.

GPUs are `measure_gpus.py`'s part.
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
from typing import TypedDict

from sizing.errors import NoDriver, SizingError
from sizing.measure_gpus import MeasuredGpu, read_gpus

ACCELERATORS = ("auto", "cpu", "cuda")

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
        seen = read_gpus(memory, notes, proc=proc)
    except NoDriver as error:
        if accelerator == "cuda":
            raise NoDriver(f"{error}; install it, or probe with accelerator cpu") from None
        notes.append(f"{error}; measured as a CPU host")
        return measured, notes
    measured["accelerator"] = "cuda"
    measured["driver_version"] = seen.driver_version
    measured["cuda_driver_version"] = seen.cuda_driver_version
    measured["gpus"] = seen.gpus
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

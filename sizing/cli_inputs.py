"""What several verbs ask for: which model, on which devices, and numbers as vLLM's own options take them."""

import re
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import typer

from sizing.cli_console import say
from sizing.device import Device, find_gpu
from sizing.documents import read_structured_file
from sizing.errors import DocumentError, DriverNotLoaded, NoDriver, NoGpu, SizingError
from sizing.hardware import HARDWARE_KEY, Hardware
from sizing.islands import Pool, pool_of_catalogue, pools_of
from sizing.model_facts import ModelFacts, load_model_facts
from sizing.probe import probe

MOST_GPUS_OF_A_HOST = 128

_SUFFIXES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "K": 2**10, "M": 2**20, "G": 2**30}
_QUANTITY = re.compile(r"(\d+(?:\.\d+)?)([kKmMgG]?)")


@dataclass(frozen=True, kw_only=True)
class Devices:
    """What engines may run on: `count` devices like `device`."""

    device: Device
    count: int
    origin: str


def quantity(text: str) -> int:
    """A number as vLLM reads it: 32768, 32k (thousands) or 32K (1024s)."""
    match = _QUANTITY.fullmatch(text.strip())
    if match is None:
        raise typer.BadParameter(f"{text!r} is not a number like 32768, 32k or 32K")
    value = float(match[1]) * _SUFFIXES[match[2]]
    if value != int(value):
        raise typer.BadParameter(f"{text!r} is {value}, which is not whole")
    return int(value)


def quantity_or_auto(text: str) -> int | Literal["auto"]:
    """A number, or the word auto."""
    return "auto" if text.strip().lower() in {"auto", "-1"} else quantity(text)


def choose_model(*, model: str | None, model_dir: Path | None, config: Path | None) -> ModelFacts:
    """The one model that was named, one way or another."""
    named = [name for name, value in (("--model", model), ("--model-dir", model_dir), ("--config", config)) if value]
    if len(named) != 1:
        raise typer.BadParameter(f"give one of --model, --model-dir, --config{_not(named)}")
    if model_dir is not None:
        if not model_dir.is_dir():
            raise SizingError(f"{model_dir}: no such directory")
        return load_model_facts(str(model_dir))
    if config is not None:
        if not config.is_file():
            raise SizingError(f"{config}: no such file")
        return load_model_facts(str(config))
    return load_model_facts(model or "")


def choose_devices(*, gpu: str | None, hardware: Path | None, co_tenants_stay: bool) -> Devices:
    """From the catalogue, a hardware file, or NVML of this host."""
    if gpu is not None and hardware is not None:
        raise typer.BadParameter("give one of --gpu, --hardware, not both")
    if gpu is not None:
        return _from_catalogue(gpu)
    if hardware is not None:
        return devices_of(load_hardware(hardware), origin=str(hardware), co_tenants_stay=co_tenants_stay)
    measured, notes = _this_host()
    for note in notes:
        say(f"note: {note}")
    return devices_of(measured, origin="NVML of this host", co_tenants_stay=co_tenants_stay)


def choose_pools(*, gpu: str | None, hardware: Path | None, co_tenants_stay: bool) -> tuple[Pool, ...]:
    """The same devices as kinds of equal ones, with the islands that NVLink makes of them."""
    if gpu is not None and hardware is not None:
        raise typer.BadParameter("give one of --gpu, --hardware, not both")
    if gpu is not None:
        name, count = _name_and_count(gpu)
        return (pool_of_catalogue(find_gpu(name).as_gpu(), count),)
    if hardware is not None:
        return pools_of(load_hardware(hardware), co_tenants_stay=co_tenants_stay)
    measured, notes = _this_host()
    for note in notes:
        say(f"note: {note}")
    return pools_of(measured, co_tenants_stay=co_tenants_stay)


def _this_host() -> tuple[Hardware, tuple[str, ...]]:
    try:
        return probe(host=socket.gethostname(), accelerator="cuda")
    except (NoDriver, DriverNotLoaded, NoGpu) as error:
        raise type(error)(f"{error}; or name a GPU with --gpu, a host with --hardware") from None


def load_hardware(path: Path) -> Hardware:
    """A hardware document, bare as `llm-size probe` prints it or wrapped as Ansible loads it."""
    content = read_structured_file(path)
    if isinstance(content, dict) and set(content) == {HARDWARE_KEY}:
        return Hardware.load_host_vars(path)
    return Hardware.parse(content, origin=str(path))


def devices_of(hardware: Hardware, *, origin: str, co_tenants_stay: bool) -> Devices:
    """The devices of a host; where its GPUs differ, all count as the smallest."""
    if hardware.accelerator == "cpu":
        return Devices(device=Device.of_cpu(hardware), count=1, origin=origin)
    devices = [Device.of_gpu(one, co_tenants_stay=co_tenants_stay) for one in hardware.gpus]
    smallest = min(devices, key=lambda device: device.memory_usable_bytes - device.memory_used_bytes)
    if len({device.name for device in devices}) > 1:
        say(f"note: the GPUs of {hardware.host} differ; each is taken for a {smallest.name}")
    return Devices(device=smallest, count=len(devices), origin=origin)


def _from_catalogue(text: str) -> Devices:
    name, count = _name_and_count(text)
    return Devices(device=Device.of_gpu(find_gpu(name).as_gpu()), count=count, origin="the GPU catalogue")


def _name_and_count(text: str) -> tuple[str, int]:
    name, separator, digits = text.rpartition(":")
    if not separator or not digits.strip().lstrip("-").isdigit():
        return text, 1
    count = int(digits)
    if not 1 <= count <= MOST_GPUS_OF_A_HOST:
        raise DocumentError(
            f'--gpu "{text}": the count must lie between 1 and {MOST_GPUS_OF_A_HOST}, the GPUs of one host; '
            "several hosts are a site (--site)"
        )
    return name, count


def _not(named: list[str]) -> str:
    return f", not {' and '.join(named)} together" if named else ""

"""Sites that nobody owns: inventories of any number of 8-GPU hosts with ten models, to time the planner with."""

import json
from pathlib import Path

import yaml

from sizing.device import find_gpu
from sizing.hardware import Cpu, Gpu, Hardware
from sizing.units import GIB

GPUS_PER_HOST = 8
GPU_KINDS = ("NVIDIA H100 80GB HBM3", "NVIDIA H200", "NVIDIA L40S")
"""Hosts take these in turn, so that a site is mixed as real ones are."""

MODELS = (
    "Qwen/Qwen3-0.6B",
    "Qwen/Qwen3-8B",
    "Qwen/Qwen3-14B",
    "Qwen/Qwen3-32B",
    "Qwen/Qwen3-30B-A3B",
    "Qwen/Qwen2.5-7B-Instruct",
    "Qwen/Qwen2.5-72B-Instruct",
    "google/gemma-3-4b-it",
    "google/gemma-3-12b-it",
    "google/gemma-3-27b-it",
)
CONTEXT_TOKENS = 8192
USERS_PER_REPLICA = 4
GPUS_PER_REPLICA = 2
"""Replicas are wished so that a site is well filled: one for two GPUs, over all models."""


def write_site(directory: Path, *, gpu_count: int) -> Path:
    """An inventory with measured hardware and a request for as many of the ten models as there are GPUs for."""
    host_count = -(-gpu_count // GPUS_PER_HOST)
    names = [f"g{number:04d}" for number in range(1, host_count + 1)]
    inventory = {
        "all": {
            "hosts": {"gw": {"ansible_host": "192.0.2.1"}, **{name: {} for name in names}},
            "children": {
                **{group: {"hosts": {"gw": {}}} for group in ("gateway", "postgres", "redis")},
                "engines": {"hosts": {name: {} for name in names}},
            },
        }
    }
    (directory / "group_vars" / "all").mkdir(parents=True)
    (directory / "hosts.yml").write_text(yaml.safe_dump(inventory), encoding="utf-8")
    (directory / "group_vars" / "all" / "main.yml").write_text("model_store: /srv/models\n", encoding="utf-8")
    for number, name in enumerate(names):
        count = min(GPUS_PER_HOST, gpu_count - number * GPUS_PER_HOST)
        (directory / "host_vars" / name).mkdir(parents=True)
        (directory / "host_vars" / name / "hardware.json").write_text(
            hardware_of(name, GPU_KINDS[number % len(GPU_KINDS)], count).to_host_vars(), encoding="utf-8"
        )
    (directory / "request.yml").write_text(json.dumps(_request(gpu_count)), encoding="utf-8")
    return directory


def hardware_of(host: str, gpu_name: str, count: int) -> Hardware:
    """A host with equal GPUs, as a probe would have measured it."""
    row = find_gpu(gpu_name)
    gpus = tuple(
        Gpu.model_validate({**row.as_gpu(index).model_dump(), "uuid": f"GPU-{host}-{index}"}) for index in range(count)
    )
    return Hardware(
        host=host,
        accelerator="cuda",
        cpu=Cpu(model="AMD EPYC 9654", architecture="x86_64", cores=tuple(range(96))),
        memory_total_bytes=1536 * GIB,
        gpus=gpus,
    )


def _request(gpu_count: int) -> dict[str, object]:
    names = MODELS[: max(1, min(len(MODELS), gpu_count // GPUS_PER_HOST * 2))]
    replicas = max(1, gpu_count // GPUS_PER_REPLICA // len(names))
    return {
        "schema_version": 1,
        "site": "measured",
        "models": [
            {
                "name": name.split("/")[-1],
                "source": name,
                "context_tokens": CONTEXT_TOKENS,
                "output_tokens": 1024,
                "users": replicas * USERS_PER_REPLICA,
                "replicas": replicas,
            }
            for name in names
        ],
    }

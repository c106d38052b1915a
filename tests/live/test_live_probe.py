"""The probe on a real GPU, against what the driver's own tool says."""

import shutil
import subprocess

import pytest

from sizing.device import find_gpu
from sizing.errors import UnknownFact
from sizing.hardware import Hardware
from sizing.units import MIB

pytestmark = pytest.mark.live


def test_the_probe_says_what_nvidia_smi_says(hardware: Hardware) -> None:
    if shutil.which("nvidia-smi") is None:
        pytest.skip("nvidia-smi is not installed here")
    query = ["nvidia-smi", "--query-gpu=name,memory.total,uuid", "--format=csv,noheader,nounits"]
    rows = subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip().splitlines()

    told = [tuple(cell.strip() for cell in row.split(",")) for row in rows]

    seen = [(gpu.name, str(gpu.memory_total_bytes // MIB), gpu.uuid) for gpu in hardware.gpus if not gpu.mig]
    assert seen == told[: len(seen)]


def test_the_catalogue_holds_this_gpu_with_this_memory(hardware: Hardware) -> None:
    gpu = hardware.gpus[0]
    try:
        row = find_gpu(gpu.name).as_gpu()
    except UnknownFact:
        pytest.skip(
            f"{gpu.name} is not in the catalogue: {gpu.memory_total_bytes // MIB} MiB, "
            f"{gpu.memory_reserved_bytes // MIB} MiB reserved, {gpu.compute_capability}"
        )

    assert row.memory_total_bytes == gpu.memory_total_bytes
    assert row.compute_capability == gpu.compute_capability
    assert abs(row.memory_usable_bytes - gpu.memory_usable_bytes) <= 64 * MIB

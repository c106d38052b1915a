"""The GPU exporter: the real nvidia-ml-py over a libnvidia-ml.so.1 that is a stub, and what a person then reads."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tools import sight_zipapp

REPOSITORY = Path(__file__).resolve().parents[2]
STUB_SOURCE = REPOSITORY / "tests" / "fakes" / "nvml" / "stub.c"


@pytest.fixture(scope="module")
def zipapp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As hosts get it, beside the stub."""
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip("needs gcc for the NVML stub")
    directory = tmp_path_factory.mktemp("sight")
    stub = directory / "libnvidia-ml.so.1"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(stub), str(STUB_SOURCE)], check=True)
    sight_zipapp.write(directory / "sight.pyz")
    return directory / "sight.pyz"


def ask(zipapp: Path, host: str) -> subprocess.CompletedProcess[str]:
    """With nothing of this repository in sight but the file."""
    return subprocess.run(
        [sys.executable, "-I", str(zipapp), "gpu", "--once"],
        cwd=zipapp.parent,
        env={"LD_LIBRARY_PATH": str(zipapp.parent), "NVML_STUB": host, "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )


def samples(page: str) -> dict[str, float]:
    """Name and labels without the uuid, to the value."""
    lines = [line for line in page.splitlines() if not line.startswith("#")]
    pairs = [re.sub(r',uuid="[^"]*"', "", line).rsplit(" ", 1) for line in lines]
    return {name: float(value) for name, value in pairs}


def test_a_gpu_says_how_hot_busy_full_and_sound_it_is(zipapp: Path) -> None:
    seen = samples(ask(zipapp, "hot").stdout)

    assert 2 == seen["appliance_gpu_count"]
    assert (41, 91) == tuple(seen[f'appliance_gpu_temperature_celsius{{gpu="{gpu}"}}'] for gpu in (0, 1))
    assert 87 == seen['appliance_gpu_slowdown_temperature_celsius{gpu="1"}']
    assert 1.0 == seen['appliance_gpu_utilization_ratio{gpu="1"}']
    assert 4 * 1024**2 == seen['appliance_gpu_memory_used_bytes{gpu="0"}']
    assert 81559 * 1024**2 == seen['appliance_gpu_memory_total_bytes{gpu="0"}']
    assert 71.5 == seen['appliance_gpu_power_watts{gpu="0"}']
    assert (17, 3) == tuple(
        seen[f'appliance_gpu_ecc_{kind}_errors_total{{gpu="1"}}'] for kind in ("corrected", "uncorrected")
    )
    assert (0, 1) == tuple(seen[f'appliance_gpu_remapped_rows_pending{{gpu="{gpu}"}}'] for gpu in (0, 1))
    assert 1 == seen['appliance_gpu_slowdown{gpu="1",reason="hardware_thermal"}']
    assert 0 == seen['appliance_gpu_slowdown{gpu="0",reason="hardware_thermal"}']
    assert 1 == seen['appliance_gpu_info{gpu="1",name="NVIDIA H100 80GB HBM3",driver="580.126.09"}']


@pytest.mark.parametrize("host", ["gb10", "gb10zero"])
def test_memory_that_is_the_hosts_is_left_out_and_never_zero(zipapp: Path, host: str) -> None:
    seen = samples(ask(zipapp, host).stdout)

    assert 41 == seen['appliance_gpu_temperature_celsius{gpu="0"}']
    assert [] == [name for name in seen if "memory" in name or "ecc" in name]


def test_a_gpu_in_mig_mode_tells_what_it_may(zipapp: Path) -> None:
    answer = ask(zipapp, "mig")

    assert 0 == answer.returncode, answer.stderr
    assert 41 == samples(answer.stdout)['appliance_gpu_temperature_celsius{gpu="0"}']
    assert "appliance_gpu_utilization_ratio" not in answer.stdout


@pytest.mark.parametrize(("host", "word"), [("nodriver", "Driver Not Loaded"), ("lost", "")])
def test_a_broken_driver_is_one_line_and_no_numbers(zipapp: Path, host: str, word: str) -> None:
    answer = ask(zipapp, host)

    assert 1 == answer.returncode
    assert "" == answer.stdout
    assert 1 == len(answer.stderr.splitlines())
    assert answer.stderr.startswith("sight: NVML: ")
    assert word in answer.stderr


def test_equal_sources_make_an_equal_file(tmp_path: Path) -> None:
    assert [True, False] == [sight_zipapp.write(tmp_path / "sight.pyz") for _ in range(2)]

"""playbooks/probe.yml on hosts that are this machine seen four ways: GPUs (a stub), CPU, a broken driver, and down."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sizing.hardware import Hardware

REPOSITORY = Path(__file__).resolve().parents[2]
STUB_SOURCE = REPOSITORY / "tests" / "fakes" / "nvml" / "stub.c"
ANSIBLE_PLAYBOOK = Path(sys.executable).with_name("ansible-playbook")

INVENTORY = """
all:
  vars:
    ansible_connection: local
  children:
    engines:
      hosts:
        gpu: {{appliance_probe_python: "env LD_LIBRARY_PATH={stub} NVML_STUB=h100x2 python3"}}
        cpu: {{appliance_accelerator: cpu}}
        broken: {{appliance_probe_python: "env LD_LIBRARY_PATH={stub} NVML_STUB=nodriver python3"}}
        down: {{ansible_connection: ssh, ansible_host: 127.0.0.1, ansible_port: 1}}
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    compiler = shutil.which("gcc")
    if compiler is None or not ANSIBLE_PLAYBOOK.exists():
        pytest.skip("needs gcc for the NVML stub, and ansible-playbook beside this Python")
    stub = tmp_path / "stub"
    stub.mkdir()
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(stub / "libnvidia-ml.so.1"), str(STUB_SOURCE)], check=True)
    site = tmp_path / "site"
    site.mkdir()
    (site / "hosts.yml").write_text(INVENTORY.format(stub=stub), encoding="utf-8")
    return site


def _play(site: Path, *options: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "ANSIBLE_NOCOLOR": "1"}
    command = [str(ANSIBLE_PLAYBOOK), "-i", str(site), "playbooks/probe.yml", *options]
    return subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)


def test_every_host_that_answers_is_measured_and_the_others_are_named(site: Path) -> None:
    rehearsed = _play(site, "--check", "--diff", "--limit", "gpu")
    assert not (site / "host_vars").exists()
    assert '+  "appliance_hardware": {' in rehearsed.stdout

    played = _play(site)

    assert played.returncode not in {0, 1}
    assert "Connection refused" in played.stdout + played.stderr
    assert "broken: the NVIDIA driver is installed but not loaded" in played.stdout + played.stderr
    assert ["cpu", "gpu"] == sorted(path.name for path in (site / "host_vars").iterdir())
    gpu = Hardware.load_host_vars(site / "host_vars" / "gpu" / "hardware.json")
    assert ("gpu", "cuda", 2, 0) == (gpu.host, gpu.accelerator, len(gpu.gpus), gpu.gpus[0].memory_used_bytes)
    assert "cpu" == Hardware.load_host_vars(site / "host_vars" / "cpu" / "hardware.json").accelerator

    again = _play(site, "--limit", "gpu,cpu")

    assert 0 == again.returncode, again.stdout
    assert 2 == again.stdout.count("changed=0 ")

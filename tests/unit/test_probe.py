"""The probe against a stub of libnvidia-ml.so.1 that the real nvidia-ml-py loads in a process of its own."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sizing.hardware import Gpu, GpuProcess, Hardware
from sizing.probe import hardware_from_measurement, without_present_use, write_zipapp

MIB = 1024 * 1024
STUB_SOURCE = Path(__file__).parents[1] / "fakes" / "nvml" / "stub.c"


@pytest.fixture(scope="session")
def stub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _built(tmp_path_factory.mktemp("nvml"))


def _built(directory: Path, *flags: str) -> Path:
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler (gcc) to build the NVML stub with")
    library = directory / "libnvidia-ml.so.1"
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-Wall", "-Werror", *flags, "-o", str(library), str(STUB_SOURCE)], check=True
    )
    return directory


@pytest.fixture(scope="session")
def zipapp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("zipapp") / "probe.pyz"
    write_zipapp(path)
    return path


def _run(command: list[str], *, stub: Path | None, host: str = "") -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "NVML_STUB": host}
    if stub is not None:
        environment["LD_LIBRARY_PATH"] = str(stub)
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def _probe(stub: Path | None, host: str = "", *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from sizing.measure import main; raise SystemExit(main())", "--host", "h1"]
    return _run([*command, *options], stub=stub, host=host)


def _gpus(answer: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    assert 0 == answer.returncode, answer.stderr
    gpus: list[dict[str, Any]] = json.loads(answer.stdout)["gpus"]
    return gpus


needs_no_driver = pytest.mark.skipif(
    shutil.which("nvidia-smi") is not None, reason="this machine has an NVIDIA driver, so its absence cannot be tested"
)


def test_two_h100_are_measured_with_the_drivers_reserve_and_their_nvlink_peers(stub: Path) -> None:
    answer = _probe(stub, "h100x2")

    hardware = hardware_from_measurement(answer.stdout, origin="probe")
    assert ("cuda", "580.126.09", "13.1") == (
        hardware.accelerator,
        hardware.driver_version,
        hardware.cuda_driver_version,
    )
    assert (
        Gpu(
            index=0,
            uuid="GPU-00000000-0000-0000-0000-000000000000",
            name="NVIDIA H100 80GB HBM3",
            memory_total_bytes=81559 * MIB,
            memory_reserved_bytes=625 * MIB,
            memory_used_bytes=4 * MIB,
            compute_capability=(9, 0),
            nvlink_peers=(1,),
            ecc=True,
        )
        == hardware.gpus[0]
    )
    assert 80934 * MIB == hardware.gpus[1].memory_usable_bytes
    assert (0,) == hardware.gpus[1].nvlink_peers


@pytest.mark.parametrize("host", ["gb10", "gb10zero"])
def test_a_gpu_that_shares_the_hosts_memory_is_measured_from_meminfo(stub: Path, host: str) -> None:
    answer = _probe(stub, host)

    meminfo = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    host_memory_bytes = int(meminfo["MemTotal"].split()[0]) * 1024
    (gpu,) = _gpus(answer)
    assert ("NVIDIA GB10", [12, 1], True) == (gpu["name"], gpu["compute_capability"], gpu["memory_unified"])
    assert (host_memory_bytes, 0) == (gpu["memory_total_bytes"], gpu["memory_reserved_bytes"])
    assert "shares the host's memory" in answer.stderr


def test_with_mig_on_the_mig_devices_are_listed_and_the_gpu_is_not(stub: Path) -> None:
    answer = _probe(stub, "mig")

    seen = [(gpu["index"], gpu["uuid"], gpu["memory_total_bytes"], gpu["nvlink_peers"]) for gpu in _gpus(answer)]
    assert [
        (0, "MIG-00000000-0000-0000-0000-000000000000", 40448 * MIB, []),
        (1, "MIG-00000000-0000-0000-0000-000000000002", 40448 * MIB, []),
    ] == seen
    assert "has MIG on: its 2 MIG devices are listed" in answer.stderr


def test_an_old_driver_without_memory_version_2_still_answers_and_says_what_is_missing(tmp_path: Path) -> None:
    answer = _probe(_built(tmp_path, "-DWITHOUT_MEMORY_V2"), "h100x2")

    gpu = _gpus(answer)[0]
    assert (81559 * MIB, 0) == (gpu["memory_total_bytes"], gpu["memory_reserved_bytes"])
    assert "does not report its own reserve" in answer.stderr


def test_memory_that_other_processes_hold_is_told_but_does_not_change_the_fingerprint(stub: Path) -> None:
    busy, idle = _probe(stub, "busy"), _probe(stub, "h100x2")

    assert "GPU 1 (NVIDIA H100 80GB HBM3): other processes hold 20480 MiB of it now" in busy.stderr
    one, other = (hardware_from_measurement(answer.stdout, origin="probe") for answer in (busy, idle))
    assert one.digest() == other.digest()
    assert without_present_use(one) == without_present_use(other)


def test_processes_on_a_card_are_named_where_they_can_be_and_counted_as_co_tenants(stub: Path) -> None:
    answer = _probe(stub, "tenants")

    hardware = hardware_from_measurement(answer.stdout, origin="probe")
    first_process = Path("/proc/1/comm").read_text(encoding="utf-8").strip()
    assert () == hardware.gpus[0].processes
    assert (
        GpuProcess(pid=1, name=first_process, memory_used_bytes=19456 * MIB),
        GpuProcess(pid=4000000000),
    ) == hardware.gpus[1].processes
    assert [4 * MIB, 20480 * MIB] == [gpu.co_tenant_bytes for gpu in hardware.gpus]
    assert f"hold 20480 MiB of it now ({first_process} 1, process 4000000000)" in answer.stderr
    assert () == without_present_use(hardware).gpus[1].processes


def test_where_processes_are_not_told_the_memory_in_use_still_counts(stub: Path) -> None:
    hardware = hardware_from_measurement(_probe(stub, "silent").stdout, origin="probe")

    assert ((), 20480 * MIB) == (hardware.gpus[1].processes, hardware.gpus[1].co_tenant_bytes)


def test_on_unified_memory_only_processes_are_co_tenants_not_the_page_cache(stub: Path) -> None:
    hardware = hardware_from_measurement(_probe(stub, "gb10").stdout, origin="probe")

    assert 19456 * MIB == hardware.gpus[0].co_tenant_bytes


def test_nvlink_islands_are_the_groups_that_reach_each_other(stub: Path) -> None:
    hardware = hardware_from_measurement(_probe(stub, "islands").stdout, origin="probe")

    assert [(1,), (0,), (3,), (2,)] == [gpu.nvlink_peers for gpu in hardware.gpus]
    assert ((0, 1), (2, 3)) == hardware.nvlink_islands()


def test_a_container_that_holds_one_mig_device_is_measured_though_the_gpu_hides_its_memory(stub: Path) -> None:
    (gpu,) = hardware_from_measurement(_probe(stub, "container").stdout, origin="probe").gpus

    assert (True, "GPU-00000000-0000-0000-0000-000000000000") == (gpu.mig, gpu.mig_parent_uuid)
    assert (40448 * MIB, (9, 0), ()) == (gpu.memory_total_bytes, gpu.compute_capability, gpu.nvlink_peers)


def test_a_virtual_gpu_has_the_memory_of_its_profile_and_says_so(stub: Path) -> None:
    answer = _probe(stub, "vgpu")

    (gpu,) = hardware_from_measurement(answer.stdout, origin="probe").gpus
    assert (True, 12288 * MIB, None) == (gpu.virtual, gpu.memory_total_bytes, gpu.ecc)
    assert "is a virtual GPU: its memory is the size of its profile" in answer.stderr


def test_a_card_in_exclusive_mode_is_measured_with_a_warning(stub: Path) -> None:
    answer = _probe(stub, "exclusive")

    assert 2 == len(_gpus(answer))
    assert "lets one process compute (compute mode); `nvidia-smi -c DEFAULT` lifts that" in answer.stderr


@needs_no_driver
def test_without_a_driver_cuda_is_an_error_of_its_own_and_auto_is_a_cpu_host_that_says_so() -> None:
    asked, automatic = _probe(None, "", "--accelerator", "cuda"), _probe(None)

    assert (4, "", 1) == (asked.returncode, asked.stdout, asked.stderr.count("\n"))
    assert "no NVIDIA driver is installed here (libnvidia-ml.so.1 not found); install it" in asked.stderr
    assert 0 == automatic.returncode
    assert "cpu" == json.loads(automatic.stdout)["accelerator"]
    assert "measured as a CPU host" in automatic.stderr


@pytest.mark.parametrize("accelerator", ["auto", "cuda"])
@pytest.mark.parametrize(
    ("host", "exit_code", "words"),
    [
        ("nodriver", 5, "installed but not loaded"),
        ("mismatch", 5, "was upgraded while loaded; reboot"),
        ("noperm", 5, "GPU 0 (NVIDIA H100 80GB HBM3): NVML may not read its memory here"),
        ("lost", 5, "fell off the bus"),
        ("empty", 6, "reports no GPU"),
    ],
)
def test_a_broken_driver_never_turns_a_gpu_host_into_a_cpu_host(
    stub: Path, accelerator: str, host: str, exit_code: int, words: str
) -> None:
    answer = _probe(stub, host, "--accelerator", accelerator)

    assert (exit_code, "") == (answer.returncode, answer.stdout)
    assert words in answer.stderr
    assert 1 == answer.stderr.count("\n")


def test_cpu_asks_no_driver_even_where_one_is_broken(stub: Path) -> None:
    answer = _probe(stub, "nodriver", "--accelerator", "cpu")

    hardware = hardware_from_measurement(answer.stdout, origin="probe")
    assert ("h1", "cpu", ()) == (hardware.host, hardware.accelerator, hardware.gpus)
    assert tuple(sorted(os.sched_getaffinity(0))) == hardware.cpu.cores


def test_the_zipapp_measures_a_host_that_has_only_python(stub: Path, zipapp: Path) -> None:
    bare_python = [str(Path(sys.base_prefix) / "bin" / "python3"), "-I", "-S", str(zipapp)]

    answer = _run([*bare_python, "--host", "gpu-7"], stub=stub, host="h100x2")

    hardware = hardware_from_measurement(answer.stdout, origin="gpu-7")
    assert ("gpu-7", "cuda", 2) == (hardware.host, hardware.accelerator, len(hardware.gpus))


@pytest.mark.parametrize(("host", "exit_code"), [("mig", 0), ("nodriver", 5)])
def test_a_caller_that_mixes_both_streams_still_reads_one_json_document(stub: Path, host: str, exit_code: int) -> None:
    command = [sys.executable, "-c", "from sizing.measure import main; raise SystemExit(main())", "--one-stream"]
    environment = {"PATH": os.environ["PATH"], "NVML_STUB": host, "LD_LIBRARY_PATH": str(stub)}

    answer = subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )

    content = json.loads(answer.stdout)
    assert exit_code == answer.returncode
    if exit_code == 0:
        assert 2 == len(hardware_from_measurement(f"Welcome!\n{answer.stdout}", origin="ssh").gpus)
        assert ["has MIG on" in note for note in content["notes"]] == [True]
    else:
        assert "installed but not loaded" in content["error"]


def test_the_zipapp_is_written_once_and_is_the_same_file_each_time(tmp_path: Path, zipapp: Path) -> None:
    path = tmp_path / "probe.pyz"

    assert [True, False] == [write_zipapp(path), write_zipapp(path)]
    assert zipapp.read_bytes() == path.read_bytes()


def test_host_vars_read_back_as_the_hardware_that_was_written(stub: Path, tmp_path: Path) -> None:
    hardware = hardware_from_measurement(_probe(stub, "h100x2").stdout, origin="probe")
    path = tmp_path / "hardware.json"

    path.write_text(hardware.to_host_vars(), encoding="utf-8")

    assert ["appliance_hardware"] == list(json.loads(path.read_text(encoding="utf-8")))
    assert hardware == Hardware.load_host_vars(path)

"""GPUs by name, and the memory that they offer."""

import pytest

from sizing.device import Device, find_gpu, known_gpus
from sizing.errors import UnknownFact
from sizing.units import GIB, MIB
from tests.fakes.engines import cpu_device


@pytest.mark.parametrize("name", ["NVIDIA H100 80GB HBM3", "H100", "h100-sxm", "nvidia h100 80gb hbm3"])
def test_a_gpu_is_found_by_its_nvml_name_its_alias_and_its_key(name: str) -> None:
    assert "NVIDIA H100 80GB HBM3" == find_gpu(name).nvml_name


def test_an_unknown_gpu_names_the_nearest_and_the_way_out() -> None:
    with pytest.raises(UnknownFact) as refused:
        find_gpu("NVIDIA H1000")

    assert "NVIDIA H100" in str(refused.value)
    assert "--hardware" in str(refused.value)


def test_no_two_gpus_of_the_catalogue_share_a_name() -> None:
    names = [name.lower() for row in known_gpus() for name in (row.key, row.nvml_name, *row.aliases)]
    per_row = [len({row.key.lower(), row.nvml_name.lower(), *map(str.lower, row.aliases)}) for row in known_gpus()]

    assert sum(per_row) == len(set(names))


def test_the_rule_for_an_unreported_reserve_meets_the_reported_ones_within_half_a_per_cent() -> None:
    for row in known_gpus():
        if row.memory_reserved_mib is None or row.memory_total_mib is None:
            continue
        by_rule = row.model_copy(update={"memory_reserved_mib": None}).as_gpu().memory_reserved_bytes
        assert abs(by_rule - row.memory_reserved_mib * MIB) < 0.005 * row.memory_total_mib * MIB, row.key


def test_a_gpu_without_a_reported_memory_asks_for_a_probe() -> None:
    with pytest.raises(UnknownFact, match="llm-size probe"):
        find_gpu("GB10").as_gpu()


def test_memory_in_use_counts_only_if_its_owners_stay() -> None:
    gpu = find_gpu("L4").as_gpu().model_copy(update={"memory_used_bytes": GIB})

    assert 0 == Device.of_gpu(gpu).memory_used_bytes
    assert GIB == Device.of_gpu(gpu, co_tenants_stay=True).memory_used_bytes


def test_a_host_keeps_a_gibibyte_for_itself_and_a_small_one_a_tenth() -> None:
    assert 23 * GIB == cpu_device(memory_bytes=24 * GIB).memory_usable_bytes
    assert 9 * 2 * GIB // 10 == pytest.approx(cpu_device(memory_bytes=2 * GIB).memory_usable_bytes, abs=1)

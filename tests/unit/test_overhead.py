"""Overhead against published start-up ledgers: requested memory less weights less KV cache, in GiB."""

import pytest

from sizing.estimate import estimate
from sizing.overhead import captured_size_count
from sizing.units import GIB
from tests.fakes.engines import on_gpu


@pytest.mark.parametrize(
    ("model", "gpu", "options", "kv_cache_gib"),
    [
        ("Qwen/Qwen3-14B", "L40S", {"max_model_len": 40960}, 11.57),
        (
            "Qwen/Qwen2.5-14B-Instruct",
            "H100",
            {"max_model_len": 4096, "gpu_memory_utilization": 0.9, "max_num_seqs": 256},
            41.43,
        ),
    ],
)
def test_the_kv_pool_lies_within_five_per_cent_of_the_ledger_and_inside_the_interval(
    model: str, gpu: str, options: dict[str, object], kv_cache_gib: float
) -> None:
    answer = estimate(on_gpu(model, gpu, **options))

    assert pytest.approx(kv_cache_gib, rel=0.05) == answer.per_gpu.kv_cache_bytes / GIB
    low, high = answer.interval.kv_cache_bytes
    assert low <= kv_cache_gib * GIB <= high


def test_an_eager_engine_captures_no_graphs() -> None:
    answer = estimate(on_gpu("Qwen/Qwen3-8B", enforce_eager=True))

    assert 0 == answer.per_gpu.cuda_graph_bytes
    assert "exact" == answer.provenance["cuda_graph_bytes"]


def test_graphs_are_captured_for_51_sizes_by_default_and_for_3_with_two_sequences() -> None:
    assert 51 == captured_size_count(256)
    assert 51 == captured_size_count(1024)
    assert 3 == captured_size_count(2)
    assert 35 == captured_size_count(128)


@pytest.mark.parametrize("option", ["max_num_seqs", "max_num_batched_tokens"])
def test_a_larger_batch_never_leaves_more_memory_for_the_cache(option: str) -> None:
    other = {"max_num_seqs": "max_num_batched_tokens", "max_num_batched_tokens": "max_num_seqs"}[option]
    fixed = {"max_num_seqs": 64, "max_num_batched_tokens": 16384}[other]

    pools = [
        estimate(on_gpu("Qwen/Qwen3-8B", **{option: value, other: fixed})).per_gpu.kv_cache_bytes
        for value in (64, 256, 1024, 4096, 16384)
    ]

    assert sorted(pools, reverse=True) == pools

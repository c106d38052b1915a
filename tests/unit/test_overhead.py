"""Overhead: against published start-up ledgers, and the rules that decide which parts there are."""

from dataclasses import replace

import pytest

from sizing.estimate import estimate
from sizing.model_facts import load_model_facts
from sizing.overhead import captured_graph_count, captured_size_count
from sizing.overhead_table import runner_of, version_key
from sizing.profile_run import Batch, Peak, profile_peak, rotary_bytes
from sizing.units import GIB
from tests.fakes.engines import on_gpu, tiny_qwen
from tools.start_up_ledgers import ProfileRun, ledger_file


def _batch(**changes: object) -> Batch:
    batch = Batch(
        max_num_batched_tokens=8192,
        max_num_seqs=1024,
        shards=1,
        element_bytes=2,
        is_first_stage=True,
        is_last_stage=True,
        compiled=True,
        multimodal=False,
        limit_mm_per_prompt={},
        max_model_len=8192,
    )
    return replace(batch, **changes)  # type: ignore[arg-type]


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


@pytest.mark.parametrize("run", ledger_file().profile_runs, ids=lambda run: run.id)
def test_the_profile_run_of_the_first_runner_meets_models_outside_the_catalogue_within_three_per_cent(
    run: ProfileRun,
) -> None:
    soft_cap = "gemma-2" in run.id
    model = replace(
        tiny_qwen(),
        architecture="Gemma2ForCausalLM" if soft_cap else "LlamaForCausalLM",
        hidden_size=run.hidden_size,
        intermediate_size=run.intermediate_size,
        vocabulary_size=run.vocabulary_size,
    )

    peak = profile_peak(model, _batch(shards=run.shards), "v1")

    assert pytest.approx(run.activation_gib, rel=0.03) == peak.cold_bytes / GIB


def test_a_start_without_compile_cache_peaks_higher_by_the_embedding_where_little_else_is_large() -> None:
    qwen3_14b = load_model_facts("Qwen/Qwen3-14B")

    peak = profile_peak(qwen3_14b, _batch(max_num_batched_tokens=2048, max_num_seqs=256), "v2")

    embedding_bytes = 151936 * 5120 * 2
    assert pytest.approx(embedding_bytes, rel=0.05) == peak.cold_bytes
    assert 0.4 * GIB > peak.warm_bytes
    assert not peak.images_lead


@pytest.mark.parametrize("changes", [{"compiled": False}, {"is_first_stage": False}])
def test_without_compiler_or_embedding_the_first_start_is_like_every_other(changes: dict[str, object]) -> None:
    peak = profile_peak(load_model_facts("Qwen/Qwen3-14B"), _batch(max_num_seqs=8, **changes), "v2")

    assert isinstance(peak, Peak)
    assert peak.warm_bytes == peak.cold_bytes


def test_a_long_window_makes_qwen_2_5_vl_profile_a_long_video_unless_videos_are_off() -> None:
    model = load_model_facts("Qwen/Qwen2.5-VL-7B-Instruct")
    few = {"max_num_batched_tokens": 2048, "max_num_seqs": 8, "multimodal": True}

    long = profile_peak(model, _batch(max_model_len=128000, **few), "v1")
    short = profile_peak(model, _batch(max_model_len=8192, **few), "v1")
    without = profile_peak(model, _batch(max_model_len=128000, limit_mm_per_prompt={"video": 0}, **few), "v1")

    assert long.images_lead
    assert pytest.approx(7, rel=0.05) == long.cold_bytes / short.cold_bytes
    assert short == without


def test_gemma_3_keeps_half_a_gib_of_stretched_sines() -> None:
    assert (8 + 1) * 131072 * 256 * 2 == rotary_bytes(load_model_facts("google/gemma-3-4b-it"), 2)


@pytest.mark.parametrize(
    ("model", "version", "runner"),
    [
        ("Qwen/Qwen3-8B", "0.20.2", "v1"),
        ("Qwen/Qwen3-8B", "0.22.0", "v2"),
        ("Qwen/Qwen3-8B-FP8", "0.22.0", "v1"),
        ("Qwen/Qwen3-8B-FP8", "0.24.0", "v2"),
        ("Qwen/Qwen2.5-7B-Instruct", "0.24.0", "v1"),
        ("Qwen/Qwen2.5-7B-Instruct", "0.25.1", "v2"),
        ("google/gemma-3-27b-it", "0.28.0", "v2"),
        ("google/gemma-3-27b-it", "0.32.0", "v2"),
    ],
)
def test_each_version_has_its_own_rule_for_the_model_runner(model: str, version: str, runner: str) -> None:
    assert runner == runner_of(load_model_facts(model), version)


def test_a_development_version_counts_as_the_release_it_leads_to() -> None:
    assert (0, 19, 2) == version_key("0.19.2rc1.dev8+g4b7f5ea1a")


def test_an_eager_engine_captures_no_graphs() -> None:
    answer = estimate(on_gpu("Qwen/Qwen3-8B", enforce_eager=True))

    assert 0 == answer.per_gpu.cuda_graph_bytes
    assert "exact" == answer.provenance["cuda_graph_bytes"]


def test_graphs_are_captured_for_51_sizes_by_default_and_for_3_with_two_sequences() -> None:
    assert 51 == captured_size_count(256)
    assert 51 == captured_size_count(1024)
    assert 3 == captured_size_count(2)
    assert 35 == captured_size_count(128)


def test_full_graphs_stop_at_the_number_of_sequences() -> None:
    assert 51 + 51 == captured_graph_count(1024)
    assert 51 + 35 == captured_graph_count(256)
    assert 35 + 19 == captured_graph_count(128)


@pytest.mark.parametrize("option", ["max_num_seqs", "max_num_batched_tokens"])
def test_a_larger_batch_never_leaves_more_memory_for_the_cache(option: str) -> None:
    other = {"max_num_seqs": "max_num_batched_tokens", "max_num_batched_tokens": "max_num_seqs"}[option]
    fixed = {"max_num_seqs": 64, "max_num_batched_tokens": 16384}[other]

    pools = [
        estimate(on_gpu("Qwen/Qwen3-8B", **{option: value, other: fixed})).per_gpu.kv_cache_bytes
        for value in (64, 256, 1024, 4096, 16384)
    ]

    assert sorted(pools, reverse=True) == pools

"""Blocks, groups and tokens of the KV cache; expected values are from running engines or from vLLM's own code."""

import pytest

from sizing.estimate import EngineConfiguration, estimate
from sizing.kv_cache import kv_capacity, kv_geometry, longest_length
from sizing.model_facts import ModelFacts, load_model_facts
from sizing.units import GIB, MIB
from sizing.weights import pipeline_stages
from tests.fakes.engines import cpu_device, on_gpu, tiny_gemma, tiny_qwen

TWENTY_BILLION = 20 * 10**9


@pytest.mark.parametrize(
    ("model", "kv_bytes", "tokens", "concurrency", "blocks"),
    [
        (tiny_qwen(), GIB, 699_008, 341.3125, 5461),
        (tiny_qwen(), 64 * MIB, 43_648, 21.3125, 341),
        (tiny_gemma(), GIB, 500_812, 16384 / 67, 16384),
        (tiny_gemma(), 64 * MIB, 31_300, 1024 / 67, 1024),
    ],
)
def test_a_cpu_engine_reports_exactly_these_tokens(
    model: ModelFacts, kv_bytes: int, tokens: int, concurrency: float, blocks: int
) -> None:
    answer = estimate(
        EngineConfiguration(model=model, device=cpu_device(), max_model_len=2048, kv_cache_memory_bytes=kv_bytes)
    )

    assert "fits" == answer.verdict
    assert (tokens, blocks, 128) == (answer.kv_cache_tokens, answer.kv_cache_gpu_blocks, answer.block_size_tokens)
    assert concurrency == answer.max_concurrency


@pytest.mark.parametrize(
    ("model", "options", "blocks", "tokens", "concurrency"),
    [
        ("Qwen/Qwen2.5-72B-Instruct", {"tensor_parallel_size": 4}, 15258, 244_128, 7.45),
        ("Qwen/Qwen2.5-7B-Instruct", {}, 21798, 348_768, 10.64),
        ("Qwen/Qwen3-32B", {}, 4768, 76_288, 1.86),
        ("Qwen/Qwen3-32B", {"kv_cache_dtype": "fp8"}, 9536, 152_576, 3.73),
        ("Qwen/Qwen3-32B", {"block_size": 64}, 1192, 76_288, 1.86),
        ("Qwen/Qwen3-32B", {"tensor_parallel_size": 16}, 38146, 610_336, 14.90),
        ("google/gemma-2-27b-it", {}, 6634, 53_020, 6.47),
        ("google/gemma-3-27b-it", {"max_model_len": 32768}, 15258, 58_258, 1.78),
        ("google/gemma-3-27b-it", {"max_model_len": 8192}, 15258, 34_817, 4.25),
        ("google/gemma-3-27b-it", {}, 15258, 135_807, 1.04),
    ],
)
def test_twenty_billion_bytes_on_an_h100_hold_what_vllm_says(
    model: str, options: dict[str, object], blocks: int, tokens: int, concurrency: float
) -> None:
    answer = estimate(on_gpu(model, kv_cache_memory_bytes=TWENTY_BILLION, **options))

    assert (blocks, tokens) == (answer.kv_cache_gpu_blocks, answer.kv_cache_tokens)
    assert concurrency == round(answer.max_concurrency, 2)


def test_fewer_batched_tokens_leave_a_sliding_window_model_more_room() -> None:
    by_default = on_gpu("google/gemma-3-27b-it", max_model_len=32768, kv_cache_memory_bytes=TWENTY_BILLION)
    smaller = on_gpu("google/gemma-3-27b-it", "A100-80GB", max_model_len=32768, kv_cache_memory_bytes=TWENTY_BILLION)

    assert 58_258 == estimate(by_default).kv_cache_tokens
    assert 125_811 == estimate(smaller).kv_cache_tokens, "an A100 batches 2048 tokens, an H100 8192"


def test_an_automatic_length_is_the_longest_that_fits() -> None:
    answer = estimate(on_gpu("Qwen/Qwen3-32B", max_model_len="auto", kv_cache_memory_bytes=5 * 10**9))

    assert (19_056, 19_072) == (answer.at_tokens, answer.kv_cache_tokens)


def test_what_does_not_fit_is_refused_in_the_words_of_vllm() -> None:
    answer = estimate(on_gpu("Qwen/Qwen3-32B", kv_cache_memory_bytes=10**10))

    assert "does_not_fit" == answer.verdict
    assert 0 == answer.kv_cache_tokens
    assert answer.refusals[0].message.startswith(
        "To serve at least one request with the model's max seq len (40960), (10.0 GiB KV cache is needed, which is "
        "larger than the available KV cache memory (9.31 GiB). Based on the available memory, the estimated maximum "
        "model length is 38128. Try increasing `gpu_memory_utilization`"
    )


def test_fifty_two_sliding_layers_next_to_ten_full_ones_make_seven_groups() -> None:
    gemma = load_model_facts("google/gemma-3-27b-it")

    geometry = kv_geometry(
        gemma.layers,
        shards=1,
        stages=pipeline_stages(62, 1),
        element_bytes=2,
        block_size_tokens=16,
        in_flight_tokens=16384,
    )

    assert [9, 9, 9, 9, 8, 8, 10] == [len(group.layer_indexes) for group in geometry.groups]
    assert (1_310_720,) == geometry.bytes_per_block_by_stage, "ten pages of 131072 bytes: the widest group"


def test_one_block_stays_unused_when_a_length_is_tried() -> None:
    qwen = tiny_qwen()
    geometry = kv_geometry(
        qwen.layers,
        shards=1,
        stages=pipeline_stages(3, 1),
        element_bytes=2,
        block_size_tokens=16,
        in_flight_tokens=2048,
    )
    block_bytes = geometry.bytes_per_block_by_stage[0]

    assert 16 == longest_length(geometry, (2 * block_bytes,), at_most_tokens=4096)
    assert 0 == longest_length(geometry, (block_bytes,), at_most_tokens=4096)


@pytest.mark.parametrize("model", ["Qwen/Qwen3-8B", "google/gemma-2-9b-it", "google/gemma-3-12b-it"])
def test_more_memory_never_gives_fewer_tokens(model: str) -> None:
    facts = load_model_facts(model)
    geometry = kv_geometry(
        facts.layers,
        shards=1,
        stages=pipeline_stages(facts.layer_count, 1),
        element_bytes=2,
        block_size_tokens=16,
        in_flight_tokens=4096,
    )

    tokens = [
        kv_capacity(geometry, (step * 97 * MIB,), length_tokens=8192, automatic=False).tokens for step in range(300)
    ]

    assert sorted(tokens) == tokens
    assert tokens[0] == 0 < tokens[-1]


def test_pipeline_stages_hold_the_tokens_that_one_rank_with_all_their_memory_would() -> None:
    one = estimate(on_gpu("Qwen/Qwen3-32B", kv_cache_memory_bytes=TWENTY_BILLION))
    two = estimate(on_gpu("Qwen/Qwen3-32B", kv_cache_memory_bytes=TWENTY_BILLION // 2, pipeline_parallel_size=2))

    assert one.kv_cache_tokens == two.kv_cache_tokens

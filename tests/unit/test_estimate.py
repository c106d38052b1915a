"""The answer as a whole: its fields, its sums, its defaults and its bad input."""

from dataclasses import replace

import pytest

from sizing.engine_defaults import defaults_for, require_deployable
from sizing.errors import EngineRefuses, SizingError, UnknownFact
from sizing.estimate import EngineConfiguration, Estimate, estimate
from sizing.units import GIB, MIB
from tests.fakes.engines import cpu_device, gpu_device, on_gpu, tiny_qwen

CONTRACT = (
    "verdict",
    "vllm_version",
    "gpu",
    "per_gpu",
    "kv_cache_tokens",
    "max_concurrency",
    "at_tokens",
    "kv_cache_gpu_blocks",
    "block_size_tokens",
    "limits",
    "refusals",
    "interval",
    "provenance",
)


def parts_of(answer: Estimate) -> int:
    per_gpu = answer.per_gpu
    return (
        per_gpu.weights_bytes
        + per_gpu.activation_bytes
        + per_gpu.non_torch_bytes
        + per_gpu.cuda_graph_bytes
        + per_gpu.kv_cache_bytes
    )


def test_the_answer_has_the_fields_of_the_contract_in_their_order() -> None:
    answer = estimate(on_gpu("Qwen/Qwen3-8B"))

    assert CONTRACT == tuple(answer.model_dump())
    assert {"max_model_len_tokens", "max_num_seqs"} == set(answer.limits.model_dump())


def test_usable_memory_is_what_cuda_offers_and_the_request_is_a_share_of_it() -> None:
    per_gpu = estimate(on_gpu("Qwen/Qwen3-8B")).per_gpu

    assert 81559 * MIB == per_gpu.total_bytes
    assert 81080 * MIB == per_gpu.usable_bytes
    assert 78_217_058_714 == per_gpu.requested_bytes, "ceil(0.92 x usable)"


@pytest.mark.parametrize("tensor_parallel_size", [1, 2, 4])
def test_the_parts_add_up_to_the_request(tensor_parallel_size: int) -> None:
    answer = estimate(on_gpu("Qwen/Qwen3-32B", "H200", tensor_parallel_size=tensor_parallel_size))

    assert "fits" == answer.verdict
    assert answer.per_gpu.requested_bytes == parts_of(answer)


def test_a_cpu_engine_with_a_given_cache_needs_its_processes_besides() -> None:
    answer = estimate(
        EngineConfiguration(
            model=tiny_qwen(), device=cpu_device(), max_model_len=2048, kv_cache_memory_bytes=64 * MIB, max_num_seqs=32
        )
    )

    assert answer.per_gpu.requested_bytes == parts_of(answer)
    assert 1.30 * 10**9 < answer.per_gpu.requested_bytes < 1.50 * 10**9, "1.396 GB were measured"
    assert "exact" == answer.provenance["kv_cache_tokens"]


def test_a_given_cache_larger_than_the_device_does_not_fit_but_its_tokens_are_told() -> None:
    answer = estimate(on_gpu("Qwen/Qwen3-32B", kv_cache_memory_bytes=20 * 10**9))

    assert ("does_not_fit", 76_288) == (answer.verdict, answer.kv_cache_tokens)
    assert ["memory"] == [one.rule for one in answer.refusals]


def test_the_longest_window_is_told_when_the_default_one_does_not_fit() -> None:
    answer = estimate(on_gpu("Qwen/Qwen3-32B"))

    assert "does_not_fit" == answer.verdict
    again = estimate(on_gpu("Qwen/Qwen3-32B", max_model_len=answer.limits.max_model_len_tokens))
    assert "fits" == again.verdict


@pytest.mark.parametrize(
    ("gpu", "batched_tokens", "sequences"),
    [("B200", 16384, 1024), ("H100", 8192, 1024), ("A100", 2048, 256), ("RTX-4090", 2048, 256)],
)
def test_defaults_follow_the_memory_and_the_name_of_the_gpu(gpu: str, batched_tokens: int, sequences: int) -> None:
    defaults = defaults_for(gpu_device(gpu))

    assert (0.92, batched_tokens, sequences) == (
        defaults.gpu_memory_utilization,
        defaults.max_num_batched_tokens,
        defaults.max_num_seqs,
    )


def test_defaults_of_a_cpu_engine() -> None:
    defaults = defaults_for(cpu_device())

    assert (2048, 128, 128, False) == (
        defaults.max_num_batched_tokens,
        defaults.max_num_seqs,
        defaults.block_size_tokens,
        defaults.async_scheduling,
    )


def test_gemma_keeps_single_precision_on_a_card_without_bf16() -> None:
    on_t4 = estimate(on_gpu("google/gemma-3-1b-it", "T4", max_model_len=8192))
    on_l4 = estimate(on_gpu("google/gemma-3-1b-it", "L4", max_model_len=8192))

    assert 2 * on_l4.per_gpu.weights_bytes == on_t4.per_gpu.weights_bytes


def test_quantising_while_loading_halves_the_linear_layers_and_is_called_extrapolated() -> None:
    plain = estimate(on_gpu("Qwen/Qwen3-32B"))
    quantised = estimate(on_gpu("Qwen/Qwen3-32B", quantization="fp8"))

    assert 0.5 < quantised.per_gpu.weights_bytes / plain.per_gpu.weights_bytes < 0.53
    assert "extrapolated" == quantised.provenance["weights_bytes"]


def test_a_model_whose_config_was_inferred_is_never_called_exact() -> None:
    answer = estimate(on_gpu("google/gemma-2-27b-it", kv_cache_memory_bytes=10 * GIB))

    assert "exact" == answer.provenance["kv_cache_bytes"], "it was given"
    assert "extrapolated" == answer.provenance["weights_bytes"] == answer.provenance["kv_cache_tokens"]


def test_tokens_over_pipeline_stages_are_not_called_exact() -> None:
    answer = estimate(on_gpu("Qwen/Qwen3-8B", kv_cache_memory_bytes=10 * GIB, pipeline_parallel_size=2))

    assert "extrapolated" == answer.provenance["kv_cache_tokens"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tensor_parallel_size": 0}, "tensor_parallel_size is 0; it must be at least 1"),
        ({"max_model_len": -5}, 'max_model_len is -5; it must be at least 1, or "auto"'),
        ({"gpu_memory_utilization": 1.5}, "gpu_memory_utilization is 1.5; it must lie above 0 and not above 1"),
        ({"kv_cache_dtype": "int3"}, "kv_cache_dtype int3 is not supported"),
        ({"quantization": "awq"}, "quantization awq of Qwen/Qwen3-8B (checkpoint: none) is not supported"),
        ({"vllm_version": "0.1.0"}, "vLLM 0.1.0 is not in the catalogue; known: 0.19 to 0.33"),
    ],
)
def test_bad_input_is_one_line(options: dict[str, object], message: str) -> None:
    with pytest.raises(SizingError) as refused:
        estimate(on_gpu("Qwen/Qwen3-8B", **options))

    assert str(refused.value).startswith(message)
    assert "\n" not in str(refused.value)


def test_an_old_release_may_be_estimated_but_not_deployed() -> None:
    require_deployable("0.32.0")

    with pytest.raises(EngineRefuses, match=r"0\.19\.1 is below the floor for deployments; use 0\.22\.0"):
        require_deployable("0.19.1")
    with pytest.raises(UnknownFact):
        require_deployable("latest")


def test_more_memory_on_the_device_never_gives_fewer_tokens() -> None:
    device = gpu_device("H200")
    sizes = [replace(device, memory_usable_bytes=gib * GIB, memory_total_bytes=gib * GIB) for gib in range(20, 69, 4)]

    tokens = [estimate(replace(on_gpu("Qwen/Qwen3-8B"), device=size)).kv_cache_tokens for size in sizes]

    assert sorted(tokens) == tokens

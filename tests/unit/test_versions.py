"""Versions of vLLM: which are known, what an upgrade changes, and what may be called exact."""

import pytest

from sizing.device import Device, find_gpu
from sizing.errors import SizingError, UnknownFact
from sizing.estimate import EngineConfiguration, estimate
from sizing.model_facts import load_model_facts
from sizing.version_differences import parsed_versions, version_differences

TWENTY_BILLION = 20 * 10**9


def configuration(model: str, gpu: str = "H100", **changes: object) -> EngineConfiguration:
    device = Device.of_gpu(find_gpu(gpu).as_gpu())
    given: dict[str, object] = {"max_model_len": 32768, "kv_cache_memory_bytes": TWENTY_BILLION, "max_num_seqs": 64}
    return EngineConfiguration(model=load_model_facts(model), device=device, **{**given, **changes})  # type: ignore[arg-type]


def test_an_upgrade_to_0_33_grows_the_block_of_qwen3_5_on_hopper_and_loses_tokens() -> None:
    result = version_differences(configuration("Qwen/Qwen3.5-27B"), before="0.32.0", after="0.33.0")

    changed = {one.what: (one.before, one.after) for one in result.differences}
    assert (784, 832) == changed["block_size_tokens"]
    assert (265_557, 244_756) == changed["kv_cache_tokens"]


def test_an_upgrade_to_0_33_changes_nothing_for_a_dense_model() -> None:
    result = version_differences(configuration("Qwen/Qwen3-32B"), before="0.32.0", after="0.33.0")

    assert () == result.differences


def test_before_0_26_sliding_windows_count_one_batch_in_flight() -> None:
    older = estimate(configuration("google/gemma-3-27b-it", vllm_version="0.25.1"))
    newer = estimate(configuration("google/gemma-3-27b-it", vllm_version="0.32.0"))

    assert newer.kv_cache_tokens < older.kv_cache_tokens
    assert "extrapolated" == older.provenance["kv_cache_tokens"]
    assert "exact" == newer.provenance["kv_cache_tokens"]


def test_experts_that_a_block_does_not_divide_are_refused_before_0_29() -> None:
    fp8 = "Qwen/Qwen3-30B-A3B-FP8"

    older = estimate(configuration(fp8, tensor_parallel_size=4, vllm_version="0.28.0"))
    newer = estimate(configuration(fp8, tensor_parallel_size=4, vllm_version="0.29.0"))

    assert ["fp8_blocks"] == [one.rule for one in older.refusals]
    assert "192 is not divisible by weight quantization block_n = 128. Use --tensor-parallel-size 2." in (
        older.refusals[0].message
    )
    assert () == newer.refusals


def test_more_sequences_than_state_blocks_are_refused_with_the_number_that_works() -> None:
    answer = estimate(configuration("Qwen/Qwen3.5-27B", max_num_seqs=1024))

    assert ["state_blocks"] == [one.rule for one in answer.refusals]
    assert "Use --max-num-seqs 389 or less" in answer.refusals[0].message
    assert 389 == answer.limits.max_num_seqs


def test_0_19_requests_nine_tenths_of_the_memory() -> None:
    answer = estimate(configuration("Qwen/Qwen3-8B", kv_cache_memory_bytes=None, vllm_version="0.19.0"))

    assert 0.9 == pytest.approx(answer.per_gpu.requested_bytes / answer.per_gpu.usable_bytes, abs=1e-6)


@pytest.mark.parametrize("version", ["0.18.0", "0.34.0", "1.0.0"])
def test_a_version_beyond_the_catalogue_names_the_ones_it_knows(version: str) -> None:
    with pytest.raises(UnknownFact, match=r"known: 0\.19 to 0\.33"):
        estimate(configuration("Qwen/Qwen3-8B", vllm_version=version))


@pytest.mark.parametrize("text", ["0.32.0", "0.32.0,", "a,b,c", ""])
def test_two_versions_are_asked_for(text: str) -> None:
    with pytest.raises(SizingError, match="two versions"):
        parsed_versions(text)


def test_experts_finer_than_their_blocks_need_a_card_that_computes_fp8() -> None:
    answer = estimate(configuration("Qwen/Qwen3-30B-A3B-FP8", gpu="A100-SXM4-80GB", tensor_parallel_size=8))

    assert ["fp8_experts_capability"] == [one.rule for one in answer.refusals]
    assert "experts of 96 on a rank" in answer.refusals[0].message
    assert "Use --tensor-parallel-size 2." in answer.refusals[0].message


def test_qwen_images_keep_an_fp8_cache_on_ampere_and_gemma_4_never_has_one_there() -> None:
    qwen = estimate(configuration("Qwen/Qwen3-VL-8B-Instruct", gpu="A100-SXM4-80GB", kv_cache_dtype="fp8"))
    gemma = estimate(
        configuration("google/gemma-4-E2B-it", gpu="A100-SXM4-80GB", kv_cache_dtype="fp8", language_model_only=True)
    )

    assert "fits" == qwen.verdict
    assert ["fp8_kv_capability"] == [one.rule for one in gemma.refusals]

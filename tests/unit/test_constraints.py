"""What vLLM refuses, and the nearest configuration that each refusal names."""

from dataclasses import replace

import pytest

from sizing.estimate import EngineConfiguration, estimate
from sizing.model_facts import load_model_facts
from sizing.units import GIB
from tests.fakes.engines import cpu_device, gpu_device, on_gpu


@pytest.mark.parametrize(
    ("model", "gpu", "options", "rule", "message"),
    [
        (
            "Qwen/Qwen2.5-7B-Instruct",
            "H100",
            {"tensor_parallel_size": 8},
            "attention_heads",
            "Total number of attention heads (28) must be divisible by tensor parallel size (8). "
            "Use --tensor-parallel-size 4.",
        ),
        (
            "Qwen/Qwen2.5-14B-Instruct",
            "H100",
            {"tensor_parallel_size": 5},
            "kv_heads",
            "8 KV heads can be neither split over nor replicated on 5 ranks evenly. Use --tensor-parallel-size 4.",
        ),
        (
            "google/gemma-3-27b-it",
            "H100",
            {"tensor_parallel_size": 32},
            "divisible_vision_heads",
            "16 is not divisible by 32 (vision heads). Use --tensor-parallel-size 16.",
        ),
        (
            "Qwen/Qwen3-32B",
            "H100",
            {"max_model_len": 131072},
            "max_model_len",
            "User-specified max_model_len (131072) is greater than the derived max_model_len "
            "(max_position_embeddings=40960). Use --max-model-len 40960 or less.",
        ),
        (
            "Qwen/Qwen3-8B",
            "H100",
            {"max_num_batched_tokens": 512, "max_num_seqs": 1024},
            "max_num_batched_tokens",
            "max_num_batched_tokens (512) must be greater than or equal to max_num_seqs (1024). "
            "Use --max-num-seqs 512 or less, or --max-num-batched-tokens 1024 or more.",
        ),
        (
            "Qwen/Qwen3-8B-FP8",
            "V100",
            {},
            "fp8_weights_capability",
            "The quantization method fp8 is not supported for the current GPU. Minimum capability: 75. "
            "Current capability: 70.",
        ),
        (
            "google/gemma-3-27b-it",
            "A100",
            {"kv_cache_dtype": "fp8"},
            "fp8_kv_capability",
            "FP8 KV cache is not supported by the Triton attention backend on NVIDIA A100-SXM4-80GB "
            "(compute capability 8.0); native FP8 (fp8e4nv) requires SM89+. Use --kv-cache-dtype auto.",
        ),
        (
            "Qwen/Qwen3-8B",
            "H100",
            {"gpu_memory_utilization": 1.0},
            "free_memory",
            "Free memory on device (78.67/79.18 GiB) on startup is less than desired GPU memory utilization "
            "(79.18 GiB). Use --gpu-memory-utilization 0.99 or less",
        ),
    ],
)
def test_a_refusal_quotes_the_rule_and_names_the_nearest_configuration_that_works(
    model: str, gpu: str, options: dict[str, object], rule: str, message: str
) -> None:
    answer = estimate(on_gpu(model, gpu, **options))

    assert "refused" == answer.verdict
    refusal = next(one for one in answer.refusals if one.rule == rule)
    assert refusal.message.startswith(message)
    assert "vllm/" in refusal.source


def test_fp8_blocks_of_128_limit_the_ranks() -> None:
    answer = estimate(on_gpu("Qwen/Qwen3-4B-FP8", tensor_parallel_size=8))

    assert ["fp8_blocks"] == [one.rule for one in answer.refusals]
    assert answer.refusals[0].message == (
        "Weight output_partition_size = 1216 is not divisible by weight quantization block_n = 128. "
        "Use --tensor-parallel-size 4."
    )


def test_kv_heads_are_replicated_and_not_refused_beyond_their_number() -> None:
    assert "refused" != estimate(on_gpu("Qwen/Qwen3-32B", tensor_parallel_size=16)).verdict


def test_text_models_keep_an_fp8_cache_on_an_a100() -> None:
    assert "fits" == estimate(on_gpu("Qwen/Qwen3-8B", "A100", kv_cache_dtype="fp8")).verdict


def test_fp8_weights_on_a_processor_need_amx() -> None:
    model = load_model_facts("Qwen/Qwen3-0.6B-FP8")

    without = estimate(EngineConfiguration(model=model, device=cpu_device("avx2"), kv_cache_memory_bytes=8 * GIB))
    with_amx = estimate(EngineConfiguration(model=model, device=cpu_device("amx_tile"), kv_cache_memory_bytes=8 * GIB))

    assert ["fp8_weights_cpu"] == [one.rule for one in without.refusals]
    assert "fits" == with_amx.verdict


def test_memory_that_others_hold_is_not_ours_to_request() -> None:
    busy = replace(gpu_device(), memory_used_bytes=30 * GIB)

    answer = estimate(EngineConfiguration(model=load_model_facts("Qwen/Qwen3-8B"), device=busy))

    assert ["free_memory"] == [one.rule for one in answer.refusals]
    assert "--gpu-memory-utilization 0.61 or less" in answer.refusals[0].message

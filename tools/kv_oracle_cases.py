"""KV oracle cases: the configurations on which sizing and vLLM's own code are compared.

Fixed cases cover what went wrong somewhere before; the rest is drawn with a fixed seed over models, devices,
tensor-parallel sizes, lengths, cache types, batch sizes and memory, refusals included.
"""

import random
from dataclasses import dataclass, replace

from tools.kv_oracle_models import (
    CPU,
    DENSE,
    EXPERTS,
    GPU_MULTIPROCESSORS,
    MODELS,
    MULTIMODAL,
    NOT_ON_A_CPU,
    TINY_GEMMA,
    TINY_QWEN,
)

SEED = 20
TOWERS_IN_TEXT_ONLY_MODE = (
    ("google/gemma-3-27b-it", 32),
    ("google/gemma-4-12B-it", 2),
    ("google/gemma-4-E4B-it", 4),
    ("google/gemma-3n-E2B-it", 2),
    ("Qwen/Qwen2.5-VL-3B-Instruct", 8),
    ("Qwen/Qwen3-VL-8B-Instruct", 32),
    ("Qwen/Qwen3.5-0.8B", 8),
    ("Qwen/Qwen3.5-0.8B", 4),
)
ON_A_CPU = (
    "Qwen/Qwen3-30B-A3B",
    "Qwen/Qwen3.5-4B",
    "Qwen/Qwen3-Next-80B-A3B-Instruct",
    "Qwen/Qwen3-VL-2B-Instruct",
    "google/gemma-3n-E2B-it",
    "google/gemma-4-E2B-it",
)
CASES_PER_MODEL = 4


@dataclass(frozen=True, kw_only=True)
class OracleCase:
    """One configuration; None leaves the choice to vLLM. `device` is an NVML name or `cpu`."""

    model: str
    device: str
    kv_bytes: int
    tensor_parallel_size: int = 1
    max_model_len: int | None = None
    kv_cache_dtype: str = "auto"
    max_num_batched_tokens: int | None = None
    max_num_seqs: int | None = None
    block_size: int | None = None
    async_scheduling: bool | None = None
    language_model_only: bool = False


def oracle_cases(*, per_model: int = CASES_PER_MODEL) -> tuple[OracleCase, ...]:
    """Every case, the same on every run; fewer for each model where `per_model` says so."""
    drawn = random.Random(SEED)  # noqa: S311 - not a secret
    cases = [*_fixed_cases()]
    for model in MODELS:
        cases.extend([_drawn_case(drawn, model) for _ in range(CASES_PER_MODEL)][:per_model])
    return tuple(dict.fromkeys(cases))


def random_cases(*, seed: int, count: int) -> tuple[OracleCase, ...]:
    """Other cases, on one GPU so that vLLM is imported once.

    Of text models without states: the engine's wheels lack what images (torchvision) and states (triton) import.
    """
    drawn = random.Random(seed)  # noqa: S311 - not a secret
    device = drawn.choice(tuple(GPU_MULTIPROCESSORS))
    textual = [model for model in DENSE + EXPERTS if model not in MULTIMODAL]
    return tuple(replace(_drawn_case(drawn, drawn.choice(textual)), device=device) for _ in range(count))


def _fixed_cases() -> tuple[OracleCase, ...]:
    gib, twenty_billion = 1 << 30, 20 * 10**9
    h100, a100 = "NVIDIA H100 80GB HBM3", "NVIDIA A100-SXM4-80GB"
    gemma = "google/gemma-3-27b-it"
    return (
        OracleCase(model=TINY_QWEN, device=CPU, kv_bytes=gib, max_model_len=2048),
        OracleCase(model=TINY_GEMMA, device=CPU, kv_bytes=gib, max_model_len=2048),
        OracleCase(model=TINY_GEMMA, device=CPU, kv_bytes=gib // 16, max_model_len=2048, max_num_seqs=32),
        OracleCase(model=TINY_QWEN, device=CPU, kv_bytes=gib // 16, max_model_len=2048, max_num_seqs=32),
        OracleCase(model=TINY_GEMMA, device=CPU, kv_bytes=gib // 64, block_size=32, max_num_batched_tokens=512),
        OracleCase(model="Qwen/Qwen3-0.6B", device=CPU, kv_bytes=4 * gib, max_model_len=-1),
        OracleCase(model="google/gemma-3-1b-it", device=CPU, kv_bytes=gib),
        OracleCase(model="Qwen/Qwen2.5-7B-Instruct", device=h100, kv_bytes=twenty_billion, tensor_parallel_size=8),
        OracleCase(model="Qwen/Qwen3-32B", device=h100, kv_bytes=5 * 10**9, max_model_len=-1),
        OracleCase(model="Qwen/Qwen3-32B", device=h100, kv_bytes=10**10),
        OracleCase(model="Qwen/Qwen3-32B", device=h100, kv_bytes=twenty_billion, tensor_parallel_size=16),
        OracleCase(model="Qwen/Qwen3-32B", device=h100, kv_bytes=twenty_billion, block_size=64),
        OracleCase(model="Qwen/Qwen3-32B", device=h100, kv_bytes=twenty_billion, max_model_len=131072),
        OracleCase(model="Qwen/Qwen3-8B-FP8", device=h100, kv_bytes=twenty_billion, tensor_parallel_size=16),
        OracleCase(model="Qwen/Qwen3-32B-FP8", device=h100, kv_bytes=twenty_billion, tensor_parallel_size=16),
        OracleCase(model="Qwen/Qwen3-4B-FP8", device=h100, kv_bytes=twenty_billion, tensor_parallel_size=8),
        OracleCase(model="Qwen/Qwen3-4B-FP8", device=h100, kv_bytes=twenty_billion, tensor_parallel_size=2),
        OracleCase(model="Qwen/Qwen3-0.6B", device=h100, kv_bytes=1000),
        OracleCase(model="Qwen/Qwen3-0.6B", device=h100, kv_bytes=1 << 20, max_model_len=-1),
        OracleCase(model="Qwen/Qwen3-8B", device=a100, kv_bytes=twenty_billion, kv_cache_dtype="fp8"),
        OracleCase(model=gemma, device=h100, kv_bytes=twenty_billion, max_model_len=32768),
        OracleCase(model=gemma, device=h100, kv_bytes=twenty_billion, max_model_len=32768, language_model_only=True),
        OracleCase(model=gemma, device=h100, kv_bytes=twenty_billion, max_model_len=8192, async_scheduling=False),
        OracleCase(model=gemma, device=a100, kv_bytes=twenty_billion, max_model_len=32768),
        OracleCase(model=gemma, device=a100, kv_bytes=twenty_billion, max_model_len=32768, kv_cache_dtype="fp8"),
        OracleCase(model=gemma, device="NVIDIA B200", kv_bytes=twenty_billion, max_model_len=32768),
        OracleCase(model=gemma, device=h100, kv_bytes=twenty_billion, tensor_parallel_size=4, kv_cache_dtype="fp8"),
        OracleCase(model=gemma, device=h100, kv_bytes=twenty_billion, tensor_parallel_size=32),
        OracleCase(model="google/gemma-3-1b-it", device="NVIDIA B200", kv_bytes=5 * 10**9),
        OracleCase(model="google/gemma-3-1b-it", device="Tesla T4", kv_bytes=5 * 10**9),
        OracleCase(model="Qwen/Qwen3-8B-FP8", device="NVIDIA GeForce RTX 3090", kv_bytes=4 * 10**9, max_model_len=8192),
        *(
            OracleCase(model=model, device=CPU, kv_bytes=10**10, max_model_len=8192, language_model_only=textual)
            for model in ON_A_CPU
            for textual in ((False, True) if model in MULTIMODAL else (False,))
        ),
        *_fixed_hybrid_cases(),
        *(
            OracleCase(
                model=model,
                device=h100,
                kv_bytes=twenty_billion,
                tensor_parallel_size=size,
                max_model_len=8192,
                max_num_seqs=64,
                language_model_only=True,
            )
            for model, size in TOWERS_IN_TEXT_ONLY_MODE
        ),
    )


def _fixed_hybrid_cases() -> tuple[OracleCase, ...]:
    """Experts, states and pages of several sizes: what differs between versions, devices and tensor-parallel sizes."""
    twenty_billion, h100, b200 = 20 * 10**9, "NVIDIA H100 80GB HBM3", "NVIDIA B200"
    next_80b, qwen_27b, rtx_5090 = "Qwen/Qwen3-Next-80B-A3B-Instruct", "Qwen/Qwen3.5-27B", "NVIDIA GeForce RTX 5090"
    fp8_experts = "Qwen/Qwen3-30B-A3B-FP8"
    return (
        *(
            OracleCase(model=fp8_experts, device=h100, kv_bytes=twenty_billion, tensor_parallel_size=size)
            for size in (1, 2, 4, 8, 16)
        ),
        *(
            OracleCase(model=fp8_experts, device=device, kv_bytes=4 * 10**9, tensor_parallel_size=size)
            for device in ("Tesla T4", "NVIDIA A100-SXM4-80GB", "NVIDIA L40S", b200)
            for size in (1, 8)
        ),
        *(
            OracleCase(model=next_80b, device=h100, kv_bytes=twenty_billion, tensor_parallel_size=size)
            for size in (2, 4, 8, 16, 32)
        ),
        *(
            OracleCase(
                model=qwen_27b, device=device, kv_bytes=twenty_billion, max_model_len=32768, kv_cache_dtype=cache
            )
            for device in (h100, b200, rtx_5090, "NVIDIA L40S", "NVIDIA A100-SXM4-80GB")
            for cache in ("auto", "fp8")
        ),
        OracleCase(model=qwen_27b, device=h100, kv_bytes=twenty_billion, max_model_len=32768, block_size=64),
        OracleCase(model=qwen_27b, device=h100, kv_bytes=twenty_billion, max_model_len=32768, block_size=1024),
        OracleCase(model=qwen_27b, device=h100, kv_bytes=twenty_billion, max_model_len=32768, max_num_seqs=256),
        OracleCase(model=qwen_27b, device=h100, kv_bytes=4 * 10**9, max_model_len=8192, max_num_seqs=100),
        OracleCase(model="Qwen/Qwen3.5-27B-FP8", device=h100, kv_bytes=twenty_billion, tensor_parallel_size=8),
        OracleCase(model="Qwen/Qwen3.5-35B-A3B-FP8", device=h100, kv_bytes=twenty_billion, tensor_parallel_size=8),
        OracleCase(
            model="Qwen/Qwen3.6-35B-A3B",
            device=rtx_5090,
            kv_bytes=6420976107,
            max_model_len=131072,
            kv_cache_dtype="fp8",
            max_num_batched_tokens=8192,
            max_num_seqs=1,
        ),
        OracleCase(
            model="Qwen/Qwen3.8-27B",
            device="NVIDIA GeForce RTX 3090",
            kv_bytes=5357971701,
            tensor_parallel_size=2,
            max_model_len=131072,
            kv_cache_dtype="fp8",
            max_num_batched_tokens=8192,
            max_num_seqs=2,
        ),
        OracleCase(model="google/gemma-4-31B-it", device=h100, kv_bytes=twenty_billion, max_model_len=32768),
        OracleCase(model="google/gemma-4-31B-it", device=b200, kv_bytes=twenty_billion, max_model_len=32768),
        OracleCase(model="google/gemma-4-12B-it", device=h100, kv_bytes=twenty_billion, tensor_parallel_size=16),
        OracleCase(model="Qwen/Qwen2.5-VL-7B-Instruct", device=h100, kv_bytes=twenty_billion, tensor_parallel_size=8),
        OracleCase(model="Qwen/Qwen2.5-VL-3B-Instruct", device=h100, kv_bytes=twenty_billion, tensor_parallel_size=8),
        OracleCase(model="Qwen/Qwen3-VL-8B-Instruct", device=h100, kv_bytes=twenty_billion, tensor_parallel_size=32),
    )


def _drawn_case(drawn: random.Random, model: str) -> OracleCase:
    """Mostly settings that work: an operator's own, with a short tail of ones that vLLM refuses."""
    devices = (*GPU_MULTIPROCESSORS, *GPU_MULTIPROCESSORS, CPU)
    on_gpu_only = model.endswith("-FP8") or model in NOT_ON_A_CPU  # FP8 on a CPU depends on its AMX
    device = drawn.choice(devices[:-1] if on_gpu_only else devices)
    size = 1 if device == CPU else drawn.choice((1, 1, 1, 2, 2, 4, 8))
    return OracleCase(
        model=model,
        device=device,
        kv_bytes=drawn.choice((10**9, 4 * 10**9, 10**10, 2 * 10**10, 33_333_333_333, 7 * 10**10)) // size,
        tensor_parallel_size=size,
        max_model_len=drawn.choice((None, None, -1, 2048, 8192, 10_000, 32768)),
        kv_cache_dtype="auto" if device == CPU else drawn.choice(("auto", "auto", "fp8")),
        max_num_batched_tokens=drawn.choice((None, None, None, 1024, 4096, 16384)),
        max_num_seqs=drawn.choice((None, None, 8, 64, 2000)),
        block_size=drawn.choice((None, None, None, None, 32, 64, 128)),
        async_scheduling=drawn.choice((None, None, None, False)),
        language_model_only=model in MULTIMODAL and drawn.random() < 0.5,  # noqa: PLR2004 - every other one
    )

"""KV oracle cases: the configurations on which sizing and vLLM's own code are compared.

Fixed cases cover what went wrong somewhere before; the rest is drawn with a fixed seed over models, devices,
tensor-parallel sizes, lengths, cache types, batch sizes and memory, refusals included.
"""

import random
from dataclasses import dataclass

SEED = 20
CASES_PER_MODEL = 4

GPU_MULTIPROCESSORS = {
    "Tesla T4": 40,
    "NVIDIA GeForce RTX 3090": 82,
    "NVIDIA A100-SXM4-80GB": 108,
    "NVIDIA L4": 58,
    "NVIDIA L40S": 142,
    "NVIDIA GeForce RTX 4090": 128,
    "NVIDIA H100 80GB HBM3": 132,
    "NVIDIA H200": 132,
    "NVIDIA B200": 148,
    "NVIDIA GeForce RTX 5090": 170,
    "NVIDIA RTX PRO 6000 Blackwell Server Edition": 188,
}
CPU = "cpu"
TINY_QWEN = "tiny-qwen3"
TINY_GEMMA = "tiny-gemma3"
TINY_CONFIGS: dict[str, dict[str, object]] = {
    TINY_QWEN: {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "vocab_size": 1024,
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 64,
        "max_position_embeddings": 4096,
        "tie_word_embeddings": False,
        "dtype": "bfloat16",
    },
    TINY_GEMMA: {
        "architectures": ["Gemma3ForCausalLM"],
        "model_type": "gemma3_text",
        "vocab_size": 1024,
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 64,
        "max_position_embeddings": 4096,
        "sliding_window": 512,
        "layer_types": ["sliding_attention"] * 3 + ["full_attention"],
        "query_pre_attn_scalar": 64,
        "tie_word_embeddings": False,
        "dtype": "bfloat16",
    },
}
MODELS = (
    "Qwen/QwQ-32B",
    "Qwen/Qwen2.5-0.5B-Instruct",
    "Qwen/Qwen2.5-1.5B-Instruct",
    "Qwen/Qwen2.5-3B-Instruct",
    "Qwen/Qwen2.5-7B",
    "Qwen/Qwen2.5-14B-Instruct",
    "Qwen/Qwen2.5-32B-Instruct",
    "Qwen/Qwen2.5-72B-Instruct",
    "Qwen/Qwen3-0.6B",
    "Qwen/Qwen3-1.7B-FP8",
    "Qwen/Qwen3-4B-Instruct-2507",
    "Qwen/Qwen3-8B",
    "Qwen/Qwen3-8B-FP8",
    "Qwen/Qwen3-14B",
    "Qwen/Qwen3-14B-FP8",
    "Qwen/Qwen3-32B",
    "Qwen/Qwen3-32B-FP8",
    "google/gemma-2-2b-it",
    "google/gemma-2-9b-it",
    "google/gemma-2-27b-it",
    "google/gemma-3-270m-it",
    "google/gemma-3-1b-it",
    "google/gemma-3-4b-it",
    "google/gemma-3-12b-it",
    "google/gemma-3-27b-it",
)
MULTIMODAL = ("google/gemma-3-4b-it", "google/gemma-3-12b-it", "google/gemma-3-27b-it")


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


def oracle_cases() -> tuple[OracleCase, ...]:
    """Every case, the same on every run."""
    drawn = random.Random(SEED)  # noqa: S311 - not a secret
    cases = [*_fixed_cases()]
    for model in MODELS:
        cases.extend(_drawn_case(drawn, model) for _ in range(CASES_PER_MODEL))
    return tuple(dict.fromkeys(cases))


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
    )


def _drawn_case(drawn: random.Random, model: str) -> OracleCase:
    """Mostly settings that work: an operator's own, with a short tail of ones that vLLM refuses."""
    devices = (*GPU_MULTIPROCESSORS, *GPU_MULTIPROCESSORS, CPU)
    device = drawn.choice(devices[:-1] if model.endswith("-FP8") else devices)  # FP8 on a CPU depends on its AMX
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

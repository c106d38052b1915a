"""Learning from start-up logs: what is read out of them, what is refused, and what later answers make of it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from sizing.calibrate import calibrate, calibrated_start
from sizing.calibration import Calibration
from sizing.errors import DocumentError
from sizing.estimate import estimate
from sizing.start_up_log import start_up_of
from sizing.units import GIB
from tests.command_line import llm_size
from tests.fakes.engines import on_gpu

PREFIX = "Nov 21 05:51:09 gpu-1 vllm[4242]: \x1b[0;36m(EngineCore pid=326)\x1b[0;0m INFO 11-21 05:51:09 "

START_OF_032 = [
    "[utils.py:233] non-default args: {'model': 'Qwen/Qwen3-8B', 'max_model_len': 32768, 'max_num_seqs': 256, "
    "'gpu_memory_utilization': 0.9}",
    "[scheduler.py:277] Chunked prefill is enabled with max_num_batched_tokens=8192.",
    "[core.py:123] Initializing a V1 LLM engine (v0.32.0) with config: model='Qwen/Qwen3-8B', dtype=torch.bfloat16, "
    "max_seq_len=32768, tensor_parallel_size=1, pipeline_parallel_size=1, quantization=None, enforce_eager=False, "
    "kv_cache_dtype=auto, device_config=cuda",
    "[gpu_worker.py:518] Using V2 Model Runner",
    "[model_runner.py:407] Model loading took 15.27 GiB memory and 5.420225 seconds",
    "[backends.py:378] Cache the graph of compile range (1, 8192) for later use",
    "[gpu_worker.py:692] Available KV cache memory: 53.5 GiB",
    "[kv_cache_utils.py:2464] GPU KV cache size: 389,568 tokens, Maximum concurrency for 32,768 tokens per request: "
    "11.89x",
    "[gpu_worker.py:955] Free memory on device (78.68/79.18 GiB) on startup. Desired GPU memory utilization is "
    "(0.9, 71.26 GiB). Actual usage is 15.6 GiB for consumed memory (weights + non-torch), 2.16 GiB for peak "
    "activation, and 0.23 GiB for CUDAGraph memory. Current kv cache memory in use is 53.5 GiB.",
]

OLD_LINES = [
    "INFO [core.py:105] Initializing a V1 LLM engine (v0.19.0) with config: model='google/gemma-2-9b-it', "
    "max_seq_len=8192, tensor_parallel_size=2, pipeline_parallel_size=1, quantization=fp8, enforce_eager=True, "
    "kv_cache_dtype=fp8",
    "DEBUG [gpu_worker.py:285] worker requested memory: 75.23GiB",
    "Memory profiling takes 14.40 seconds. Total non KV cache memory: 21.11GiB; torch peak memory increase: 3.65GiB; "
    "non-torch forward increase memory: 0.25GiB; weights memory: 17.22GiB.",
    "(Worker_TP0 pid=1) INFO Model loading took 17.22 GiB memory and 3.1 seconds",
    "(Worker_TP1 pid=2) INFO Model loading took 17.20 GiB memory and 3.2 seconds",
    "(Worker_TP0 pid=1) INFO Available KV cache memory: 54.12 GiB",
    "(Worker_TP1 pid=2) INFO Available KV cache memory: 54.02 GiB",
    "INFO Estimated CUDA graph memory: 0.84 GiB total",
    "INFO CUDA graph pool memory: 1.09 GiB (actual), 0.84 GiB (estimated), difference: 0.25 GiB (22.9%).",
    "INFO GPU KV cache size: 168,880 tokens",
    "INFO Maximum concurrency for 8,192 tokens per request: 20.60x",
]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "qwen-0.log"
    path.write_text("\n".join(PREFIX + line for line in START_OF_032) + "\n", encoding="utf-8")
    return path


def test_a_journal_with_stamps_and_colours_is_read_line_by_line(log: Path) -> None:
    seen = start_up_of(log.read_text(encoding="utf-8"), origin="log")

    assert ("0.32.0", "Qwen/Qwen3-8B", 32768, 8192, 256) == (
        seen.vllm_version,
        seen.model,
        seen.max_model_len,
        seen.max_num_batched_tokens,
        seen.max_num_seqs,
    )
    assert (True, False, 0.9) == (seen.second_runner, seen.compile_cache_was_warm, seen.gpu_memory_utilization)
    assert (389568, 11.89, round(53.5 * GIB)) == (seen.kv_cache_tokens, seen.max_concurrency_ratio, seen.kv_cache_bytes)
    assert (round(79.18 * GIB), round(15.6 * GIB)) == (seen.device_total_bytes, seen.consumed_bytes)


def test_the_words_of_older_versions_are_read_and_the_rank_with_least_room_counts() -> None:
    seen = start_up_of("\n".join(OLD_LINES), origin="log")

    assert ("0.19.0", 2, "fp8", "fp8", True) == (
        seen.vllm_version,
        seen.tensor_parallel_size,
        seen.quantization,
        seen.kv_cache_dtype,
        seen.enforce_eager,
    )
    assert (round(17.22 * GIB), round(54.02 * GIB)) == (seen.weights_bytes, seen.kv_cache_bytes)
    assert (round(3.65 * GIB), round(0.25 * GIB)) == (seen.activation_bytes, seen.non_torch_bytes)
    assert (round(1.09 * GIB), round(0.84 * GIB)) == (seen.cuda_graph_bytes, seen.cuda_graph_estimated_bytes)
    assert (168880, 20.60, 8192) == (seen.kv_cache_tokens, seen.max_concurrency_ratio, seen.max_model_len)


def test_a_log_of_a_cpu_engine_is_read_and_a_second_start_replaces_the_first() -> None:
    lines = [
        "Initializing a V1 LLM engine (v0.31.0) with config: model='a', max_seq_len=1024",
        "CPU KV cache size: 1,024 tokens, Maximum concurrency for 1,024 tokens per request: 1.00x",
        "Initializing a V1 LLM engine (v0.32.0) with config: model='tiny', max_seq_len=2048",
        "CPU KV cache size: 43,648 tokens, Maximum concurrency for 2,048 tokens per request: 21.31x",
    ]

    seen = start_up_of("\n".join(lines), origin="log")

    assert ("0.32.0", "tiny", 2048, 43648) == (
        seen.vllm_version,
        seen.model,
        seen.max_model_len,
        seen.kv_cache_tokens,
    )


@pytest.mark.parametrize(
    ("keep", "words"),
    [
        ([], "no start of vLLM in it"),
        ([2, 4], "cut short: no line with the available KV cache memory"),
        ([6], "cut short: no line with vLLM's version"),
    ],
)
def test_a_log_that_holds_too_little_is_one_line(tmp_path: Path, keep: list[int], words: str) -> None:
    path = tmp_path / "short.log"
    path.write_text("\n".join(START_OF_032[index] for index in keep), encoding="utf-8")

    answer = llm_size("calibrate", str(path))

    assert 2 == answer.returncode
    assert words in answer.error


def test_bytes_that_are_no_text_and_files_that_are_not_there_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "noise.log").write_bytes(bytes(range(256)) * 64)

    for name in ("noise.log", "absent.log"):
        answer = llm_size("calibrate", str(tmp_path / name))

        assert 2 == answer.returncode
        assert name in answer.error


def test_a_cpu_engine_has_nothing_to_calibrate() -> None:
    text = "Initializing a V1 LLM engine (v0.32.0) with config: model='tiny'\nCPU KV cache size: 43,648 tokens"

    with pytest.raises(DocumentError, match="gets its KV cache in bytes"):
        calibrated_start(text, origin="tiny.log")


def test_the_site_learns_the_overhead_that_its_engine_showed(log: Path) -> None:
    (start,) = calibrate([log], gpu=None, model=None).starts

    assert ("NVIDIA H100 80GB HBM3", "0.32.0", "Qwen/Qwen3-8B") == (start.gpu, start.vllm_version, start.model)
    assert pytest.approx((71.26 - 15.26 - 53.5) * GIB, abs=0.02 * GIB) == start.overhead_bytes
    assert False is start.compile_cache_was_warm


def test_an_answer_for_the_same_engine_repeats_what_was_seen_and_names_the_calibration(log: Path) -> None:
    calibration = calibrate([log], gpu=None, model=None)
    plain = on_gpu("Qwen/Qwen3-8B", max_model_len=32768, gpu_memory_utilization=0.9, max_num_seqs=256)
    device = replace(plain.device, calibration=calibration, calibration_name="site.json")

    answer = estimate(replace(plain, device=device))

    assert pytest.approx(53.5 * GIB, abs=0.01 * GIB) == answer.per_gpu.kv_cache_bytes
    assert "site.json: 1 start on NVIDIA H100 80GB HBM3" == answer.calibration
    low, high = answer.interval.kv_cache_bytes
    assert low < 53.5 * GIB < high
    assert estimate(plain).calibration is None


def test_another_model_on_the_same_gpu_is_scaled_and_another_gpu_is_not(log: Path) -> None:
    calibration = calibrate([log], gpu=None, model=None)

    def pools(model: str, gpu: str) -> tuple[int, int]:
        plain = on_gpu(model, gpu, max_model_len=8192)
        learned = replace(plain, device=replace(plain.device, calibration=calibration, calibration_name="site.json"))
        return estimate(plain).per_gpu.kv_cache_bytes, estimate(learned).per_gpu.kv_cache_bytes

    (start,) = calibration.starts
    before, after = pools("Qwen/Qwen3-14B", "H100")
    assert (after > before) == (start.ratio < 1)
    before, after = pools("Qwen/Qwen3-14B", "L40S")
    assert before == after


def test_the_command_writes_a_document_that_estimate_reads(log: Path, tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"

    learned = llm_size("calibrate", str(log), "--output", str(path))

    assert (0, "") == (learned.returncode, learned.stdout)
    words = "qwen-0.log: Qwen/Qwen3-8B on 1 x NVIDIA H100 80GB HBM3, vLLM 0.32.0: KV cache 53.50 GiB, predicted"
    assert words in learned.stderr
    assert 1 == len(Calibration.load(path).starts)
    options = ["--model", "Qwen/Qwen3-8B", "--gpu", "H100", "--calibration", str(path), "--json"]
    estimated = llm_size("estimate", "--max-model-len", "8192", *options)
    recommended = llm_size("recommend", "--context", "8192", *options)
    named = "calibration.json: 1 start on NVIDIA H100 80GB HBM3"
    assert named == json.loads(estimated.stdout)["calibration"]
    assert named in recommended.stdout


def test_memory_that_two_kinds_of_gpu_have_asks_for_the_name(log: Path) -> None:
    text = log.read_text(encoding="utf-8").replace("79.18", "44.39").replace("71.26", "39.95")

    with pytest.raises(DocumentError, match="give --gpu"):
        calibrated_start(text.replace("44.39", "94.97"), origin="log")
    with pytest.raises(DocumentError, match="no known kind has; give --gpu"):
        calibrated_start(text.replace("44.39", "11.11"), origin="log")

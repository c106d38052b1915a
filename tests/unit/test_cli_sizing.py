"""estimate and recommend on the command line: names, numbers and exit codes of their contract."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.command_line import llm_size

H100 = ("--gpu", "NVIDIA H100 80GB HBM3")
GIB = 1024**3


def _json(*arguments: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(llm_size("estimate", "--json", *arguments).stdout)
    return content


def test_the_json_answer_has_the_keys_of_the_contract() -> None:
    answer = _json("--model", "Qwen/Qwen2.5-7B-Instruct", *H100)

    assert [
        *("verdict", "vllm_version", "gpu", "per_gpu", "kv_cache_tokens", "max_concurrency", "at_tokens"),
        *("kv_cache_gpu_blocks", "block_size_tokens", "limits", "refusals", "interval", "provenance"),
    ] == list(answer)
    assert [
        *("total_bytes", "usable_bytes", "requested_bytes", "weights_bytes", "activation_bytes", "non_torch_bytes"),
        *("cuda_graph_bytes", "kv_cache_bytes"),
    ] == list(answer["per_gpu"])


def test_a_given_kv_cache_is_counted_in_whole_blocks() -> None:
    # Qwen2.5-7B: 28 layers x (K and V) x 4 heads x 128 x 2 bytes = 57,344 bytes a token, 917,504 a block of 16.
    # 1 GiB holds 1170 whole blocks; a request of 2048 tokens takes 128 of them.
    answer = _json(
        *("--model", "Qwen/Qwen2.5-7B-Instruct", *H100),
        *("--kv-cache-memory-bytes", "1G", "--max-model-len", "2K"),
    )

    assert ("fits", 1170, 18720, 2048) == (
        answer["verdict"],
        answer["kv_cache_gpu_blocks"],
        answer["kv_cache_tokens"],
        answer["at_tokens"],
    )
    assert 1170 / 128 == answer["max_concurrency"]


def test_what_does_not_fit_is_exit_code_3_with_the_json_and_the_reason() -> None:
    answer = llm_size("estimate", "--json", "--model", "Qwen/Qwen2.5-72B-Instruct", *H100)

    assert 3 == answer.returncode
    assert "does_not_fit" == json.loads(answer.stdout)["verdict"]
    assert "" == answer.stderr


def test_more_ranks_than_gpus_is_refused_with_both_numbers() -> None:
    answer = llm_size(
        *("estimate", "--json", "--model", "Qwen/Qwen3-32B", "--gpu", "NVIDIA H100 80GB HBM3:2"),
        *("--tensor-parallel-size", "4"),
    )

    content = json.loads(answer.stdout)
    assert (3, "refused", "gpu_count") == (answer.returncode, content["verdict"], content["refusals"][0]["rule"])
    assert "asks for 4 GPUs; the GPU catalogue has 2" in content["refusals"][0]["message"]


def test_people_read_a_bar_with_every_part_and_no_colour_codes_in_a_file() -> None:
    answer = llm_size("estimate", "--model", "Qwen/Qwen3-32B", *H100, "--max-model-len", "8192")

    assert 0 == answer.returncode
    assert "Qwen/Qwen3-32B on 1 x NVIDIA H100 80GB HBM3, vLLM 0.32.0: fits" in answer.stdout
    for part in ("weights", "activations", "outside PyTorch", "CUDA graphs", "KV cache", "not requested"):
        assert part in answer.stdout
    assert "\x1b" not in answer.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--model", "Qwen/Qwen3-32X", *H100), 'model "Qwen/Qwen3-32X" is neither in the catalogue nor a directory'),
        (("--model", "Qwen/Qwen3-32B", "--gpu", "NVIDIA H1000"), 'GPU "NVIDIA H1000" is not in the catalogue'),
        (("--model-dir", "/no/such/directory", *H100), "/no/such/directory: no such directory"),
        (("--model", "Qwen/Qwen3-32B", "--config", "x.json", *H100), "not --model and --config together"),
        (H100, "give one of --model, --model-dir, --config"),
        (("--model", "Qwen/Qwen3-32B", *H100, "--hardware", "x.json"), "give one of --gpu, --hardware"),
        (("--model", "Qwen/Qwen3-32B", "--hardware", "/no/such.json"), "/no/such.json: no such file"),
        (("--model", "Qwen/Qwen3-32B", *H100, "--max-model-len", "lots"), "'lots' is not a number"),
        (("--model", "Qwen/Qwen3-32B", *H100, "--gpu-memory-utilization", "1.5"), "gpu_memory_utilization is 1.5"),
        (("--model", "Qwen/Qwen3-32B", *H100, "--limit-mm-per-prompt", "{"), "is not JSON"),
        (("--model", "Qwen/Qwen3-32B", *H100, "--vllm-version", "0.1.0"), "vLLM 0.1.0 is not in the catalogue"),
        (("--model", "Qwen/Qwen3-32B", *H100, "--quantization", "awq"), "quantization awq"),
    ],
)
def test_bad_input_is_one_line_that_says_what_to_change(arguments: tuple[str, ...], words: str) -> None:
    answer = llm_size("estimate", *arguments)

    assert 2 == answer.returncode
    assert words in answer.error


def test_a_measured_host_is_taken_bare_or_as_ansible_keeps_it(tmp_path: Path) -> None:
    bare = llm_size("probe", "--accelerator", "cpu", "--host", "h2").stdout
    wrapped = llm_size("probe", "--measurement", "-", "--host-vars", stdin=bare).stdout
    (tmp_path / "bare.json").write_text(bare, encoding="utf-8")
    (tmp_path / "wrapped.json").write_text(wrapped, encoding="utf-8")
    wish = ("--model", "Qwen/Qwen3-0.6B", "--kv-cache-memory-bytes", "1G", "--max-model-len", "2048")

    one, other = (_json(*wish, "--hardware", str(tmp_path / name)) for name in ("bare.json", "wrapped.json"))

    assert one == other
    assert 128 == one["block_size_tokens"]


def test_recommend_ranks_candidates_and_gives_the_line_to_run() -> None:
    answer = llm_size(
        *("recommend", "--json", "--model", "Qwen/Qwen3-32B", "--gpu", "NVIDIA H100 80GB HBM3:2"),
        *("--context", "32K", "--users", "4"),
    )

    best = json.loads(answer.stdout)[0]
    assert (0, 1, "", 32768) == (
        answer.returncode,
        best["rank"],
        best["rejection"],
        best["vllm_options"]["max-model-len"],
    )
    assert best["vllm_serve_line"].startswith(
        "vllm serve Qwen/Qwen3-32B --max-model-len 32768 --tensor-parallel-size 2"
    )


def test_a_wish_that_nothing_meets_is_exit_code_3_and_one_line() -> None:
    answer = llm_size("recommend", "--model", "Qwen/Qwen3-32B", "--gpu", "NVIDIA L4", "--context", "32K")

    assert 3 == answer.returncode
    assert "Qwen/Qwen3-32B" in answer.error


def test_prompt_and_answer_make_the_window_where_no_context_is_given() -> None:
    answer = llm_size(
        *("recommend", "--json", "--model", "Qwen/Qwen3-8B", *H100),
        *("--prompt-tokens", "3000", "--output-tokens", "1000", "--users", "2"),
    )

    assert 4000 == json.loads(answer.stdout)[0]["vllm_options"]["max-model-len"]


def test_the_page_is_one_file_with_a_bar_for_each_candidate(tmp_path: Path) -> None:
    page = tmp_path / "report.html"

    answer = llm_size(
        *("recommend", "--model", "Qwen/Qwen3-32B", "--gpu", "NVIDIA H100 80GB HBM3:2", "--context", "32K"),
        *("--users", "4", "--html", str(page)),
    )

    text = page.read_text(encoding="utf-8")
    assert (0, f"llm-size: page: {page}\n") == (answer.returncode, answer.stderr)
    assert "<pre>vllm serve Qwen/Qwen3-32B --max-model-len 32768" in text
    assert "Not taken: " in text
    assert text.count("<svg") == text.count("<section")
    assert "http" not in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--model", "Qwen/Qwen3-32X", *H100), "nearest: Qwen/Qwen3-32B"),
        (("--model", "Qwen/Qwen3-32B", "--gpu", "H10"), "nearest: NVIDIA H100 80GB HBM3"),
        (("--model", "Qwen/Qwen3-32B", "--gpu", "L4:0"), "the count must lie between 1 and 128"),
        (("--model", "Qwen/Qwen3-32B", "--gpu", "L4:-2"), "the count must lie between 1 and 128"),
        (("--model", "Qwen/Qwen3-32B", "--gpu", "L4:1000000000"), "several hosts are a site"),
        (("--model", "Qwen/Qwen3-32B", *H100, "--users", "0"), "--users"),
        (("--model", "Qwen/Qwen3-32B", *H100, "--users", "-4"), "--users"),
        (("--model", "Qwen/Qwen3-32B", *H100, "--context", "0"), "must be at least 1 token"),
        (("--model", "Qwen/Qwen3-32B", *H100, "--context", "-5"), "'-5' is not a number"),
        (("--model", "Qwen/Qwen3-32B", *H100, "--prompt-tokens", "5"), "belong together"),
        (("--model", "Qwen/Qwen3-32B", *H100, "--prompt-tokens", "0", "--output-tokens", "5"), "at least 1 token"),
        (("--model", "Qwen/Qwen3-32B", *H100, "--ttft-ms", "-1"), "--ttft-ms"),
        (H100, "give --model"),
    ],
)
def test_a_wish_that_makes_no_sense_is_one_line(arguments: tuple[str, ...], words: str) -> None:
    answer = llm_size("recommend", *arguments)

    assert 2 == answer.returncode
    assert words in answer.error


def test_an_unmet_wish_as_json_holds_every_candidate_and_the_changes() -> None:
    answer = llm_size("recommend", "--json", "--model", "Qwen/Qwen3-32B", *H100, "--context", "32K", "--users", "4")

    first = json.loads(answer.stdout)[0]
    assert 3 == answer.returncode
    assert "4 are wished" in first["rejection"]
    assert {"fp8_weights", "context", "users", "more_gpus"} <= {change["kind"] for change in first["changes"]}


def test_times_without_lengths_are_refused_because_they_depend_on_them() -> None:
    answer = llm_size("recommend", "--model", "Qwen/Qwen3-8B", *H100, "--context", "8K", "--ttft-ms", "300")

    assert 2 == answer.returncode
    assert "times depend on lengths: give --prompt-tokens and --output-tokens" in answer.error


def test_the_picture_has_a_bar_for_each_gpu_and_says_what_each_engine_may_see() -> None:
    answer = llm_size(
        *("recommend", "--model", "Qwen/Qwen3-8B", "--gpu", "NVIDIA H100 80GB HBM3:3", "--context", "8K"),
    )

    lines = answer.stdout.splitlines()
    assert ["GPU 0", "GPU 1", "GPU 2"] == [line[:5] for line in lines[:3]]
    assert "free" in lines[2]
    assert "   engine 1: CUDA_DEVICE_ORDER=PCI_BUS_ID CUDA_VISIBLE_DEVICES=0" in lines

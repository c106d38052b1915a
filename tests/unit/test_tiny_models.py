"""The tiny models are the same bytes every time, have the shapes their config says, and real chat templates."""

import hashlib
import json
import struct
from pathlib import Path
from typing import Any

import jinja2
import pytest
from tokenizers import Tokenizer

from tools import make_tiny_models

MODELS = ("tiny-gemma3", "tiny-qwen3")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("models")
    assert 0 == make_tiny_models.main(["--out", str(out)])
    return out


def _content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def _tensors(folder: Path) -> dict[str, Any]:
    data = (folder / "model.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    assert {"format": "pt"} == header.pop("__metadata__")
    return header


def _chat(folder: Path, messages: list[dict[str, str]]) -> str:
    config = _json(folder / "tokenizer_config.json")
    template = jinja2.Environment(autoescape=False).from_string(config["chat_template"])  # noqa: S701 - not HTML
    return template.render(messages=messages, add_generation_prompt=True, bos_token=config.get("bos_token"))


def test_two_runs_give_the_same_bytes(made: Path, tmp_path: Path) -> None:
    make_tiny_models.main(["--out", str(tmp_path)])

    assert _content(made) == _content(tmp_path)


def test_another_seed_gives_other_weights(made: Path, tmp_path: Path) -> None:
    make_tiny_models.main(["--out", str(tmp_path), "--seed", "1"])

    for model in MODELS:
        assert (made / model / "model.safetensors").read_bytes() != (
            tmp_path / model / "model.safetensors"
        ).read_bytes()


def test_a_model_that_is_there_already_is_not_written_again(made: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in made.glob("*/**/*")}

    make_tiny_models.main(["--out", str(made)])

    assert before == {path: path.stat().st_mtime_ns for path in made.glob("*/**/*")}


@pytest.mark.parametrize("model", MODELS)
def test_the_manifest_lists_every_other_file_with_its_sha256(made: Path, model: str) -> None:
    folder = made / model

    listed = dict(reversed(line.split("  ")) for line in (folder / "MANIFEST.sha256").read_text().splitlines())

    files = {name: hashlib.sha256(data).hexdigest() for name, data in _content(folder).items()}
    files.pop("MANIFEST.sha256")
    assert files == listed
    assert sorted(listed) == list(listed)


def test_qwen3_has_the_published_tensors_in_bfloat16(made: Path) -> None:
    tensors = _tensors(made / "tiny-qwen3")

    assert {"BF16"} == {tensor["dtype"] for tensor in tensors.values()}
    assert 2 + 3 * 11 + 1 == len(tensors)
    assert [1024, 128] == tensors["lm_head.weight"]["shape"]
    assert [256, 128] == tensors["model.layers.2.self_attn.q_proj.weight"]["shape"]
    assert [128, 128] == tensors["model.layers.2.self_attn.k_proj.weight"]["shape"]
    assert [64] == tensors["model.layers.0.self_attn.q_norm.weight"]["shape"]


def test_gemma3_slides_over_512_tokens_in_three_of_four_layers(made: Path) -> None:
    config = _json(made / "tiny-gemma3" / "config.json")

    assert ["Gemma3ForCausalLM"] == config["architectures"]
    assert 512 == config["sliding_window"]
    assert ["sliding_attention"] * 3 + ["full_attention"] == config["layer_types"]
    assert 2 + 4 * 13 + 1 == len(_tensors(made / "tiny-gemma3"))


@pytest.mark.parametrize("model", MODELS)
def test_no_special_token_can_win_and_end_an_answer(made: Path, model: str) -> None:
    folder = made / model
    head = _tensors(folder)["lm_head.weight"]
    data = (folder / "model.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    start = 8 + length + head["data_offsets"][0]
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))

    for token in _json(folder / "tokenizer.json")["added_tokens"]:
        row = tokenizer.token_to_id(token["content"]) * 128 * 2
        assert bytes(256) == data[start + row : start + row + 256]


def test_chatml_marks_every_turn(made: Path) -> None:
    text = _chat(made / "tiny-qwen3", [{"role": "system", "content": "be short"}, {"role": "user", "content": "hi"}])

    assert "<|im_start|>system\nbe short<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n" == text


def test_gemma_has_no_system_turn_so_its_text_opens_the_first_user_turn(made: Path) -> None:
    text = _chat(made / "tiny-gemma3", [{"role": "system", "content": "be short"}, {"role": "user", "content": "hi"}])

    assert "<bos><start_of_turn>user\nbe short\n\nhi<end_of_turn>\n<start_of_turn>model\n" == text


@pytest.mark.parametrize(("model", "marker"), [("tiny-qwen3", "<|im_start|>"), ("tiny-gemma3", "<start_of_turn>")])
def test_a_turn_marker_is_one_token_and_any_text_comes_back(made: Path, model: str, marker: str) -> None:
    tokenizer = Tokenizer.from_file(str(made / model / "tokenizer.json"))

    assert [tokenizer.token_to_id(marker)] == tokenizer.encode(marker).ids
    assert "Grüße, 世界!" == tokenizer.decode(tokenizer.encode("Grüße, 世界!").ids)

"""Weight bytes per rank; expected values are vLLM 0.32.0's own parameter sums."""

import json
from pathlib import Path

import pytest

from sizing.errors import DocumentError
from sizing.model_facts import load_model_facts
from sizing.weights import check_checkpoint, pipeline_stages, rank_weight_bytes
from tests.fakes.engines import tiny_config


@pytest.mark.parametrize(
    ("model", "shards", "expected"),
    [
        ("Qwen/Qwen2.5-7B-Instruct", 1, 15_231_233_024),
        ("Qwen/Qwen2.5-7B-Instruct", 4, 3_808_114_688),
        ("Qwen/Qwen2.5-72B-Instruct", 4, 36_355_080_192),
        ("Qwen/Qwen3-32B", 1, 65_524_246_528),
        ("Qwen/Qwen3-32B", 16, 4_180_420_608),
        ("Qwen/Qwen3-32B-FP8", 1, 34_326_243_840),
        ("Qwen/Qwen3-32B-FP8", 8, 4_291_965_440),
        ("google/gemma-2-27b-it", 1, 54_454_256_640),
        ("google/gemma-3-1b-it", 1, 1_999_771_904),
        ("google/gemma-3-27b-it", 1, 54_864_813_280),
        ("google/gemma-3-27b-it", 4, 13_735_905_592),
    ],
)
def test_weights_of_a_rank_equal_the_parameters_that_vllm_builds(model: str, shards: int, expected: int) -> None:
    assert expected == rank_weight_bytes(load_model_facts(model), shards=shards)


def test_without_images_the_vision_tower_and_its_projector_are_left_out() -> None:
    gemma = load_model_facts("google/gemma-3-27b-it")

    assert 54_018_692_608 == rank_weight_bytes(gemma, shards=1, with_vision=False)


def test_more_ranks_never_hold_more_weights_each() -> None:
    model = load_model_facts("Qwen/Qwen3-32B")

    weights = [rank_weight_bytes(model, shards=shards) for shards in (1, 2, 4, 8, 16, 32, 64)]

    assert sorted(weights, reverse=True) == weights


def test_the_layers_that_do_not_divide_go_to_the_stages_before_the_last() -> None:
    stages = pipeline_stages(10, 4)

    assert [2, 3, 3, 2] == [stage.end_layer - stage.first_layer for stage in stages]


def test_pipeline_stages_together_hold_what_one_rank_would() -> None:
    model = load_model_facts("Qwen/Qwen3-32B")

    by_stage = [rank_weight_bytes(model, shards=1, stage=stage) for stage in pipeline_stages(64, 4)]

    assert 65_524_246_528 == sum(by_stage)


def write_model(directory: Path, *, elements: int, cut_bytes: int = 0) -> Path:
    (directory / "config.json").write_text(json.dumps(tiny_config()))
    header = json.dumps({"w": {"dtype": "BF16", "shape": [elements], "data_offsets": [0, 2 * elements]}}).encode()
    content = len(header).to_bytes(8, "little") + header + bytes(2 * elements)
    (directory / "model.safetensors").write_bytes(content[: len(content) - cut_bytes])
    return directory


def test_a_checkpoint_that_fits_its_config_is_counted(tmp_path: Path) -> None:
    model = load_model_facts(str(write_model(tmp_path, elements=853_248)))

    check_checkpoint(model)

    assert model.checkpoint is not None
    assert 1_706_496 == model.checkpoint.weight_bytes == rank_weight_bytes(model, shards=1)


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    model = load_model_facts(str(write_model(tmp_path, elements=400_000)))

    with pytest.raises(DocumentError, match=r"describes 853248 weights.*hold 400000"):
        check_checkpoint(model)


def test_a_checkpoint_that_was_cut_short_is_refused(tmp_path: Path) -> None:
    write_model(tmp_path, elements=853_248, cut_bytes=7)

    with pytest.raises(DocumentError, match="cut short"):
        load_model_facts(str(tmp_path))

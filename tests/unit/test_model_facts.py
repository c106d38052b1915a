"""What a config.json means, and how a damaged one is refused."""

import json
import re
from pathlib import Path

import pytest

from sizing.errors import DocumentError, UnknownFact
from sizing.model_facts import known_models, load_model_facts, model_facts_of
from tests.fakes.engines import tiny_config

QWEN3_32B = "Qwen/Qwen3-32B"


UNREADABLE = {
    "Qwen/Qwen3.8-Flash-Next": "architecture Qwen4ExpForConditionalGeneration (known to vLLM, not yet to sizing)",
    "Qwen/Qwen3.8-Flash-Next-FP8": "architecture Qwen4ExpForConditionalGeneration (known to vLLM, not yet to sizing)",
    "nvidia/Gemma-4-31B-IT-NVFP4": "weights quantised with modelopt without weight_block_size are not supported",
}


def test_every_model_of_the_catalogue_can_be_read_but_three_that_say_why_not() -> None:
    readable = [name for name in known_models() if name not in UNREADABLE]

    facts = [load_model_facts(name) for name in readable]

    assert 124 == len(facts)
    assert all(model.layer_count > 0 for model in facts)


@pytest.mark.parametrize(("name", "reason"), UNREADABLE.items())
def test_a_model_that_sizing_cannot_read_says_why(name: str, reason: str) -> None:
    with pytest.raises(UnknownFact, match=re.escape(reason)):
        load_model_facts(name)


def test_qwen3_next_alternates_three_states_with_one_gated_attention() -> None:
    model = load_model_facts("Qwen/Qwen3-Next-80B-A3B-Instruct")

    assert ["gated_delta_net"] * 3 + ["full"] == [layer.kind for layer in model.layers[:4]]
    assert 12 == len(model.attention_layers)
    assert all(layer.gated for layer in model.attention_layers)
    assert model.experts is not None
    assert (512, 512, 10, 512) == (
        model.experts.count,
        model.experts.intermediate_size,
        model.experts.per_token_count,
        model.experts.shared_intermediate_size,
    )


def test_the_last_18_layers_of_gemma_4_e4b_share_the_cache_of_earlier_ones() -> None:
    model = load_model_facts("google/gemma-4-E4B-it")

    assert [False] * 24 + [True] * 18 == [layer.shares_cache for layer in model.attention_layers]
    assert {("sliding_window", 256, 512), ("full", 512, None)} == {
        (layer.kind, layer.head_dim, layer.window_tokens) for layer in model.attention_layers
    }


def test_qwen3_32b_has_64_full_layers_with_8_kv_heads() -> None:
    model = load_model_facts(QWEN3_32B)

    assert 64 == model.layer_count
    assert {("full", 8, 128, None)} == {
        (layer.kind, layer.kv_head_count, layer.head_dim, layer.window_tokens) for layer in model.attention_layers
    }
    assert 40960 == model.max_model_len_tokens
    assert "verified" == model.confidence


def test_gemma_3_27b_repeats_five_sliding_layers_and_a_full_one_from_its_text_config() -> None:
    model = load_model_facts("google/gemma-3-27b-it")

    kinds = [layer.kind for layer in model.layers]
    assert ["sliding_window"] * 5 + ["full"] == kinds[:6]
    assert (52, 10) == (kinds.count("sliding_window"), kinds.count("full"))
    assert 1024 == model.attention_layers[0].window_tokens
    assert 262208 == model.vocabulary_size, "the file leaves it out; the configuration class says 262208"
    assert 131072 == model.max_model_len_tokens, "the RoPE factor is already in the length"
    assert model.vision is not None


def test_gemma_2_alternates_sliding_and_full_layers() -> None:
    kinds = [layer.kind for layer in load_model_facts("google/gemma-2-2b-it").layers]

    assert ["sliding_window", "full"] * 13 == kinds


def test_qwen2_5_ignores_the_window_that_it_does_not_use() -> None:
    model = load_model_facts("Qwen/Qwen2.5-7B")

    assert {"full"} == {layer.kind for layer in model.layers}
    assert model.query_key_value_bias
    assert 128 == model.attention_layers[0].head_dim, "hidden size 3584 over 28 heads"


def test_a_linear_rope_factor_lengthens_the_window_and_yarn_does_not() -> None:
    linear = tiny_config(rope_scaling={"rope_type": "linear", "factor": 2.0})
    yarn = tiny_config(rope_scaling={"rope_type": "yarn", "factor": 4.0})

    assert 8192 == model_facts_of(linear, name="m", source="m").max_model_len_tokens
    assert 4096 == model_facts_of(yarn, name="m", source="m").max_model_len_tokens


def test_a_directory_of_the_model_store_is_found_by_its_name(tmp_path: Path) -> None:
    directory = tmp_path / "my-model"
    directory.mkdir()
    (directory / "config.json").write_text(json.dumps(tiny_config()))

    model = load_model_facts("my-model", model_store=tmp_path)

    assert ("my-model", "given", 3) == (model.name, model.confidence, model.layer_count)


def test_an_unknown_model_names_its_neighbours_and_the_way_out() -> None:
    with pytest.raises(UnknownFact) as refused:
        load_model_facts("Qwen/Qwen3-32b-fp9")

    assert "Qwen/Qwen3-32B-FP8" in str(refused.value)
    assert "--model-dir" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_an_architecture_that_is_not_supported_is_named_with_those_that_are() -> None:
    with pytest.raises(UnknownFact) as refused:
        model_facts_of(tiny_config(architectures=["Qwen4ExpForCausalLM"]), name="m", source="m")

    assert "Qwen4ExpForCausalLM (known to vLLM, not yet to sizing)" in str(refused.value)
    assert "Gemma3ForCausalLM" in str(refused.value)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"hidden_size": None}, "m: hidden_size is missing"),
        ({"num_hidden_layers": -3}, "m: num_hidden_layers is -3, expected a whole number from 1 to 2147483648"),
        ({"vocab_size": 10**15}, "m: vocab_size is 1000000000000000, expected a whole number from 1 to 2147483648"),
        ({"num_attention_heads": "many"}, "m: num_attention_heads is 'many', expected a whole number"),
        ({"layer_types": ["full_attention"]}, "m: layer_types names 1 layers but num_hidden_layers is 3"),
        ({"tie_word_embeddings": "yes"}, "m: tie_word_embeddings is 'yes', expected true or false"),
    ],
)
def test_an_absurd_value_is_refused_with_its_key(changes: dict[str, object], expected: str) -> None:
    with pytest.raises(DocumentError) as refused:
        model_facts_of(tiny_config(**changes), name="m", source="m")

    assert str(refused.value).startswith(expected)


def test_an_unknown_kind_of_layer_is_refused_with_the_known_ones() -> None:
    config = tiny_config(layer_types=["full_attention", "linear_attention", "full_attention"])

    with pytest.raises(UnknownFact, match=r"linear_attention; supported: full_attention, sliding_attention"):
        model_facts_of(config, name="m", source="m")


def test_a_checkpoint_in_another_quantisation_is_refused() -> None:
    with pytest.raises(UnknownFact, match="awq"):
        model_facts_of(tiny_config(quantization_config={"quant_method": "awq"}), name="m", source="m")


def test_a_truncated_config_names_the_line(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"architectures": ["Qwen3ForCausalLM"],\n "hidden_size": 12')

    with pytest.raises(DocumentError, match="line 2"):
        load_model_facts(str(tmp_path))

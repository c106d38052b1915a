"""Model reading: from the content of a config.json to the shape of the model.

What depends on the model class (defaults of missing keys, biases, norms, how layers alternate) is a row of
`catalogue/architectures.yaml`; this module reads the two together and knows no model by name.
"""

from functools import cache
from typing import Literal

from sizing.catalogue import catalogue_document
from sizing.documents import Part
from sizing.errors import DocumentError, UnknownFact
from sizing.model_config import ModelConfig
from sizing.model_shape import AttentionLayer, LayerKind, ModelFacts, VisionTower, WeightQuantization

LAYER_TYPE_KINDS: dict[str, LayerKind] = {"full_attention": "full", "sliding_attention": "sliding_window"}
"""`layer_types` of config.json, as transformers names them."""

ROPE_TYPES_WITHIN_THE_LENGTH = {
    "su",
    "longrope",
    "llama3",
    "yarn",
    "deepseek_yarn",
    "deepseek_llama_scaling",
    "default",
    "mrope",
}
"""RoPE scalings whose factor max_position_embeddings already holds (vllm/config/model.py:2591-2601, 0.32.0)."""

DTYPES = ("bfloat16", "float16", "float32")
WEIGHT_QUANTIZATIONS = ("fp8",)


class Architecture(Part):
    """One row of `catalogue/architectures.yaml`."""

    model_file: str
    layer_kinds: Literal["every_nth_full", "full_until_window"]
    query_key_value_bias: bool = False
    query_key_norm: bool
    norms_per_layer: int
    float16_works: bool
    rope_factor_is_in_the_length: bool = False
    vision: Literal["siglip"] | None = None
    defaults: dict[str, int | bool | float]


class _ArchitectureTable(Part):
    architectures: dict[str, Architecture]
    planned: tuple[str, ...]


@cache
def _architectures() -> _ArchitectureTable:
    return _ArchitectureTable.model_validate(catalogue_document("architectures.yaml"))


def supported_architectures() -> tuple[str, ...]:
    """The model classes that sizing understands."""
    return tuple(_architectures().architectures)


def model_facts_of(content: object, *, name: str, source: str, confidence: str = "given") -> ModelFacts:
    """The facts in the content of a config.json. Raises UnknownFact, or DocumentError that begins with `source`."""
    whole = ModelConfig.of(content, origin=source)
    architecture_name = whole.architecture()
    architecture = _architectures().architectures.get(architecture_name)
    if architecture is None:
        planned = " (known to vLLM, not yet to sizing)" if architecture_name in _architectures().planned else ""
        raise UnknownFact(
            f"{source}: architecture {architecture_name}{planned} is not supported; "
            f"supported: {', '.join(supported_architectures())}"
        )
    text = whole.text(architecture.defaults)
    query_head_count = text.positive("num_attention_heads")
    head_dim = text.positive_or_none("head_dim") or text.positive("hidden_size") // query_head_count
    kv_head_count = text.positive_or_none("num_key_value_heads") or query_head_count
    dtype = whole.dtype() or text.dtype() or "bfloat16"
    if dtype not in DTYPES:
        raise UnknownFact(f"{source}: dtype {dtype} is not supported; supported: {', '.join(DTYPES)}")
    attention_bias = text.flag("attention_bias")
    return ModelFacts(
        name=name,
        source=source,
        confidence=confidence,
        architecture=architecture_name,
        model_file=architecture.model_file,
        dtype=dtype,
        hidden_size=text.positive("hidden_size"),
        intermediate_size=text.positive("intermediate_size"),
        query_head_count=query_head_count,
        vocabulary_size=text.positive("vocab_size"),
        tied_embeddings=text.flag("tie_word_embeddings"),
        query_key_value_bias=architecture.query_key_value_bias or attention_bias,
        output_projection_bias=attention_bias and not architecture.query_key_value_bias,
        query_key_norm=architecture.query_key_norm,
        norms_per_layer=architecture.norms_per_layer,
        float16_works=architecture.float16_works,
        max_model_len_tokens=_max_model_len(text, architecture),
        layers=tuple(
            AttentionLayer(
                kind=kind,
                kv_head_count=kv_head_count,
                head_dim=head_dim,
                window_tokens=text.positive("sliding_window") if kind == "sliding_window" else None,
            )
            for kind in _layer_kinds(text, architecture)
        ),
        quantization=_quantization(whole),
        vision=_vision(whole) if architecture.vision else None,
    )


def _layer_kinds(text: ModelConfig, architecture: Architecture) -> tuple[LayerKind, ...]:
    layer_count = text.positive("num_hidden_layers")
    named = text.strings("layer_types")
    if named is not None:
        unknown = sorted(set(named) - LAYER_TYPE_KINDS.keys())
        if unknown:
            raise UnknownFact(
                f"{text.origin}: layer_types holds {', '.join(unknown)}; supported: {', '.join(LAYER_TYPE_KINDS)}"
            )
        if len(named) != layer_count:
            raise DocumentError(
                f"{text.origin}: layer_types names {len(named)} layers but num_hidden_layers is {layer_count}"
            )
        return tuple(LAYER_TYPE_KINDS[one] for one in named)
    if architecture.layer_kinds == "every_nth_full":
        every = text.positive("sliding_window_pattern")
        return tuple(_sliding_if((index + 1) % every != 0) for index in range(layer_count))
    if text.flag("use_sliding_window") and text.positive_or_none("sliding_window"):
        first_sliding = text.positive("max_window_layers")
        return tuple(_sliding_if(index >= first_sliding) for index in range(layer_count))
    return tuple(_sliding_if(False) for _ in range(layer_count))


def _sliding_if(slides: bool) -> LayerKind:
    return "sliding_window" if slides else "full"


def _max_model_len(text: ModelConfig, architecture: Architecture) -> int:
    """The window vLLM derives (vllm/config/model.py:2527-2640 and model_arch_config_convertor.py:394, 0.32.0)."""
    window_tokens = text.positive("max_position_embeddings")
    if architecture.rope_factor_is_in_the_length:
        return window_tokens
    factor = 1.0
    for rope_type, one_factor in text.rope_scalings():
        if rope_type not in ROPE_TYPES_WITHIN_THE_LENGTH:
            factor = one_factor
    return int(window_tokens * factor)


def _quantization(whole: ModelConfig) -> WeightQuantization | None:
    section = whole.section("quantization_config")
    if section is None:
        return None
    method = section.text_or_none("quant_method") or "unnamed"
    block = section.positive_list("weight_block_size")
    if method not in WEIGHT_QUANTIZATIONS or block is None or len(block) != 2:  # noqa: PLR2004 - rows and columns
        raise UnknownFact(
            f"{whole.origin}: weights quantised with {method}{'' if block else ' without weight_block_size'} are not "
            f"supported; supported: none, {', '.join(WEIGHT_QUANTIZATIONS)} with 128x128 blocks"
        )
    kept = section.strings("modules_to_not_convert") or section.strings("ignored_layers") or ()
    return WeightQuantization(method=method, block=(block[0], block[1]), kept_modules=frozenset(kept))


def _vision(whole: ModelConfig) -> VisionTower | None:
    tower = whole.section("vision_config")
    if tower is None:
        return None
    return VisionTower(
        hidden_size=tower.positive("hidden_size"),
        intermediate_size=tower.positive("intermediate_size"),
        layer_count=tower.positive("num_hidden_layers"),
        head_count=tower.positive("num_attention_heads"),
        image_size=tower.positive("image_size"),
        patch_size=tower.positive("patch_size"),
        channel_count=tower.positive_or_none("num_channels") or 3,
        tokens_per_image=whole.positive_or_none("mm_tokens_per_image") or 256,
    )

"""Model reading: from the content of a config.json to the shape of the model.

What depends on the model class (defaults of missing keys, biases, norms, how layers alternate) is a row of
`catalogue/architectures.yaml`; this module reads the two together and knows no model by name.
"""

from functools import cache

from sizing.catalogue import catalogue_document
from sizing.documents import Part
from sizing.errors import UnknownFact
from sizing.layer_reading import KindRule, feed_forwards_of, layers_of
from sizing.model_config import ModelConfig
from sizing.model_shape import (
    AlternatingUpdates,
    AudioKind,
    FeedForward,
    ModelFacts,
    PerLayerInput,
    RouterKind,
    VisionKind,
    WeightQuantization,
)
from sizing.tower_reading import audio_of, vision_of

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
    layer_kinds: KindRule
    query_key_value_bias: bool = False
    query_key_norm: bool
    norms_per_layer: int
    float16_works: bool
    rope_factor_is_in_the_length: bool = False
    gated_attention: bool = False
    images_attend_both_ways: bool = False
    router: RouterKind = "linear"
    alternating_updates: bool = False
    vision: VisionKind | None = None
    audio: AudioKind | None = None
    defaults: dict[str, int | bool | float | str | list[int]]


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
    dtype = whole.dtype() or text.dtype() or "bfloat16"
    if dtype not in DTYPES:
        raise UnknownFact(f"{source}: dtype {dtype} is not supported; supported: {', '.join(DTYPES)}")
    attention_bias = text.flag("attention_bias")
    layers = layers_of(text, kind_rule=architecture.layer_kinds, gated=architecture.gated_attention)
    feed_forwards = feed_forwards_of(text, layer_count=len(layers), router=architecture.router)
    return ModelFacts(
        name=name,
        source=source,
        confidence=confidence,
        architecture=architecture_name,
        model_file=architecture.model_file,
        dtype=dtype,
        hidden_size=text.positive("hidden_size"),
        intermediate_size=max(_width(part) for part in feed_forwards),
        query_head_count=text.positive("num_attention_heads"),
        vocabulary_size=text.positive("vocab_size"),
        tied_embeddings=text.flag("tie_word_embeddings"),
        query_key_value_bias=architecture.query_key_value_bias or attention_bias,
        output_projection_bias=attention_bias and not architecture.query_key_value_bias,
        query_key_norm=architecture.query_key_norm,
        norms_per_layer=architecture.norms_per_layer,
        float16_works=architecture.float16_works,
        images_attend_both_ways=_images_attend_both_ways(text, architecture),
        max_model_len_tokens=_max_model_len(text, architecture),
        layers=layers,
        feed_forwards=feed_forwards,
        per_layer_input=_per_layer_input(text),
        alternating_updates=_alternating_updates(text) if architecture.alternating_updates else None,
        quantization=_quantization(whole),
        vision=vision_of(whole, architecture.vision),
        audio=audio_of(whole, architecture.audio),
        prediction_layer_count=text.count_or_none("mtp_num_hidden_layers") or 0,
    )


def _width(part: FeedForward) -> int:
    """What one token passes through."""
    experts = part.experts
    routed = experts.per_token_count * experts.intermediate_size + experts.shared_intermediate_size if experts else 0
    return part.intermediate_size + routed


def _images_attend_both_ways(text: ModelConfig, architecture: Architecture) -> bool:
    """Gemma 4 says so in config.json (its small models do not); in Gemma 3 it is so of the class."""
    if architecture.images_attend_both_ways and "use_bidirectional_attention" in text.values:
        return text.text_or_none("use_bidirectional_attention") == "vision"
    return architecture.images_attend_both_ways and architecture.router != "gemma4"


def _per_layer_input(text: ModelConfig) -> PerLayerInput | None:
    size = text.count_or_none("hidden_size_per_layer_input")
    if not size:
        return None
    return PerLayerInput(vocabulary_size=text.positive("vocab_size_per_layer_input"), size=size)


def _alternating_updates(text: ModelConfig) -> AlternatingUpdates:
    return AlternatingUpdates(input_count=text.positive("altup_num_inputs"), low_rank=text.positive("laurel_rank"))


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


def _plain_name(module: str) -> str:
    """The name of a decoder module as a text-only checkpoint has it; multimodal ones nest it one level deeper."""
    return module.replace("model.language_model.", "model.", 1).replace("language_model.model.", "model.", 1)


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
    return WeightQuantization(
        method=method, block=(block[0], block[1]), kept_modules=frozenset(_plain_name(one) for one in kept)
    )

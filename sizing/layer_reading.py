"""Layer reading: which kind every decoder layer is, its heads, window and feed-forward part, from a config.json.

How layers alternate where config.json does not name them is a rule of the model class (`layer_kinds` of its row in
catalogue/architectures.yaml). Gemma 4 has other heads in its full-attention layers; Gemma 3n and 4 let the last
layers read the cache of earlier ones.
"""

from typing import Literal

from sizing.errors import DocumentError, UnknownFact
from sizing.model_config import ModelConfig
from sizing.model_shape import (
    AttentionKind,
    AttentionLayer,
    Experts,
    FeedForward,
    GatedDeltaNetLayer,
    Layer,
    LayerKind,
    RouterKind,
)

LAYER_TYPE_KINDS: dict[str, LayerKind] = {
    "full_attention": "full",
    "sliding_attention": "sliding_window",
    "linear_attention": "gated_delta_net",
}
"""`layer_types` of config.json, as transformers names them."""

ATTENDING: tuple[LayerKind, ...] = ("full", "sliding_window")

KindRule = Literal["every_nth_full", "full_until_window", "linear_until_nth"]


def layers_of(text: ModelConfig, *, kind_rule: KindRule, gated: bool) -> tuple[Layer, ...]:
    """Every decoder layer in order."""
    kinds = _layer_kinds(text, kind_rule)
    first_sharing = len(kinds) - (text.count_or_none("num_kv_shared_layers") or 0)
    return tuple(
        _gated_delta_net(text)
        if kind == "gated_delta_net"
        else _attention(text, kind, gated=gated, shares_cache=0 < first_sharing <= index)
        for index, kind in enumerate(kinds)
    )


def feed_forwards_of(text: ModelConfig, *, layer_count: int, router: RouterKind) -> tuple[FeedForward, ...]:
    """The feed-forward part of every layer."""
    experts = _experts(text, router)
    widths = _dense_widths(text, layer_count, required=experts is None or router == "gemma4")
    if experts is None:
        return tuple(FeedForward(intermediate_size=width) for width in widths)
    if router == "gemma4":
        return tuple(FeedForward(intermediate_size=width, experts=experts) for width in widths)
    step = text.positive_or_none("decoder_sparse_step") or 1
    dense_only = set(text.counts("mlp_only_layers") or ())
    sparse = FeedForward(intermediate_size=0, experts=experts)
    return tuple(
        FeedForward(intermediate_size=widths[index]) if index in dense_only or (index + 1) % step != 0 else sparse
        for index in range(layer_count)
    )


def _experts(text: ModelConfig, router: RouterKind) -> Experts | None:
    count = text.positive_or_none("num_experts")
    if count is None or (router == "gemma4" and not text.flag("enable_moe_block")):
        return None
    return Experts(
        count=count,
        intermediate_size=text.positive("moe_intermediate_size"),
        per_token_count=text.positive_or_none("num_experts_per_tok") or text.positive("top_k_experts"),
        shared_intermediate_size=text.count_or_none("shared_expert_intermediate_size") or 0,
        router=router,
    )


def _dense_widths(text: ModelConfig, layer_count: int, *, required: bool) -> tuple[int, ...]:
    if isinstance(text.values.get("intermediate_size"), list):
        widths = text.positive_list("intermediate_size") or ()
        if len(widths) != layer_count:
            raise DocumentError(
                f"{text.origin}: intermediate_size names {len(widths)} layers but num_hidden_layers is {layer_count}"
            )
        return widths
    width = text.positive("intermediate_size") if required else text.positive_or_none("intermediate_size") or 0
    shared = text.count_or_none("num_kv_shared_layers") or 0
    if shared and text.flag("use_double_wide_mlp"):
        return (width,) * (layer_count - shared) + (2 * width,) * shared
    return (width,) * layer_count


def _attention(text: ModelConfig, kind: AttentionKind, *, gated: bool, shares_cache: bool) -> AttentionLayer:
    query_head_count = text.positive("num_attention_heads")
    head_dim = text.positive_or_none("head_dim") or text.positive("hidden_size") // query_head_count
    kv_head_count = text.positive_or_none("num_key_value_heads") or query_head_count
    if kind == "full":
        head_dim = text.positive_or_none("global_head_dim") or head_dim
        if text.flag("attention_k_eq_v"):
            kv_head_count = text.positive_or_none("num_global_key_value_heads") or kv_head_count
    return AttentionLayer(
        kind=kind,
        kv_head_count=kv_head_count,
        head_dim=head_dim,
        window_tokens=text.positive("sliding_window") if kind == "sliding_window" else None,
        gated=gated,
        shares_cache=shares_cache,
    )


def _gated_delta_net(text: ModelConfig) -> GatedDeltaNetLayer:
    return GatedDeltaNetLayer(
        key_head_count=text.positive("linear_num_key_heads"),
        value_head_count=text.positive("linear_num_value_heads"),
        key_head_dim=text.positive("linear_key_head_dim"),
        value_head_dim=text.positive("linear_value_head_dim"),
        convolution_tokens=text.positive("linear_conv_kernel_dim"),
        recurrent_state_dtype=text.text_or_none("mamba_ssm_dtype"),
    )


def _layer_kinds(text: ModelConfig, kind_rule: KindRule) -> tuple[LayerKind, ...]:
    layer_count = text.positive("num_hidden_layers")
    named = text.strings("layer_types")
    if named is not None:
        known = [
            name for name, kind in LAYER_TYPE_KINDS.items() if (kind_rule == "linear_until_nth") or kind in ATTENDING
        ]
        unknown = sorted(set(named).difference(known))
        if unknown:
            raise UnknownFact(f"{text.origin}: layer_types holds {', '.join(unknown)}; supported: {', '.join(known)}")
        if len(named) != layer_count:
            raise DocumentError(
                f"{text.origin}: layer_types names {len(named)} layers but num_hidden_layers is {layer_count}"
            )
        return tuple(LAYER_TYPE_KINDS[one] for one in named)
    if kind_rule == "linear_until_nth":
        every = text.positive("full_attention_interval")
        return tuple("gated_delta_net" if (index + 1) % every != 0 else "full" for index in range(layer_count))
    if kind_rule == "every_nth_full":
        every = text.positive("sliding_window_pattern")
        return tuple(_sliding_if((index + 1) % every != 0) for index in range(layer_count))
    if text.flag("use_sliding_window") and text.positive_or_none("sliding_window"):
        first_sliding = text.positive("max_window_layers")
        return tuple(_sliding_if(index >= first_sliding) for index in range(layer_count))
    return tuple(_sliding_if(False) for _ in range(layer_count))


def _sliding_if(slides: bool) -> LayerKind:
    return "sliding_window" if slides else "full"

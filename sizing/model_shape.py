"""Model shape: the facts of a model that cost memory, as plain values; one row per layer."""

from dataclasses import dataclass
from typing import Literal

from sizing.safetensors_header import Checkpoint

AttentionKind = Literal["full", "sliding_window"]
LayerKind = Literal["full", "sliding_window", "gated_delta_net"]
VisionKind = Literal["siglip", "qwen2_5_vl", "qwen3_vl", "gemma3n", "gemma4", "gemma4_unified"]
AudioKind = Literal["gemma3n", "gemma4", "gemma4_unified"]
RouterKind = Literal["linear", "gemma4"]

WIDEST_COMMON_HEAD = 256


@dataclass(frozen=True, kw_only=True)
class AttentionLayer:
    """One attention layer as the KV cache sees it; `window_tokens` is None for full attention.

    `gated`: the query projection has a gate of its own size. `shares_cache`: it reads the keys and values of an
    earlier layer, has no projections for them and no cache.
    """

    kind: AttentionKind
    kv_head_count: int
    head_dim: int
    window_tokens: int | None = None
    gated: bool = False
    shares_cache: bool = False


@dataclass(frozen=True, kw_only=True)
class GatedDeltaNetLayer:
    """One linear-attention layer: a state of fixed size for each request instead of keys and values.

    `recurrent_state_dtype` None means the dtype of the model.
    """

    key_head_count: int
    value_head_count: int
    key_head_dim: int
    value_head_dim: int
    convolution_tokens: int
    recurrent_state_dtype: str | None = None
    kind: Literal["gated_delta_net"] = "gated_delta_net"

    @property
    def key_size(self) -> int:
        """Width of all key heads."""
        return self.key_head_count * self.key_head_dim

    @property
    def value_size(self) -> int:
        """Width of all value heads."""
        return self.value_head_count * self.value_head_dim


Layer = AttentionLayer | GatedDeltaNetLayer


@dataclass(frozen=True, kw_only=True)
class Experts:
    """The routed experts of one layer, and the shared expert that every token visits (size 0: none)."""

    count: int
    intermediate_size: int
    per_token_count: int
    shared_intermediate_size: int = 0
    router: RouterKind = "linear"


@dataclass(frozen=True, kw_only=True)
class FeedForward:
    """The feed-forward part of one layer; `intermediate_size` 0 means that only experts are there."""

    intermediate_size: int
    experts: Experts | None = None


@dataclass(frozen=True, kw_only=True)
class PerLayerInput:
    """Gemma's per-layer embeddings: a table of `size` numbers per token and layer, and its projections."""

    vocabulary_size: int
    size: int


@dataclass(frozen=True, kw_only=True)
class AlternatingUpdates:
    """Gemma 3n: several versions of the hidden state, predicted and corrected by each layer, and a low-rank branch."""

    input_count: int
    low_rank: int


@dataclass(frozen=True, kw_only=True)
class WeightQuantization:
    """How linear layers are stored: one byte per weight, one float32 scale per block, or per matrix without a block."""

    method: str
    block: tuple[int, int] | None
    kept_modules: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True)
class VisionTower:
    """What sees images, with its projector. `image_size` is the side of the largest image that a profile run sends."""

    kind: VisionKind = "siglip"
    hidden_size: int
    intermediate_size: int
    layer_count: int
    head_count: int
    image_size: int
    patch_size: int
    channel_count: int
    tokens_per_image: int
    output_size: int = 0
    head_dim: int = 0
    merge_size: int = 1
    temporal_patch_size: int = 1
    position_count: int = 0
    deepstack_count: int = 0


@dataclass(frozen=True, kw_only=True)
class AudioTower:
    """What hears, with its projector."""

    kind: AudioKind
    hidden_size: int
    layer_count: int = 0
    head_count: int = 0
    feature_count: int = 0
    channel_counts: tuple[int, ...] = ()
    kernel_size: int = 0
    output_size: int = 0
    vocabulary_size: int = 0


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """One model. `confidence` says how far its config.json can be trusted: given, verified, copy or inferred.

    `intermediate_size` is what one token passes through in the widest layer, experts included.
    """

    name: str
    source: str
    confidence: str
    architecture: str
    model_file: str
    dtype: str
    hidden_size: int
    intermediate_size: int
    query_head_count: int
    vocabulary_size: int
    tied_embeddings: bool
    query_key_value_bias: bool
    output_projection_bias: bool
    query_key_norm: bool
    norms_per_layer: int
    float16_works: bool
    images_attend_both_ways: bool
    max_model_len_tokens: int
    layers: tuple[Layer, ...]
    feed_forwards: tuple[FeedForward, ...]
    per_layer_input: PerLayerInput | None = None
    alternating_updates: AlternatingUpdates | None = None
    quantization: WeightQuantization | None = None
    vision: VisionTower | None = None
    audio: AudioTower | None = None
    prediction_layer_count: int = 0
    checkpoint: Checkpoint | None = None

    @property
    def layer_count(self) -> int:
        """Decoder layers."""
        return len(self.layers)

    @property
    def attention_layers(self) -> tuple[AttentionLayer, ...]:
        """The layers that attend, with or without a cache of their own."""
        return tuple(layer for layer in self.layers if isinstance(layer, AttentionLayer))

    @property
    def attention_is_wide(self) -> bool:
        """Whether some heads are wider than most attention backends take."""
        return max(layer.head_dim for layer in self.attention_layers) > WIDEST_COMMON_HEAD

    @property
    def gated_delta_net(self) -> GatedDeltaNetLayer | None:
        """The shape of the linear-attention layers, which is the same in all of them; None where there are none."""
        return next((layer for layer in self.layers if isinstance(layer, GatedDeltaNetLayer)), None)

    @property
    def experts(self) -> Experts | None:
        """The routed experts, which are the same in all layers that have them; None for a dense model."""
        return next((part.experts for part in self.feed_forwards if part.experts is not None), None)

"""Model shape: the facts of a model that cost memory, as plain values; one row per layer."""

from dataclasses import dataclass
from typing import Literal

from sizing.safetensors_header import Checkpoint

LayerKind = Literal["full", "sliding_window"]


@dataclass(frozen=True, kw_only=True)
class AttentionLayer:
    """One decoder layer as the KV cache sees it; `window_tokens` is None for full attention."""

    kind: LayerKind
    kv_head_count: int
    head_dim: int
    window_tokens: int | None = None


@dataclass(frozen=True, kw_only=True)
class WeightQuantization:
    """How linear layers are stored: one byte per weight, one float32 scale per block, or per matrix without a block."""

    method: str
    block: tuple[int, int] | None
    kept_modules: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True)
class VisionTower:
    """A SigLIP tower with its projector, as `Gemma3ForConditionalGeneration` builds it."""

    hidden_size: int
    intermediate_size: int
    layer_count: int
    head_count: int
    image_size: int
    patch_size: int
    channel_count: int
    tokens_per_image: int


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """One model. `confidence` says how far its config.json can be trusted: given, verified, copy or inferred."""

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
    max_model_len_tokens: int
    layers: tuple[AttentionLayer, ...]
    quantization: WeightQuantization | None = None
    vision: VisionTower | None = None
    checkpoint: Checkpoint | None = None

    @property
    def layer_count(self) -> int:
        """Decoder layers."""
        return len(self.layers)

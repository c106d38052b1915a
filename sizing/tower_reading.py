"""Tower reading: the image and audio parts of a multimodal model, from its config.json.

The largest image of a profile run follows from what the model's processor allows: Qwen-VL up to 4096 tokens' worth of
16384 patches, Gemma 3 one square of 896, Gemma 4 280 soft tokens of 3 x 3 patches.
"""

from collections.abc import Callable

from sizing.model_config import ModelConfig
from sizing.model_shape import AudioKind, AudioTower, VisionKind, VisionTower

QWEN_TOKENS_PER_IMAGE = 16384
"""Longest edge of the processors of Qwen2.5-VL and later: 16384 merged patches an image (vllm qwen2_vl.py, 0.32.0)."""
MOBILENET_IMAGE_SIZE = 768


def vision_of(whole: ModelConfig, kind: VisionKind | None) -> VisionTower | None:
    """The vision tower, or None where the model or this config.json has none."""
    section = whole.section("vision_config")
    if kind is None or section is None:
        return None
    return _READERS[kind](whole, section)


def audio_of(whole: ModelConfig, kind: AudioKind | None) -> AudioTower | None:
    """The audio tower, or None where the model or this config.json has none."""
    section = whole.section("audio_config")
    if kind is None or section is None:
        return None
    if kind == "gemma4_unified":
        return AudioTower(kind=kind, hidden_size=section.positive("audio_embed_dim"))
    if kind == "gemma3n":
        return AudioTower(
            kind=kind,
            hidden_size=section.positive("hidden_size"),
            layer_count=section.positive("conf_num_hidden_layers"),
            head_count=section.positive("conf_num_attention_heads"),
            feature_count=section.positive("input_feat_size"),
            channel_counts=section.positive_list("sscp_conv_channel_size") or (),
            kernel_size=section.positive_or_none("conf_conv_kernel_size") or 5,
            vocabulary_size=section.positive("vocab_size"),
        )
    return AudioTower(
        kind=kind,
        hidden_size=section.positive("hidden_size"),
        layer_count=section.positive("num_hidden_layers"),
        head_count=section.positive("num_attention_heads"),
        channel_counts=section.positive_list("subsampling_conv_channels") or (),
        kernel_size=section.positive("conv_kernel_size"),
        output_size=section.positive("output_proj_dims"),
    )


def _siglip(whole: ModelConfig, tower: ModelConfig) -> VisionTower:
    return VisionTower(
        kind="siglip",
        hidden_size=tower.positive("hidden_size"),
        intermediate_size=tower.positive("intermediate_size"),
        layer_count=tower.positive("num_hidden_layers"),
        head_count=tower.positive("num_attention_heads"),
        image_size=tower.positive("image_size"),
        patch_size=tower.positive("patch_size"),
        channel_count=tower.positive_or_none("num_channels") or 3,
        tokens_per_image=whole.positive_or_none("mm_tokens_per_image") or 256,
    )


def _qwen(kind: VisionKind) -> Callable[[ModelConfig, ModelConfig], VisionTower]:
    def read(whole: ModelConfig, tower: ModelConfig) -> VisionTower:
        del whole
        merge_size, patch_size = tower.positive("spatial_merge_size"), tower.positive("patch_size")
        return VisionTower(
            kind=kind,
            hidden_size=tower.positive("hidden_size"),
            intermediate_size=tower.positive("intermediate_size"),
            layer_count=tower.positive("depth"),
            head_count=tower.positive("num_heads"),
            image_size=int(QWEN_TOKENS_PER_IMAGE**0.5) * merge_size * patch_size,
            patch_size=patch_size,
            channel_count=tower.positive_or_none("in_channels") or tower.positive_or_none("in_chans") or 3,
            tokens_per_image=QWEN_TOKENS_PER_IMAGE,
            output_size=tower.positive("out_hidden_size"),
            merge_size=merge_size,
            temporal_patch_size=tower.positive_or_none("temporal_patch_size") or 2,
            position_count=tower.positive_or_none("num_position_embeddings") or 0,
            deepstack_count=len(tower.counts("deepstack_visual_indexes") or ()),
        )

    return read


def _gemma3n(whole: ModelConfig, tower: ModelConfig) -> VisionTower:
    return VisionTower(
        kind="gemma3n",
        hidden_size=tower.positive("hidden_size"),
        intermediate_size=tower.positive("hidden_size"),
        layer_count=1,
        head_count=1,
        image_size=MOBILENET_IMAGE_SIZE,
        patch_size=48,
        channel_count=3,
        tokens_per_image=whole.positive_or_none("vision_soft_tokens_per_image") or 256,
        position_count=tower.positive("vocab_size"),
    )


def _gemma4(whole: ModelConfig, tower: ModelConfig) -> VisionTower:
    patch_size, pooling = tower.positive("patch_size"), tower.positive("pooling_kernel_size")
    tokens = whole.positive_or_none("vision_soft_tokens_per_image") or tower.positive("default_output_length")
    return VisionTower(
        kind="gemma4",
        hidden_size=tower.positive("hidden_size"),
        intermediate_size=tower.positive("intermediate_size"),
        layer_count=tower.positive("num_hidden_layers"),
        head_count=tower.positive("num_attention_heads"),
        head_dim=tower.positive("head_dim"),
        image_size=int((tokens * pooling**2) ** 0.5) * patch_size,
        patch_size=patch_size,
        channel_count=3,
        tokens_per_image=tokens,
        position_count=tower.positive("position_embedding_size"),
    )


def _gemma4_unified(whole: ModelConfig, tower: ModelConfig) -> VisionTower:
    del whole
    patch_size, tokens = tower.positive("model_patch_size"), tower.positive("num_soft_tokens")
    return VisionTower(
        kind="gemma4_unified",
        hidden_size=tower.positive("mm_embed_dim"),
        intermediate_size=tower.positive("mm_embed_dim"),
        layer_count=1,
        head_count=1,
        image_size=int(tokens**0.5) * patch_size,
        patch_size=patch_size,
        channel_count=3,
        tokens_per_image=tokens,
        position_count=tower.positive("mm_posemb_size"),
    )


_READERS: dict[VisionKind, Callable[[ModelConfig, ModelConfig], VisionTower]] = {
    "siglip": _siglip,
    "qwen2_5_vl": _qwen("qwen2_5_vl"),
    "qwen3_vl": _qwen("qwen3_vl"),
    "gemma3n": _gemma3n,
    "gemma4": _gemma4,
    "gemma4_unified": _gemma4_unified,
}

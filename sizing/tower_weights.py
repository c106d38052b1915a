"""Tower weights: the image and audio parts of a model on one tensor-parallel rank, as vLLM builds them (0.32.0).

Qwen's and SigLIP's towers are split over the ranks like the decoder; Gemma 4's and the audio towers are whole on every
rank. Exact: the golden tests compare with the parameter sum of vLLM's classes.
"""

from collections.abc import Callable

from sizing.model_shape import AudioKind, AudioTower, ModelFacts, VisionKind, VisionTower

MOBILENET_V5_300M_ELEMENTS = 294_126_912
"""timm's `mobilenetv5_300m_enc`, which Gemma 3n sees with: its parameters, counted with timm on the meta device."""


def tower_elements(model: ModelFacts, shards: int) -> int:
    """Weights of both towers and their projectors on one rank."""
    elements = 0
    if model.vision is not None:
        elements += _VISION[model.vision.kind](model.vision, model.hidden_size, shards)
    if model.audio is not None:
        elements += _AUDIO[model.audio.kind](model.audio, model.hidden_size, shards)
    return elements


def stays_without_images(model: ModelFacts) -> bool:
    """Whether vLLM keeps the projections of images where only text is served (models/gemma4_unified.py)."""
    return model.vision is not None and model.vision.kind == "gemma4_unified"


def _siglip(tower: VisionTower, text_hidden_size: int, shards: int) -> int:
    """A SigLIP tower without head, and Gemma 3's projector (models/siglip.py, models/gemma3_mm.py)."""
    hidden, inner = tower.hidden_size, tower.intermediate_size
    patches = (tower.image_size // tower.patch_size) ** 2
    embeddings = tower.channel_count * tower.patch_size**2 * hidden + hidden + patches * hidden
    attention = 3 * (hidden * hidden + hidden) // shards + hidden * hidden // shards + hidden
    inner_part = (hidden * inner + inner) // shards + inner * hidden // shards + hidden
    norms = 4 * hidden
    projector = hidden * text_hidden_size + hidden
    return embeddings + tower.layer_count * (attention + inner_part + norms) + 2 * hidden + projector


def _patches(tower: VisionTower) -> int:
    return tower.channel_count * tower.temporal_patch_size * tower.patch_size**2 * tower.hidden_size


def _merger(tower: VisionTower, shards: int) -> int:
    """Two matrices with biases over `merge_size` squared joined patches."""
    joined = tower.hidden_size * tower.merge_size**2
    return (joined * joined + joined) // shards + tower.output_size * joined // shards + tower.output_size


def _qwen3_vl(tower: VisionTower, text_hidden_size: int, shards: int) -> int:
    """models/qwen3_vl.py; Qwen3.5 has no deepstack mergers."""
    del text_hidden_size
    hidden, inner, joined = tower.hidden_size, tower.intermediate_size, tower.hidden_size * tower.merge_size**2
    attention = 3 * (hidden * hidden + hidden) // shards + hidden * hidden // shards + hidden
    inner_part = (hidden * inner + inner) // shards + inner * hidden // shards + hidden
    layers = tower.layer_count * (attention + inner_part + 4 * hidden)
    outside = _patches(tower) + hidden + tower.position_count * hidden
    mergers = _merger(tower, shards) + 2 * hidden
    return outside + layers + mergers + tower.deepstack_count * (_merger(tower, shards) + 2 * joined)


def _qwen2_5_vl(tower: VisionTower, text_hidden_size: int, shards: int) -> int:
    """models/qwen2_5_vl.py."""
    del text_hidden_size
    hidden, inner = tower.hidden_size, tower.intermediate_size
    attention = 3 * (hidden * hidden + hidden) // shards + hidden * hidden // shards + hidden
    inner_part = 2 * (hidden * inner + inner) // shards + inner * hidden // shards + hidden
    layers = tower.layer_count * (attention + inner_part + 2 * hidden)
    return _patches(tower) + layers + hidden + _merger(tower, shards)


def _gemma4(tower: VisionTower, text_hidden_size: int, shards: int) -> int:
    """models/gemma4_mm.py: whole on every rank."""
    del shards
    hidden, inner, heads = tower.hidden_size, tower.intermediate_size, tower.head_count * tower.head_dim
    attention = 4 * hidden * heads + 2 * tower.head_dim
    layers = tower.layer_count * (attention + 3 * hidden * inner + 4 * hidden)
    patches = tower.channel_count * tower.patch_size**2 * hidden + 2 * tower.position_count * hidden
    return patches + layers + text_hidden_size * hidden


def _gemma4_unified(tower: VisionTower, text_hidden_size: int, shards: int) -> int:
    """models/gemma4_unified.py: patches are projected and no tower follows."""
    hidden, patch = tower.hidden_size, tower.channel_count * tower.patch_size**2
    projection = (patch * hidden + hidden) // shards
    return 2 * tower.position_count * hidden + 2 * patch + projection + 4 * hidden + text_hidden_size * hidden


def _gemma3n(tower: VisionTower, text_hidden_size: int, shards: int) -> int:
    """models/gemma3n_mm.py: MobileNet V5 on every rank, a split projector."""
    projector = _gemma3n_projector(tower.hidden_size, tower.position_count, text_hidden_size, shards)
    return MOBILENET_V5_300M_ELEMENTS + projector


def _gemma3n_projector(hidden: int, vocabulary: int, text_hidden_size: int, shards: int) -> int:
    return (vocabulary * hidden + text_hidden_size * hidden) // shards + 2 * hidden


def _conformer(audio: AudioTower) -> int:
    """Elements that both audio towers share: a strided convolution stem and conformer layers."""
    hidden, kernel = audio.hidden_size, audio.kernel_size
    first, second = audio.channel_counts
    stem = 9 * first + first + 9 * first * second + second
    feed_forward = 8 * hidden * hidden + 2 * hidden
    attention = 5 * hidden * hidden + hidden // audio.head_count + 2 * hidden
    convolution = 3 * hidden * hidden + hidden * kernel + 2 * hidden
    return stem + audio.layer_count * (2 * feed_forward + attention + convolution + hidden)


def _gemma4_audio(audio: AudioTower, text_hidden_size: int, shards: int) -> int:
    """models/gemma4_mm.py: the stem yields 32 x second channel numbers, which a matrix brings to the hidden size."""
    del shards
    stem = 32 * audio.channel_counts[1] * audio.hidden_size
    output = audio.output_size * (audio.hidden_size + 1)
    return _conformer(audio) + stem + output + text_hidden_size * audio.output_size


def _gemma3n_audio(audio: AudioTower, text_hidden_size: int, shards: int) -> int:
    """models/gemma3n_mm.py: two strides of 2 leave a quarter of the features, times the second channel count."""
    stem = audio.feature_count // 4 * audio.channel_counts[1] * audio.hidden_size
    projector = _gemma3n_projector(audio.hidden_size, audio.vocabulary_size, text_hidden_size, shards)
    return _conformer(audio) + stem + projector


def _gemma4_unified_audio(audio: AudioTower, text_hidden_size: int, shards: int) -> int:
    del shards
    return text_hidden_size * audio.hidden_size


_VISION: dict[VisionKind, Callable[[VisionTower, int, int], int]] = {
    "siglip": _siglip,
    "qwen2_5_vl": _qwen2_5_vl,
    "qwen3_vl": _qwen3_vl,
    "gemma3n": _gemma3n,
    "gemma4": _gemma4,
    "gemma4_unified": _gemma4_unified,
}
_AUDIO: dict[AudioKind, Callable[[AudioTower, int, int], int]] = {
    "gemma3n": _gemma3n_audio,
    "gemma4": _gemma4_audio,
    "gemma4_unified": _gemma4_unified_audio,
}

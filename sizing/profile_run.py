"""Profile run: the peak of torch memory while vLLM measures itself at start-up, before the KV cache exists.

    forward  = batched tokens x (3 x intermediate / ranks + 3.4 x hidden) x element bytes
    experts  = batched tokens x experts per token x (max(inner, hidden) + max(2 x inner, hidden)) x element bytes
    sampler  = hidden states + sequences x vocabulary x bytes      (14.45 of runner v1, the bare logits of v2)
    compile  = one copy of the embedding table                     (torch.compile's first start, text models)
    encoder  = patches of one batch x (2 or 3 x intermediate + 4.25 x hidden) x element bytes
    peak     = experts + encoder outputs + max(forward, sampler, compile, encoder)

Shapes follow vLLM's sources (v1/worker/gpu_model_runner.py and v1/worker/gpu/model_runner.py, profile_run; the buffers
of fused experts stay allocated, v1/worker/workspace.py; multimodal/encoder_budget.py; 0.19 to 0.32); two constants
are fitted, see `catalogue/overhead.yaml`. Inductor benchmarks the kernels that read the embedding with random inputs of
the same shape, so a start without compile cache peaks higher by that table: boots of the same machine differ by it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from sizing.model_shape import GatedDeltaNetLayer, ModelFacts, VisionTower
from sizing.overhead_table import Runner, overhead_table, routed_experts
from sizing.units import MIB, round_up

VOCABULARY_MULTIPLE = 64
GATED_TOWERS = ("qwen2_5_vl", "gemma4", "gemma4_unified")
SOFT_CAPPED_ARCHITECTURES = ("Gemma2ForCausalLM",)

GEMMA4_VIDEO_TOKENS = 2496
GEMMA4_VIDEO_PATCHES = 20160
"""32 frames of 70 tokens and their marks, 9 patches to a token: start-up logs say "profiled with 1 video items" for
2,496 tokens, and the patches meet the ledgers of gemma-4-26b-a4b-nvfp4-5090-*."""

QWEN25_FRAME_PAIRS = 7
"""A video of 14 frames as large as the largest image, as far as the window holds it: a long window makes start-up peak
far above the weights (models/qwen2_vl.py, _MAX_FRAMES_PER_VIDEO; ledger qwen2.5-vl-7b-a100-u022-err)."""

GEMMA3_STRETCH = 8
HYBRID_ROTARY_SHARE = 0.25
"""Qwen3-Next and later turn a quarter of each head."""

GDN_COPIES = 2.5
"""Input projection, its convolved copy, and half of it again while heads are normalised."""
GDN_CHUNK_TOKENS = 64


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What one rank works on while it profiles."""

    max_num_batched_tokens: int
    max_num_seqs: int
    shards: int
    element_bytes: int
    is_first_stage: bool
    is_last_stage: bool
    compiled: bool
    multimodal: bool
    limit_mm_per_prompt: Mapping[str, int]
    max_model_len: int


@dataclass(frozen=True, kw_only=True)
class Peak:
    """The peak of a first start, of a later one, and whether images set it."""

    cold_bytes: int
    warm_bytes: int
    images_lead: bool


def profile_peak(model: ModelFacts, batch: Batch, runner: Runner) -> Peak:
    """The peak on one rank."""
    profile = overhead_table().cuda.profile
    hidden_bytes = batch.max_num_batched_tokens * model.hidden_size * batch.element_bytes
    forward = _forward_bytes(model, batch, profile.hidden_copies)
    sampler = hidden_bytes + _sampler_bytes(model, batch, runner) if batch.is_last_stage else 0.0
    encoder, outputs = _encoder_bytes(model, batch, profile.image_hidden_copies)
    kept = _experts_bytes(model, batch) + outputs + profile.fixed_mib * MIB
    warm = max(forward, sampler, encoder)
    cold = max(warm, _compile_bytes(model, batch))
    return Peak(cold_bytes=int(kept + cold), warm_bytes=int(kept + warm), images_lead=encoder > max(forward, sampler))


def rotary_bytes(model: ModelFacts, element_bytes: int) -> int:
    """Tables of sines, one for each kind of attention layer, over all positions that the model knows
    (layers/rotary_embedding/base.py); Gemma 3 stretches those of its full layers by 8."""
    share = HYBRID_ROTARY_SHARE if model.gated_delta_net is not None else 1.0
    stretch = GEMMA3_STRETCH if model.architecture == "Gemma3ForConditionalGeneration" else 1
    widths = {(layer.kind, layer.head_dim) for layer in model.attention_layers}
    rows = sum(width * (stretch if kind == "full" else 1) for kind, width in widths)
    return int(rows * share * model.max_model_len_tokens * element_bytes)


def _forward_bytes(model: ModelFacts, batch: Batch, hidden_copies: float) -> float:
    experts = routed_experts(model)
    inner_size = model.intermediate_size if experts is None else experts.shared_intermediate_size
    per_token = hidden_copies * model.hidden_size + 3 * inner_size / batch.shards
    forward = batch.max_num_batched_tokens * per_token * batch.element_bytes
    linear = model.gated_delta_net
    return forward if linear is None else max(forward, _linear_attention_bytes(model, linear, batch))


def _linear_attention_bytes(model: ModelFacts, layer: GatedDeltaNetLayer, batch: Batch) -> float:
    projected = 2 * layer.key_size + 2 * layer.value_size
    per_token = GDN_COPIES * projected / batch.shards + 2 * model.hidden_size
    states = layer.value_head_count / batch.shards * layer.key_head_dim * layer.value_head_dim
    chunks = batch.max_num_batched_tokens / GDN_CHUNK_TOKENS
    return (batch.max_num_batched_tokens * per_token + chunks * states) * batch.element_bytes


def _experts_bytes(model: ModelFacts, batch: Batch) -> float:
    experts = routed_experts(model)
    if experts is None:
        return 0
    inner = experts.intermediate_size / batch.shards
    per_token = experts.per_token_count * (max(inner, model.hidden_size) + max(2 * inner, model.hidden_size))
    return batch.max_num_batched_tokens * per_token * batch.element_bytes


def _sampler_bytes(model: ModelFacts, batch: Batch, runner: Runner) -> float:
    profile = overhead_table().cuda.profile
    copies = profile.sampler_bytes[runner]
    if runner == "v2":
        copies *= 1 + (profile.split_extra_copies if batch.shards > 1 else 0)
        copies += 2 * profile.soft_cap_copies if model.architecture in SOFT_CAPPED_ARCHITECTURES else 0
    sequences = min(batch.max_num_seqs, batch.max_num_batched_tokens)
    return copies * sequences * model.vocabulary_size


def _compile_bytes(model: ModelFacts, batch: Batch) -> float:
    """Images and text meet before the compiled part, so only text models compile the look-up of the embedding."""
    if not (batch.compiled and batch.is_first_stage) or batch.multimodal:
        return 0
    rows = round_up(model.vocabulary_size, VOCABULARY_MULTIPLE) / batch.shards
    return rows * model.hidden_size * batch.element_bytes


def _encoder_bytes(model: ModelFacts, batch: Batch, hidden_copies: float) -> tuple[float, float]:
    """Peak of encoding one batch, and its outputs, which wait for the forward pass."""
    tower = model.vision
    if tower is None or not (batch.multimodal and batch.is_first_stage):
        return 0, 0
    item_tokens, item_patches = _largest_item(tower, batch)
    item_count = max(1, batch.max_num_batched_tokens // item_tokens)
    matrices = 3 if tower.kind in GATED_TOWERS else 2
    per_patch = hidden_copies * tower.hidden_size + matrices * tower.intermediate_size / batch.shards
    encoder = item_count * item_patches * per_patch * batch.element_bytes
    return encoder, item_count * item_tokens * model.hidden_size * batch.element_bytes


def _largest_item(tower: VisionTower, batch: Batch) -> tuple[int, int]:
    """Tokens and patches of the item that vLLM profiles with: the modality with the most tokens."""
    image_tokens, image_patches = tower.tokens_per_image, (tower.image_size // tower.patch_size) ** 2
    if batch.limit_mm_per_prompt.get("video", 1) > 0:
        if tower.kind in ("gemma4", "gemma4_unified"):
            return GEMMA4_VIDEO_TOKENS, GEMMA4_VIDEO_PATCHES
        if tower.kind == "qwen2_5_vl":
            pairs = max(1, min(QWEN25_FRAME_PAIRS, batch.max_model_len // image_tokens))
            return pairs * image_tokens, pairs * image_patches
    return image_tokens, image_patches

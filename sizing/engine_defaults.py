"""Engine defaults: what vLLM decides for itself when an option is not given, per version and device.

The numbers are rows of `catalogue/vllm.yaml`, with their places in vLLM's sources; this module only picks the row.
"""

from dataclasses import dataclass
from functools import cache
from typing import Literal

from pydantic import Field

from sizing.catalogue import catalogue_document
from sizing.device import Device
from sizing.documents import Part
from sizing.errors import EngineRefuses, UnknownFact
from sizing.kv_groups import CapacityRules, StateRules, TokensAre
from sizing.model_shape import ModelFacts
from sizing.units import GIB

CPU_BFLOAT16_FLAG = "avx512_bf16"
"""With it a host keeps recurrent states in float32 (vllm/platforms/cpu.py:303, 0.32.0); unknown flags count as with."""

BFLOAT16_CAPABILITY = (8, 0)
"""vllm/platforms/cuda.py:255-264 (0.32.0): below it the supported dtypes are float16 and float32."""


class _BatchRow(Part):
    memory_at_least_gib: int
    name_lacks: str | None = None
    max_num_batched_tokens: int
    max_num_seqs: int


class _StateCheckpoints(Part):
    """Where a version keeps states within a prefill: its block multiple, and the compute capabilities that do so."""

    block_multiple: int
    capability_majors: tuple[int, ...]


class _WideHeadBlock(Part):
    """Where heads wider than 256 get larger blocks than others, unless the operator says otherwise."""

    capability_major: int
    when: Literal["fp8_cache", "images_attend_both_ways"]
    block_size_tokens: int


class _DeviceRow(Part):
    wide_head_blocks: tuple[_WideHeadBlock, ...] = ()
    kernel_block_tokens: int
    state_checkpoints: _StateCheckpoints | None = None
    recurrent_dtype: str | None = None
    block_size_tokens: int
    async_scheduling: bool
    batches_in_flight: int
    world_size_multiplies: bool
    batch_defaults: tuple[_BatchRow, ...] = Field(min_length=1)


class _VersionRow(Part):
    judged: str | None = None
    read: str | None = None
    gpu_memory_utilization: float
    tokens_are: TokensAre
    null_block_is_held_back: bool
    in_flight_batches_count: bool
    state_blocks: int
    finer_expert_blocks: bool
    states_bound_sequences: bool
    cuda: _DeviceRow
    cpu: _DeviceRow


class _VersionTable(Part):
    default_version: str
    deployment_floor: str
    versions: dict[str, _VersionRow]


@cache
def _table() -> _VersionTable:
    return _VersionTable.model_validate(catalogue_document("vllm.yaml"))


DEFAULT_VLLM_VERSION: str = _table().default_version


@dataclass(frozen=True, kw_only=True)
class EngineDefaults:
    """vLLM's own choices for one device."""

    gpu_memory_utilization: float
    max_num_batched_tokens: int
    max_num_seqs: int
    block_size_tokens: int
    async_scheduling: bool
    asynchronous_batches_count: int
    in_flight_batches_count: bool
    state_rules: StateRules
    capacity_rules: CapacityRules
    finer_expert_blocks: bool
    states_bound_sequences: bool


def supported_vllm_versions() -> tuple[str, ...]:
    """The minor versions that the catalogue knows, newest first."""
    return tuple(_table().versions)


def is_judged(vllm_version: str) -> bool:
    """Whether sizing was compared with the own code of exactly this version; others are extrapolated."""
    return _version_row(vllm_version).judged == vllm_version


def require_deployable(vllm_version: str) -> None:
    """Raise EngineRefuses for a version below the floor for deployments."""
    floor = _table().deployment_floor
    if _version_key(vllm_version) < _version_key(floor):
        raise EngineRefuses(f"vLLM {vllm_version} is below the floor for deployments; use {floor} or newer")


def _version_key(version: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in version.split("."))
    except ValueError:
        raise UnknownFact(f'vLLM version "{version}" is not of the form 0.32.0') from None


def defaults_for(
    device: Device, *, vllm_version: str = DEFAULT_VLLM_VERSION, world_size_count: int = 1
) -> EngineDefaults:
    """vLLM's defaults for the API server on `device`; `world_size_count` is tensor times pipeline parallel size."""
    version = _version_row(vllm_version)
    row = version.cuda if device.accelerator == "cuda" else version.cpu
    batch = next(
        batch
        for batch in row.batch_defaults
        if device.memory_usable_bytes >= batch.memory_at_least_gib * GIB
        and (batch.name_lacks is None or batch.name_lacks not in device.name.lower())
    )
    factor = world_size_count if row.world_size_multiplies else 1
    return EngineDefaults(
        gpu_memory_utilization=version.gpu_memory_utilization,
        max_num_batched_tokens=batch.max_num_batched_tokens * factor,
        max_num_seqs=batch.max_num_seqs * factor,
        block_size_tokens=row.block_size_tokens,
        async_scheduling=row.async_scheduling,
        asynchronous_batches_count=row.batches_in_flight,
        in_flight_batches_count=version.in_flight_batches_count,
        state_rules=_state_rules(row, device, blocks_per_request=version.state_blocks),
        capacity_rules=CapacityRules(
            null_block_is_held_back=version.null_block_is_held_back, tokens_are=version.tokens_are
        ),
        finer_expert_blocks=version.finer_expert_blocks,
        states_bound_sequences=version.states_bound_sequences and device.accelerator == "cuda",
    )


def _version_row(vllm_version: str) -> _VersionRow:
    """The row of a release: patch releases share their minor version's."""
    key = ".".join(str(part) for part in _version_key(vllm_version)[:2])
    row = _table().versions.get(key)
    if row is None:
        newest, oldest = supported_vllm_versions()[0], supported_vllm_versions()[-1]
        raise UnknownFact(f"vLLM {vllm_version} is not in the catalogue; known: {oldest} to {newest}")
    return row


def _state_rules(row: _DeviceRow, device: Device, *, blocks_per_request: int) -> StateRules:
    """Blocks for linear-attention states; 0.33 keeps one more, a checkpoint, where FlashInfer computes them
    (layers/mamba/gdn/qwen_gdn_linear_attn.py:249-270, 691-696, 0.33.0)."""
    checkpoints, capability = row.state_checkpoints, device.compute_capability
    kept = checkpoints is not None and capability is not None and capability[0] in checkpoints.capability_majors
    return StateRules(
        kernel_block_tokens=row.kernel_block_tokens,
        checkpoint_tokens=checkpoints.block_multiple if checkpoints is not None and kept else 1,
        blocks_per_request=blocks_per_request + int(kept),
        recurrent_dtype=row.recurrent_dtype if not device.cpu_flags or CPU_BFLOAT16_FLAG in device.cpu_flags else None,
    )


def default_block_tokens(
    model: ModelFacts, device: Device, *, vllm_version: str, kv_cache_dtype: str, multimodal: bool
) -> int:
    """Tokens of one block where the operator does not say; a backend for wide heads may prefer more."""
    row = _version_row(vllm_version).cuda if device.accelerator == "cuda" else _version_row(vllm_version).cpu
    capability = device.compute_capability
    if capability is None or not model.attention_is_wide:
        return row.block_size_tokens
    holds = {
        "fp8_cache": kv_cache_dtype.startswith("fp8"),
        "images_attend_both_ways": multimodal and model.images_attend_both_ways,
    }
    for wide in row.wide_head_blocks:
        if wide.capability_major == capability[0] and holds[wide.when]:
            return wide.block_size_tokens
    return row.block_size_tokens


def element_bytes(model: ModelFacts, device: Device) -> int:
    """Bytes of one unquantised weight with `dtype: auto` (vllm/config/model.py:2405-2446, 0.32.0).

    A card without BF16 falls back to FP16, and to FP32 where the architecture refuses FP16 (Gemma 2 and 3).
    """
    capability = device.compute_capability
    if device.accelerator == "cuda" and capability is not None and capability < BFLOAT16_CAPABILITY:
        return 2 if model.float16_works else 4
    return 2

"""Overhead: what a rank needs beside weights and KV cache, term by term, each with the interval that it was seen in.

    activation = peak of the profile run (sizing/profile_run.py)
    non torch  = kernels and workspaces, buffers between ranks, tables of sines, and the penalty counts of runner v2
    graphs     = what the profiler estimates for CUDA graphs, where this version subtracts it; nothing when eager

vLLM measures these at start-up; nobody can compute all of them. What is fitted lives with its ledgers in
`catalogue/overhead.yaml`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from sizing.device import Device
from sizing.model_shape import ModelFacts
from sizing.overhead_table import Runner, graph_term, overhead_table, peers_term, runner_of, version_key
from sizing.profile_run import Batch, profile_peak, rotary_bytes
from sizing.units import MIB

Provenance = Literal["exact", "calibrated", "extrapolated"]

OLDEST_CALIBRATED_VERSION = (0, 19)
BLACKWELL_MAJOR = 10
SMALL_CAPTURE_SIZES = (1, 2, 4, *range(8, 256, 8), *range(256, 513, 16))
LARGEST_CAPTURE = 512


@dataclass(frozen=True, kw_only=True)
class Term:
    """One term with the interval that it was seen in."""

    likely_bytes: int
    low_bytes: int
    high_bytes: int
    provenance: Provenance


@dataclass(frozen=True, kw_only=True)
class Overhead:
    """All terms of one rank."""

    activation: Term
    non_torch: Term
    cuda_graph: Term

    @property
    def likely_bytes(self) -> int:
        return self.activation.likely_bytes + self.non_torch.likely_bytes + self.cuda_graph.likely_bytes

    @property
    def low_bytes(self) -> int:
        return self.activation.low_bytes + self.non_torch.low_bytes + self.cuda_graph.low_bytes

    @property
    def high_bytes(self) -> int:
        return self.activation.high_bytes + self.non_torch.high_bytes + self.cuda_graph.high_bytes


NOTHING = Term(likely_bytes=0, low_bytes=0, high_bytes=0, provenance="exact")


@dataclass(frozen=True, kw_only=True)
class Rank:
    """One rank of an engine, as far as its overhead depends on it."""

    shards: int
    stage_layer_count: int
    is_first_stage: bool
    is_last_stage: bool
    max_num_batched_tokens: int
    max_num_seqs: int
    element_bytes: int
    enforce_eager: bool
    multimodal: bool
    limit_mm_per_prompt: Mapping[str, int]
    max_model_len: int
    whole_engine: bool
    vllm_version: str


def context_bytes(device: Device) -> int:
    """What a CUDA context takes from the device before vLLM looks at its free memory."""
    return overhead_table().cuda.context_mib * MIB if device.accelerator == "cuda" else 0


def overhead_of(model: ModelFacts, device: Device, rank: Rank) -> Overhead:
    """The terms of one rank. `rank.whole_engine` (CPU): count every process of the engine, not the worker alone."""
    runner: Runner = "v1" if device.accelerator == "cpu" else runner_of(model, rank.vllm_version)
    batch = Batch(
        max_num_batched_tokens=rank.max_num_batched_tokens,
        max_num_seqs=rank.max_num_seqs,
        shards=rank.shards,
        element_bytes=rank.element_bytes,
        is_first_stage=rank.is_first_stage,
        is_last_stage=rank.is_last_stage,
        compiled=not rank.enforce_eager and device.accelerator == "cuda",
        multimodal=rank.multimodal,
        limit_mm_per_prompt=rank.limit_mm_per_prompt,
        max_model_len=rank.max_model_len,
    )
    peak = profile_peak(model, batch, runner)
    if device.accelerator == "cpu":
        return _cpu_overhead(peak.cold_bytes, whole_engine=rank.whole_engine)
    profile = overhead_table().cuda.profile
    spread = (profile.image_low, profile.image_high) if peak.images_lead else (profile.warm_low, profile.cold_high)
    return Overhead(
        activation=Term(
            likely_bytes=peak.cold_bytes,
            low_bytes=int(peak.warm_bytes * spread[0]),
            high_bytes=int(peak.cold_bytes * spread[1]),
            provenance=_provenance(rank, extrapolated=peak.images_lead),
        ),
        non_torch=_non_torch(model, device, rank, runner),
        cuda_graph=_cuda_graph(rank, runner),
    )


def captured_size_count(max_num_seqs: int) -> int:
    """How many batch sizes vLLM captures piecewise: 1, 2, 4, 8..256 step 8, then step 16, up to twice max_num_seqs and
    512 (vllm/config/vllm.py:2299-2484, 0.32.0)."""
    return _sizes_up_to(min(2 * max_num_seqs, LARGEST_CAPTURE))


def captured_graph_count(max_num_seqs: int) -> int:
    """Piecewise graphs, and full ones for decoding, which stop at max_num_seqs."""
    return captured_size_count(max_num_seqs) + _sizes_up_to(min(max_num_seqs, LARGEST_CAPTURE))


def _sizes_up_to(largest: int) -> int:
    return sum(1 for size in SMALL_CAPTURE_SIZES if size <= largest)


def _non_torch(model: ModelFacts, device: Device, rank: Rank, runner: Runner) -> Term:
    cuda = overhead_table().cuda
    base = next(row for row in cuda.non_torch if row.runner == runner)
    major = device.compute_capability[0] if device.compute_capability else None
    likely, low, high = base.mib * 1.0, base.mib * base.low, base.mib * base.high
    if runner == "v2" and major is not None and major >= BLACKWELL_MAJOR:
        likely, high = likely + cuda.blackwell_mib, high + 1.5 * cuda.blackwell_mib
    if rank.multimodal:
        high += cuda.tower_high_mib
    if runner == "v1" and model.gated_delta_net is not None:
        high += cuda.linear_attention_high_mib
    if rank.shards > 1:
        peers = peers_term(major)
        likely, low, high = likely + peers.mib, low + peers.mib * peers.low, high + peers.mib * peers.high
    if device.memory_unified:
        noise = cuda.unified_memory.noise_ratio * device.memory_budget_bytes / MIB
        likely, low, high = likely + cuda.unified_memory.mib, low - noise, high + cuda.unified_memory.mib + noise
    kept = rotary_bytes(model, rank.element_bytes)
    if runner == "v2" and rank.is_last_stage:
        kept += int(cuda.penalties_bytes * rank.max_num_seqs * model.vocabulary_size)
    return Term(
        likely_bytes=int(likely * MIB) + kept,
        low_bytes=int(low * MIB) + kept,
        high_bytes=int(high * MIB) + kept,
        provenance=_provenance(rank),
    )


def _cuda_graph(rank: Rank, runner: Runner) -> Term:
    row = graph_term(runner, rank.vllm_version)
    if rank.enforce_eager or row is None:
        return NOTHING
    graphs_ratio = captured_graph_count(rank.max_num_seqs) / row.all_graphs_count
    mib = row.base_mib + row.mib_per_layer * rank.stage_layer_count * graphs_ratio
    return Term(
        likely_bytes=int(mib * MIB),
        low_bytes=int(mib * row.low * MIB),
        high_bytes=int(mib * row.high * MIB),
        provenance=_provenance(rank),
    )


def _provenance(rank: Rank, *, extrapolated: bool = False) -> Provenance:
    from_old_version = version_key(rank.vllm_version)[:2] < OLDEST_CALIBRATED_VERSION
    return "extrapolated" if extrapolated or from_old_version else "calibrated"


def _cpu_overhead(activation_bytes: int, *, whole_engine: bool) -> Overhead:
    cpu = overhead_table().cpu
    non_torch = (cpu.processes_mib if whole_engine else cpu.worker_mib) * MIB
    return Overhead(
        activation=Term(
            likely_bytes=activation_bytes,
            low_bytes=activation_bytes // 2,
            high_bytes=activation_bytes * 2,
            provenance="extrapolated",
        ),
        non_torch=Term(
            likely_bytes=non_torch,
            low_bytes=int(non_torch * cpu.low),
            high_bytes=int(non_torch * cpu.high),
            provenance="calibrated",
        ),
        cuda_graph=NOTHING,
    )

"""Overhead table: the constants of `catalogue/overhead.yaml`, and which of them belong to a version and a model.

Which of its two model runners vLLM uses decides what start-up profiles and what the CUDA graphs cost, so it is decided
here, from vLLM's own rule per version (vllm/config/vllm.py, use_v2_model_runner).
"""

from functools import cache
from typing import Literal

from sizing.catalogue import catalogue_document
from sizing.documents import Part
from sizing.errors import UnknownFact
from sizing.model_shape import Experts, ModelFacts

Runner = Literal["v1", "v2"]


class RunnerRow(Part):
    """Which models get the second model runner from a version on."""

    from_version: str
    models: Literal["all", "dense"] | tuple[str, ...]
    but_not: tuple[str, ...] = ()
    unquantised_only: bool = False


class Profile(Part):
    """Constants of the profile run."""

    hidden_copies: float
    image_hidden_copies: float
    sampler_bytes: dict[Runner, float]
    fixed_mib: int
    split_extra_copies: float
    soft_cap_copies: float
    warm_low: float
    cold_high: float
    image_low: float
    image_high: float


class RunnerTerm(Part):
    """A constant term of one runner."""

    runner: Runner
    mib: int
    low: float
    high: float


class PeersTerm(Part):
    """Buffers between ranks, by the GPU's generation; no majors means every other GPU."""

    capability_majors: tuple[int, ...]
    mib: int
    low: float
    high: float


class GraphTerm(Part):
    """What CUDA graphs take from the budget."""

    runner: Runner
    from_version: str
    base_mib: int
    mib_per_layer: float
    all_graphs_count: int
    low: float
    high: float


class UnifiedMemory(Part):
    """Noise of a GPU that shares the host's memory."""

    mib: int
    noise_ratio: float


class CudaTable(Part):
    """Everything for GPUs."""

    context_mib: int
    profile: Profile
    penalties_bytes: float
    non_torch: tuple[RunnerTerm, ...]
    tower_high_mib: int
    linear_attention_high_mib: int
    blackwell_mib: int
    peers: tuple[PeersTerm, ...]
    cuda_graph: tuple[GraphTerm, ...]
    unified_memory: UnifiedMemory


class CpuTable(Part):
    """Everything for CPUs."""

    processes_mib: int
    worker_mib: int
    low: float
    high: float


class OverheadTable(Part):
    """The whole file."""

    runners: tuple[RunnerRow, ...]
    cuda: CudaTable
    cpu: CpuTable


@cache
def overhead_table() -> OverheadTable:
    """The constants."""
    return OverheadTable.model_validate(catalogue_document("overhead.yaml"))


@cache
def version_key(version: str) -> tuple[int, ...]:
    """A version as numbers: 0.19.2rc1 counts as 0.19.2."""
    numbers: list[int] = []
    for part in version.partition("+")[0].split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        numbers.append(int(digits))
    if not numbers:
        raise UnknownFact(f'vLLM version "{version}" is not of the form 0.32.0')
    return tuple(numbers)


def runner_of(model: ModelFacts, vllm_version: str) -> Runner:
    """The model runner that this version uses for this model."""
    for row in overhead_table().runners:
        if version_key(vllm_version) >= version_key(row.from_version):
            return "v2" if _is_meant(row, model) else "v1"
    return "v1"


def routed_experts(model: ModelFacts) -> Experts | None:
    """The experts of the first layer that has any."""
    return next((one.experts for one in model.feed_forwards if one.experts is not None), None)


def graph_term(runner: Runner, vllm_version: str) -> GraphTerm | None:
    """How CUDA graphs are subtracted; None where this version subtracts nothing."""
    for row in overhead_table().cuda.cuda_graph:
        if row.runner == runner and version_key(vllm_version) >= version_key(row.from_version):
            return row
    return None


def peers_term(capability_major: int | None) -> PeersTerm:
    """Buffers between ranks on GPUs of this generation."""
    rows = overhead_table().cuda.peers
    return next((row for row in rows if capability_major in row.capability_majors), rows[-1])


def _is_meant(row: RunnerRow, model: ModelFacts) -> bool:
    if row.models == "all":
        return True
    if row.models == "dense":
        dense = routed_experts(model) is None and model.gated_delta_net is None
        return dense and model.architecture not in row.but_not
    return model.architecture in row.models and not (row.unquantised_only and model.quantization is not None)

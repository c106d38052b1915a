"""Overhead: what a rank needs beside weights and KV cache. Activation peak, memory outside torch, CUDA graphs.

    forward    = max_num_batched_tokens x (3 x hidden + 3 x intermediate / ranks) x element bytes
    sampler    = max_num_seqs x vocabulary x bytes        (counts for penalties, logits)
    images     = images in one batch x patches x (4 x hidden + 2 x intermediate) x element bytes
    activation = forward + sampler, or images where they need more than the forward pass
    non torch  = base, plus buffers of the collective operations of more than one rank
    graphs     = base + per layer x captured sizes, nothing when eager

vLLM measures these at start-up; nobody can compute them. The constants are calibrated on published start-up logs and
live with the rows they come from in `catalogue/overhead.yaml`; each term carries an interval.
"""

from dataclasses import dataclass
from functools import cache
from typing import Literal

from sizing.catalogue import catalogue_document
from sizing.device import Device
from sizing.documents import Part
from sizing.model_shape import ModelFacts
from sizing.units import MIB

Provenance = Literal["exact", "calibrated", "extrapolated"]


class _Term(Part):
    low: float
    high: float
    rows: tuple[str, ...] = ()


class _NonTorch(_Term):
    base_mib: int
    tensor_parallel_mib: int


class _Activation(_Term):
    bytes_per_sequence_and_vocabulary: float
    hidden_copies: float
    image_copies_of_hidden: float


class _CudaGraph(_Term):
    base_mib: int
    mib_per_layer: float
    all_sizes_count: int


class _Cuda(Part):
    context_mib: int
    non_torch: _NonTorch
    activation: _Activation
    cuda_graph: _CudaGraph


class _Cpu(Part):
    processes_mib: int
    worker_mib: int
    low: float
    high: float


class _OverheadTable(Part):
    cuda: _Cuda
    cpu: _Cpu


@cache
def _table() -> _OverheadTable:
    return _OverheadTable.model_validate(catalogue_document("overhead.yaml"))


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


def context_bytes(device: Device) -> int:
    """What a CUDA context takes from the device before vLLM looks at its free memory."""
    return _table().cuda.context_mib * MIB if device.accelerator == "cuda" else 0


def overhead_of(
    model: ModelFacts,
    device: Device,
    *,
    shards: int,
    stage_layer_count: int,
    max_num_batched_tokens: int,
    max_num_seqs: int,
    element_bytes: int,
    enforce_eager: bool,
    multimodal: bool,
    whole_engine: bool,
) -> Overhead:
    """The terms of one rank. `whole_engine` (CPU): count every process of the engine, not the worker alone."""
    forward = _forward_bytes(model, shards, max_num_batched_tokens, element_bytes)
    images = _image_bytes(model, max_num_batched_tokens, element_bytes) if multimodal else 0
    sampler = _table().cuda.activation.bytes_per_sequence_and_vocabulary * max_num_seqs * model.vocabulary_size
    activation_bytes = int(max(forward, images) + sampler)
    if device.accelerator == "cpu":
        return _cpu_overhead(activation_bytes, whole_engine=whole_engine)
    cuda = _table().cuda
    non_torch_mib = cuda.non_torch.base_mib + (cuda.non_torch.tensor_parallel_mib if shards > 1 else 0)
    sizes_ratio = captured_size_count(max_num_seqs) / cuda.cuda_graph.all_sizes_count
    graph_mib = cuda.cuda_graph.base_mib + cuda.cuda_graph.mib_per_layer * stage_layer_count * sizes_ratio
    return Overhead(
        activation=_term(
            activation_bytes, cuda.activation, provenance="extrapolated" if images > forward else "calibrated"
        ),
        non_torch=_term(non_torch_mib * MIB, cuda.non_torch),
        cuda_graph=NOTHING if enforce_eager else _term(int(graph_mib * MIB), cuda.cuda_graph),
    )


def captured_size_count(max_num_seqs: int) -> int:
    """How many batch sizes vLLM captures: 1, 2, 4, 8..256 step 8, then step 16, up to twice max_num_seqs and 512
    (vllm/config/vllm.py:2299-2484, 0.32.0)."""
    largest = min(2 * max_num_seqs, 512)
    sizes = [1, 2, 4, *range(8, 256, 8), *range(256, 513, 16)]
    return sum(1 for size in sizes if size <= largest)


def _forward_bytes(model: ModelFacts, shards: int, max_num_batched_tokens: int, element_bytes: int) -> float:
    copies = _table().cuda.activation.hidden_copies
    per_token = copies * model.hidden_size + 3 * model.intermediate_size / shards
    return max_num_batched_tokens * per_token * element_bytes


def _image_bytes(model: ModelFacts, max_num_batched_tokens: int, element_bytes: int) -> float:
    """The profile run encodes as many images as one batch of tokens can hold (vllm/multimodal budget, 0.32.0)."""
    if model.vision is None:
        return 0
    tower = model.vision
    image_count = max(1, max_num_batched_tokens // tower.tokens_per_image)
    patch_count = (tower.image_size // tower.patch_size) ** 2
    per_patch = _table().cuda.activation.image_copies_of_hidden * tower.hidden_size + 2 * tower.intermediate_size
    return image_count * patch_count * per_patch * element_bytes


def _cpu_overhead(activation_bytes: int, *, whole_engine: bool) -> Overhead:
    cpu = _table().cpu
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


def _term(likely_bytes: int, row: _Term, *, provenance: Provenance = "calibrated") -> Term:
    return Term(
        likely_bytes=likely_bytes,
        low_bytes=int(likely_bytes * row.low),
        high_bytes=int(likely_bytes * row.high),
        provenance=provenance,
    )

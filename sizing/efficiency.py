"""Efficiency: how much of a device's bandwidth and arithmetic vLLM reaches, by family, weight format, ranks and batch.

The rows are `catalogue/efficiency.yaml`, each with its source; nothing is fitted to a model. A device that nobody
measured gets the row of the family that is nearest in kind, and a wider interval.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from sizing.catalogue import catalogue_document
from sizing.device import Device, GpuFacts, find_gpu, known_gpus
from sizing.documents import Part
from sizing.errors import UnknownFact
from sizing.step_bytes import WeightFormat

GIGA, TERA, MICRO = 1e9, 1e12, 1e-6

MOST_OF_THE_PEAK = 0.9
"""No power budget takes large matrices beyond this share of a peak."""


class FormatRow(Part):
    """One weight format: what part of the bandwidth a small batch reads it with, what part of the peak a large batch
    multiplies it with, and the smallest number of tokens at which the peak is reached."""

    bandwidth_ratio: float
    operations_ratio: float
    source: str


class FamilyRow(Part):
    """One family of devices."""

    name: str
    capabilities: tuple[tuple[int, int], ...] = ()
    accelerator: str = "cuda"
    formats: dict[WeightFormat, FormatRow]
    cache_bandwidth_ratio: float
    attention_ratio: float
    layer_us: float
    mixed_layer_us: float
    expert_layer_us: float
    expert_ratio: float
    measured_on: str | None = None
    interval: tuple[float, float] | None = None
    measured: bool
    source: str


class LinkRow(Part):
    """Between ranks: how one all-reduce costs."""

    kind: str
    reduce_us: float
    bandwidth_ratio: float
    source: str


class HostRow(Part):
    """What the scheduler, the sampler's caller and the detokenizer take of each step, and of each request in it."""

    step_us: float
    request_us: float
    source: str


class CpuRow(Part):
    """A processor that nobody measured."""

    bandwidth_gb_s: float
    tera_operations: float


class IntervalRows(Part):
    """Seen time to stated time, low and high, in eight cases of ten: where the family was measured, where it is judged
    by its neighbour, and where the catalogue does not know the GPU. `first_token` comes on top of them for times to
    first token. tools/fit_intervals.py makes them."""

    measured: tuple[float, float]
    unmeasured_family: tuple[float, float]
    unknown_gpu: tuple[float, float]
    first_token: tuple[float, float]


class EfficiencyTable(Part):
    """The whole file."""

    sources: dict[str, str]
    families: tuple[FamilyRow, ...]
    links: tuple[LinkRow, ...]
    host: HostRow
    overlap_power: float
    pcie_gb_s: dict[int, float]
    intervals: IntervalRows
    cpu: CpuRow


@dataclass(frozen=True, kw_only=True)
class Peaks:
    """What a device could do at best: bytes a second, operations a second by weight format, bytes a second one way to
    its peers; `known` says whether the catalogue has them. `watts`: what the card may draw, None where nobody says."""

    bandwidth: float
    operations: dict[WeightFormat, float]
    link: float
    link_kind: str
    known: bool
    watts: float | None = None

    def operations_at(self, stored: WeightFormat, family: "FamilyRow") -> float:
        """Operations a second that large matrices reach, see `power_ratio`."""
        ratio = family.formats[stored].operations_ratio * self.power_ratio(family)
        return self.operations[stored] * min(ratio, max(MOST_OF_THE_PEAK, family.formats[stored].operations_ratio))

    def power_ratio(self, family: "FamilyRow") -> float:
        """How much faster its clocks can run under load than those of the card that the family was measured on.

        Power goes with the cube of the clock (voltage follows it), so the clock goes with the cube root of the watts
        that there are for each operation of the peak.
        """
        if family.measured_on is None or self.watts is None:
            return 1.0
        reference = find_gpu(family.measured_on)
        peak, watts = _half(reference), reference.tdp_w
        if not peak or not watts:
            return 1.0
        return float((self.watts / self.operations["plain"] * TERA * peak / watts) ** (1 / 3))


_table: list[EfficiencyTable] = []


def efficiency_table() -> EfficiencyTable:
    """The rows of the catalogue, or those that a fit tries out."""
    if not _table:
        _table.append(EfficiencyTable.model_validate(catalogue_document("efficiency.yaml")))
    return _table[0]


def use_table(table: EfficiencyTable) -> None:
    """Puts other rows in force, in this process; for tools/fit_efficiency.py."""
    _table[:] = [table]


def family_of(device: Device) -> FamilyRow:
    """The row of a device's family; the nearest older one where its capability is not listed."""
    rows = [row for row in efficiency_table().families if row.accelerator == device.accelerator]
    if device.accelerator == "cpu":
        return rows[0]
    capability = device.compute_capability or (8, 0)
    exact = next((row for row in rows if capability in row.capabilities), None)
    if exact is not None:
        return exact
    older = [row for row in rows if min(row.capabilities) <= capability]
    nearest = max(older or rows, key=lambda row: max(row.capabilities))
    return nearest.model_copy(update={"measured": False})


def peaks_of(device: Device) -> Peaks:
    """The peaks of a device, from the GPU catalogue, or guessed from its memory and its generation."""
    table = efficiency_table()
    if device.accelerator == "cpu":
        operations = table.cpu.tera_operations * TERA
        formats: dict[WeightFormat, float] = dict.fromkeys(("plain", "fp8", "fp8_block", "int4", "nvfp4"), operations)
        bandwidth = table.cpu.bandwidth_gb_s * GIGA
        return Peaks(bandwidth=bandwidth, operations=formats, link=bandwidth, link_kind="memory", known=False)
    try:
        row, known = find_gpu(device.name), True
    except UnknownFact:
        row, known = like_device(device, known_gpus()), False
    if row.memory_bandwidth_gb_s is None or _half(row) is None:
        row, known = like_device(device, known_gpus()), False
    half = (_half(row) or 0.0) * TERA
    eight = (row.fp8_dense_tflops or 0.0) * TERA or half
    four = (row.fp4_dense_tflops or 0.0) * TERA or half
    nvlink = row.nvlink_gb_s_total_bidir or 0.0
    return Peaks(
        bandwidth=(row.memory_bandwidth_gb_s or 0.0) * GIGA * _part_of(row, device),
        operations={"plain": half, "fp8": eight, "fp8_block": eight, "int4": half, "nvfp4": four},
        link=(nvlink / 2 if nvlink else table.pcie_gb_s[row.pcie_gen or 4]) * GIGA,
        link_kind="nvlink" if nvlink else "pcie",
        known=known,
        watts=row.tdp_w if known else None,
    )


def interval_of(device: Device, family: FamilyRow, peaks: Peaks, *, eager: bool) -> tuple[float, float]:
    """How far times on a device may lie from what is stated; without CUDA graphs nothing was measured."""
    rows = efficiency_table().intervals
    if family.interval is not None or device.accelerator == "cpu":
        return family.interval or rows.unknown_gpu
    if not peaks.known:
        return rows.unknown_gpu
    return rows.measured if family.measured and not eager else rows.unmeasured_family


def link_row(kind: str) -> LinkRow:
    """What an all-reduce costs over a link of this kind."""
    return next(row for row in efficiency_table().links if row.kind == kind)


def _half(row: GpuFacts) -> float | None:
    return row.bf16_dense_tflops or row.fp16_dense_tflops


def _part_of(row: GpuFacts, device: Device) -> float:
    """A part of a card (MIG) has about that part of its bandwidth."""
    if row.memory_total_mib is None or "MIG" not in device.name:
        return 1.0
    return min(1.0, device.memory_total_bytes / (row.memory_total_mib * 2**20))


def like_device(device: Device, known: Sequence[GpuFacts]) -> GpuFacts:
    """A made-up card: bandwidth and arithmetic in the ratio to memory that the known cards of its generation have."""
    major = device.compute_capability[0] if device.compute_capability else 8
    rows = [row for row in known if row.memory_total_mib and row.memory_bandwidth_gb_s and _half(row)]
    like = [row for row in rows if row.compute_capability[0] == major] or rows
    gib = device.memory_total_bytes / 2**30
    per_gib = median((row.memory_bandwidth_gb_s or 0.0) / (row.memory_total_mib or 1) * 1024 for row in like)
    nearest = min(like, key=lambda row: abs((row.memory_total_mib or 0) / 1024 - gib))
    return nearest.model_copy(update={"memory_bandwidth_gb_s": per_gib * gib})

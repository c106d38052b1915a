"""Islands: which GPUs of a host are equal, which of them NVLink joins, and the groups that one engine may take.

An engine runs on equal GPUs only: the smallest would set the pace and the memory of all. Tensor parallel stays inside
one NVLink island; across PCIe the layers are split instead (pipeline parallel), as vLLM's own guide advises for GPUs
without NVLink (docs.vllm.ai, serving/parallelism_scaling). Tensor parallel across PCIe works and is slower: it is
offered last, or first where latency is the objective.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from sizing.device import Device, known_gpus
from sizing.hardware import Gpu, Hardware
from sizing.units import MIB, round_up

CO_TENANT_STEP_BYTES = 256 * MIB
"""Memory in use is counted in steps of this size, so that GPUs which differ by crumbs stay equal."""

BOARD_NVLINK_GB_S = 300
"""From V100 SXM2 on, boards with at least this much NVLink join all their GPUs; bridges between PCIe cards are
optional and count only where the probe saw them."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """How one engine is spread: ranks that split each layer, times stages that split the layers."""

    tensor: int
    pipeline: int = 1
    across_pcie: bool = False

    @property
    def gpu_count(self) -> int:
        return self.tensor * self.pipeline


@dataclass(frozen=True, kw_only=True)
class Pool:
    """Equal devices of one host, by position in its list of GPUs; a processor is one device at position 0.

    `joinable`: one engine may take several of them; MIG devices cannot exchange tensors. `host_count`: so many equal
    hosts, where one asks what to buy; an engine stays on one of them.
    """

    device: Device
    islands: tuple[tuple[int, ...], ...]
    joinable: bool = True
    host_count: int = 1

    @property
    def device_count(self) -> int:
        return sum(len(island) for island in self.islands)

    @property
    def island_sizes(self) -> tuple[int, ...]:
        """What the candidates depend on: sizes, largest first."""
        return tuple(sorted((len(island) for island in self.islands), reverse=True))


class FreeDevices:
    """What is left of a pool while engines are placed."""

    def __init__(self, pool: Pool) -> None:
        self.device = pool.device
        self._islands = [list(island) for island in pool.islands]

    @property
    def count(self) -> int:
        return sum(len(island) for island in self._islands)

    @property
    def island_sizes(self) -> tuple[int, ...]:
        return tuple(sorted((len(island) for island in self._islands if island), reverse=True))

    def take(self, shape: Shape) -> tuple[int, ...] | None:
        """Neighbouring devices for one engine, from the tightest island that has them; None if there are none."""
        if shape.across_pcie:
            free = sorted(position for island in self._islands for position in island)
            return self._without(free[: shape.gpu_count]) if len(free) >= shape.gpu_count else None
        taken: list[int] = []
        rest = [list(island) for island in self._islands]
        for _ in range(shape.pipeline):
            roomy = [island for island in rest if len(island) >= shape.tensor]
            if not roomy:
                return None
            tightest = min(roomy, key=lambda island: (len(island), island))
            taken += tightest[: shape.tensor]
            del tightest[: shape.tensor]
        return self._without(taken)

    def _without(self, taken: Sequence[int]) -> tuple[int, ...]:
        self._islands = [[one for one in island if one not in taken] for island in self._islands]
        return tuple(taken)


def engine_slots(island_sizes: Sequence[int], shape: Shape) -> int:
    """How many engines of one shape the islands carry at once."""
    if shape.across_pcie:
        return sum(island_sizes) // shape.gpu_count
    return sum(size // shape.tensor for size in island_sizes) // shape.pipeline


def tensor_shapes(island_sizes: Sequence[int]) -> Iterator[Shape]:
    """Every number of ranks inside one island, powers of two or not: the model's heads decide."""
    for tensor in range(1, max(island_sizes, default=0) + 1):
        yield Shape(tensor=tensor)


def wider_shapes(island_sizes: Sequence[int], workable: Sequence[int], *, pipeline: bool) -> Iterator[Shape]:
    """What lies beyond one island, or beyond the largest split of the heads that works inside it.

    `workable`: tensor-parallel sizes that the model takes. For each number of GPUs the widest split wins.
    """
    largest, total = max(workable, default=0), sum(island_sizes)
    if pipeline:
        widest: dict[int, Shape] = {}
        for tensor in sorted(workable):
            stages = sum(size // tensor for size in island_sizes)
            for count in range(2, stages + 1):
                if tensor * count > largest:
                    widest[tensor * count] = Shape(tensor=tensor, pipeline=count)
        yield from (widest[gpu_count] for gpu_count in sorted(widest))
    for tensor in range(max(island_sizes, default=0) + 1, total + 1):
        yield Shape(tensor=tensor, across_pcie=True)


def pools_of(hardware: Hardware, *, co_tenants_stay: bool = False) -> tuple[Pool, ...]:
    """The kinds of GPU of a host, in the order of their first GPU; a host without GPUs is one pool of its processor."""
    if hardware.accelerator == "cpu":
        return (Pool(device=Device.of_cpu(hardware), islands=((0,),)),)
    kinds: dict[Device, list[int]] = {}
    for position, gpu in enumerate(hardware.gpus):
        device = Device.of_gpu(gpu)
        used_bytes = round_up(gpu.co_tenant_bytes, CO_TENANT_STEP_BYTES) if co_tenants_stay else 0
        used_bytes = min(used_bytes, device.memory_usable_bytes)
        kinds.setdefault(replace(device, memory_used_bytes=used_bytes), []).append(position)
    return tuple(
        Pool(
            device=device,
            islands=tuple(_islands(hardware, positions)),
            joinable=not any(hardware.gpus[position].mig for position in positions),
        )
        for device, positions in kinds.items()
    )


def pool_of_catalogue(gpu: Gpu, count: int) -> Pool:
    """A number of equal GPUs that nobody measured: one island where their board has NVLink."""
    everyone = tuple(range(count))
    islands = (everyone,) if _board_has_nvlink(gpu.name) else tuple((one,) for one in everyone)
    return Pool(device=Device.of_gpu(gpu), islands=islands)


def _islands(hardware: Hardware, positions: Sequence[int]) -> list[tuple[int, ...]]:
    """Equal GPUs joined by NVLink; boards that always have it are one island where the probe saw no peers at all."""
    gpus = [hardware.gpus[position] for position in positions]
    if all(not gpu.nvlink_peers and not gpu.mig and _board_has_nvlink(gpu.name) for gpu in gpus):
        return [tuple(positions)]
    by_index = {gpu.index: position for gpu, position in zip(gpus, positions, strict=True)}
    joined = [
        tuple(sorted(by_index[index] for index in island if index in by_index)) for island in hardware.nvlink_islands()
    ]
    return [island for island in joined if island]


def _board_has_nvlink(name: str) -> bool:
    row = next((row for row in known_gpus() if name in (row.nvml_name, *row.aliases)), None)
    if row is None or (row.nvlink_gb_s_total_bidir or 0) < BOARD_NVLINK_GB_S:
        return False
    return not any(word in row.key.upper() for word in ("PCIE", "NVL"))

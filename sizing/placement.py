"""Placement: which engine runs on which devices of which host. Deterministic: same input, same plan.

GPU engines take neighbouring GPUs of one host (in NVML order, which follows the PCI bus). CPU engines share the
cores of their host evenly; when cores are left over, the lowest-numbered stay free for the API server processes
(vLLM's own `auto` binding reserves a core too: 0.32.0, v1/worker/cpu_worker.py).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sizing.device import Device
from sizing.errors import DoesNotFit, UnknownFact
from sizing.hardware import Hardware
from sizing.model_facts import ModelFacts
from sizing.request import ModelRequest, Objective, Quality
from sizing.units import ceil_div, gib_text
from sizing.vllm_options import Candidate, candidates_for
from sizing.wish import Wish


@dataclass(frozen=True, kw_only=True)
class Placed:
    """One engine on its devices."""

    request: ModelRequest
    host: str
    candidate: Candidate
    gpu_uuids: tuple[str, ...]
    cpu_cores: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Placement:
    """All engines of a site, with the reason for each choice and each rejection."""

    engines: tuple[Placed, ...]
    reasons: tuple[str, ...]
    rejections: tuple[str, ...]


class _Room:
    """What is still free on one host while engines are placed."""

    def __init__(self, host: str, hardware: Hardware) -> None:
        self.host = host
        self.hardware = hardware
        self.free_gpu_indices = list(range(len(hardware.gpus)))
        self.free_memory_bytes = Device.of_cpu(hardware).memory_usable_bytes
        self.engine_count = 0

    @property
    def device(self) -> Device:
        if self.hardware.accelerator == "cpu":
            return Device.of_cpu(self.hardware)
        return Device.of_gpu(self.hardware.gpus[0])

    @property
    def device_count(self) -> int:
        return 1 if self.hardware.accelerator == "cpu" else len(self.free_gpu_indices)


def place(
    requests: Sequence[tuple[ModelRequest, ModelFacts]],
    hardware: Mapping[str, Hardware],
    *,
    objective: Objective,
    quality: Quality,
) -> Placement:
    """Every replica of every model on a host that has room; raises DoesNotFit with the reason otherwise."""
    rooms = {host: _Room(host, measured) for host, measured in sorted(hardware.items())}
    chosen: list[tuple[ModelRequest, _Room, Candidate, tuple[str, ...]]] = []
    reasons: list[str] = []
    rejections: list[str] = []
    for request, facts in requests:
        wish = Wish(
            context_tokens=request.context_tokens,
            users_count=ceil_div(request.users, request.replicas),
            objective=objective,
            quality=quality,
        )
        for replica in range(request.replicas):
            room, candidate, refused = _roomiest(request, facts, rooms, wish)
            rejections.extend(line for line in refused if line not in rejections)
            chosen.append((request, room, candidate, _take(room, candidate)))
            reasons.append(_reason(request, replica, room, candidate))
    cores = {room.host: _cores_per_engine(room) for room in rooms.values()}
    engines = []
    for request, room, candidate, gpu_uuids in chosen:
        cpu_cores = cores[room.host].pop(0) if not gpu_uuids else ()
        engines.append(
            Placed(request=request, host=room.host, candidate=candidate, gpu_uuids=gpu_uuids, cpu_cores=cpu_cores)
        )
    return Placement(engines=tuple(engines), reasons=tuple(reasons), rejections=tuple(rejections))


def _roomiest(
    request: ModelRequest, facts: ModelFacts, rooms: Mapping[str, _Room], wish: Wish
) -> tuple[_Room, Candidate, list[str]]:
    """The host with the fewest engines that can carry one more of this model, and its best candidate."""
    refused: list[str] = []
    for room in sorted(_allowed(request, rooms), key=lambda room: (room.engine_count, room.host)):
        if room.hardware.accelerator == "cpu" and room.engine_count >= len(room.hardware.cpu.cores):
            refused.append(f"{room.host}: {request.name}: each of its CPU cores carries an engine already")
            continue
        if room.device_count == 0:
            refused.append(f"{room.host}: {request.name}: no GPU is left")
            continue
        chosen: Candidate | None = None
        for candidate in candidates_for(facts, room.device, device_count=room.device_count, wish=wish):
            rejection = candidate.rejection or _memory_shortage(room, candidate)
            if rejection:
                refused.append(f"{room.host}: {request.name}: {rejection}")
            elif chosen is None:
                chosen = candidate
        if chosen is not None:
            return room, chosen, refused
    raise DoesNotFit(f"no host can carry {request.name}: " + "; ".join(dict.fromkeys(refused)))


def _allowed(request: ModelRequest, rooms: Mapping[str, _Room]) -> list[_Room]:
    for host in request.hosts or ():
        if host not in rooms:
            raise UnknownFact(f"{request.name} asks for host {host}; group engines has {', '.join(rooms)}")
    return [rooms[host] for host in (request.hosts or rooms)]


def _memory_shortage(room: _Room, candidate: Candidate) -> str | None:
    if room.hardware.accelerator == "cuda":
        return None
    needed_bytes = candidate.answer.per_gpu.requested_bytes
    if needed_bytes <= room.free_memory_bytes:
        return None
    return f"needs {gib_text(needed_bytes)} of memory; {gib_text(room.free_memory_bytes)} are left"


def _take(room: _Room, candidate: Candidate) -> tuple[str, ...]:
    room.engine_count += 1
    if room.hardware.accelerator == "cpu":
        room.free_memory_bytes -= candidate.answer.per_gpu.requested_bytes
        return ()
    shards = candidate.configuration.tensor_parallel_size
    taken, room.free_gpu_indices = room.free_gpu_indices[:shards], room.free_gpu_indices[shards:]
    return tuple(room.hardware.gpus[index].uuid for index in taken)


def _cores_per_engine(room: _Room) -> list[tuple[int, ...]]:
    """An even share of the host's cores for each of its CPU engines; what is left over stays free at the low end."""
    if room.hardware.accelerator == "cuda" or room.engine_count == 0:
        return []
    cores = room.hardware.cpu.cores
    spare = 1 if len(cores) > room.engine_count else 0
    share = (len(cores) - spare) // room.engine_count
    used = cores[len(cores) - share * room.engine_count :]
    return [used[start : start + share] for start in range(0, len(used), share)]


def _reason(request: ModelRequest, replica: int, room: _Room, candidate: Candidate) -> str:
    answer = candidate.answer
    shards = candidate.configuration.tensor_parallel_size
    devices = f"{shards} x {room.device.name}" if room.hardware.accelerator == "cuda" else f"CPU {room.device.name}"
    return (
        f"{request.name}, replica {replica + 1} of {request.replicas}: {room.host}, {devices}: "
        f"{answer.kv_cache_tokens:,} tokens of KV cache hold {answer.max_concurrency:.1f} requests of "
        f"{answer.at_tokens:,} tokens at once"
    )

"""Placement: which engine runs on which devices of which host. Deterministic: same input, same plan.

GPU engines take neighbouring equal GPUs of one host (in NVML order, which follows the PCI bus). CPU engines share the
cores of their host evenly; when cores are left over, the lowest-numbered stay free for the API server processes
(vLLM's own `auto` binding reserves a core too: 0.32.0, v1/worker/cpu_worker.py).

Models are placed in the order of the request; where that leaves one without room, again with the largest first.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sizing.candidates import Candidate, candidates_for, rank_of
from sizing.changes import changes_for, changes_text
from sizing.device import Device
from sizing.errors import DoesNotFit, UnknownFact
from sizing.hardware import Hardware
from sizing.islands import FreeDevices, Pool, pools_of
from sizing.model_facts import ModelFacts
from sizing.reasons import devices_text
from sizing.request import ModelRequest, Objective, Quality
from sizing.site_wish import wish_of
from sizing.units import gib_text
from sizing.wish import Wish

REASONS_PER_REFUSAL = 12
"""A refusal names at most so many things that were tried: it is read on one line."""


@dataclass(frozen=True, kw_only=True)
class Placed:
    """One engine on its devices."""

    request: ModelRequest
    host: str
    candidate: Candidate
    gpu_uuids: tuple[str, ...]
    cpu_cores: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Weighed:
    """What was weighed for one model: the wish of each engine, and every candidate of every kind of device."""

    request: ModelRequest
    model_name: str
    wish: Wish
    candidates: tuple[Candidate, ...]


@dataclass(frozen=True, kw_only=True)
class Placement:
    """All engines of a site, with the reason for each choice and each rejection."""

    engines: tuple[Placed, ...]
    weighed: tuple[Weighed, ...]
    reasons: tuple[str, ...]
    rejections: tuple[str, ...]


class _Room:
    """What is still free on one host while engines are placed."""

    def __init__(self, host: str, hardware: Hardware, pools: Sequence[Pool]) -> None:
        self.host = host
        self.hardware = hardware
        self.free = [FreeDevices(pool) for pool in pools]
        self.free_memory_bytes = Device.of_cpu(hardware).memory_usable_bytes
        self.engine_count = 0

    @property
    def on_cpu(self) -> bool:
        return self.hardware.accelerator == "cpu"


class _Site:
    """The rooms of a site, and the candidates of every kind of device, computed once for all hosts that have it."""

    def __init__(self, hardware: Mapping[str, Hardware]) -> None:
        self._hardware = dict(sorted(hardware.items()))
        self._pools = {host: pools_of(measured) for host, measured in self._hardware.items()}
        self._largest: dict[Device, Pool] = {}
        for pools in self._pools.values():
            for pool in pools:
                known = self._largest.get(pool.device, pool)
                self._largest[pool.device] = max(known, pool, key=lambda one: (one.device_count, one.island_sizes))
        self._candidates: dict[tuple[str, Device], tuple[Candidate, ...]] = {}
        self.rooms: dict[str, _Room] = {}
        self.clear()

    def clear(self) -> None:
        """All hosts empty."""
        self.rooms = {host: _Room(host, self._hardware[host], pools) for host, pools in self._pools.items()}

    def candidates(self, request: ModelRequest, facts: ModelFacts, device: Device, wish: Wish) -> Sequence[Candidate]:
        """For one engine that holds the whole wish."""
        key = (request.name, device)
        if key not in self._candidates:
            self._candidates[key] = candidates_for(facts, self._largest[device], wish=wish, engines_at_most=1)
        return self._candidates[key]

    def pools_of(self, rooms: Sequence[_Room]) -> list[Pool]:
        """The largest pool of each kind of device in these rooms."""
        return [self._largest[device] for device in dict.fromkeys(free.device for room in rooms for free in room.free)]

    def weighed(self, request: ModelRequest, facts: ModelFacts, wish: Wish) -> Weighed:
        found = [one for (name, _), many in self._candidates.items() if name == request.name for one in many]
        return Weighed(
            request=request,
            model_name=facts.name,
            wish=wish,
            candidates=tuple(sorted(found, key=lambda candidate: rank_of(candidate, wish))),
        )


def place(
    requests: Sequence[tuple[ModelRequest, ModelFacts]],
    hardware: Mapping[str, Hardware],
    *,
    objective: Objective,
    quality: Quality,
) -> Placement:
    """Every replica of every model on a host that has room; raises DoesNotFit with the reason otherwise."""
    site = _Site(hardware)
    wishes = {request.name: wish_of(request, objective=objective, quality=quality) for request, _ in requests}
    try:
        return _place(requests, site, wishes)
    except DoesNotFit as as_requested:
        largest_first = sorted(requests, key=lambda one: -_demand(one, site, wishes[one[0].name]))
        if [one[0].name for one in largest_first] == [one[0].name for one in requests]:
            raise
        site.clear()
        try:
            return _place(largest_first, site, wishes)
        except DoesNotFit:
            raise as_requested from None


def _demand(one: tuple[ModelRequest, ModelFacts], site: _Site, wish: Wish) -> int:
    """The memory of the GPUs that the best candidate of a model takes; models on a CPU keep their order."""
    request, facts = one
    rooms = [room for room in _allowed(request, site.rooms) if not room.on_cpu]
    devices = dict.fromkeys(free.device for room in rooms for free in room.free)
    needs = [
        candidate.gpu_count * device.memory_usable_bytes
        for device in devices
        for candidate in site.candidates(request, facts, device, wish)
        if candidate.meets_the_wish
    ]
    return min(needs, default=0)


def _place(requests: Sequence[tuple[ModelRequest, ModelFacts]], site: _Site, wishes: Mapping[str, Wish]) -> Placement:
    chosen: list[tuple[ModelRequest, _Room, Candidate, tuple[str, ...]]] = []
    reasons: list[str] = []
    rejections: dict[str, None] = {}
    for request, facts in requests:
        checkpoint: str | None = None
        for replica in range(request.replicas):
            room, candidate, uuids, refused = _roomiest(request, facts, site, wishes[request.name], checkpoint)
            checkpoint = candidate.configuration.model.name
            rejections.update(dict.fromkeys(refused))
            chosen.append((request, room, candidate, uuids))
            reasons.append(_reason(request, replica, room, candidate))
    cores = {room.host: _cores_per_engine(room) for room in site.rooms.values()}
    engines = []
    for request, room, candidate, gpu_uuids in chosen:
        cpu_cores = cores[room.host].pop(0) if not gpu_uuids else ()
        engines.append(
            Placed(request=request, host=room.host, candidate=candidate, gpu_uuids=gpu_uuids, cpu_cores=cpu_cores)
        )
    return Placement(
        engines=tuple(engines),
        weighed=tuple(site.weighed(request, facts, wishes[request.name]) for request, facts in requests),
        reasons=tuple(reasons),
        rejections=tuple(rejections),
    )


def _roomiest(
    request: ModelRequest, facts: ModelFacts, site: _Site, wish: Wish, checkpoint: str | None
) -> tuple[_Room, Candidate, tuple[str, ...], list[str]]:
    """The host with the fewest engines that can carry one more of this model, and its best candidate there.

    `checkpoint`: what the model's first engine serves; all engines of a model serve the same.
    """
    refused: dict[str, None] = {}
    for room in sorted(_allowed(request, site.rooms), key=lambda room: (room.engine_count, room.host)):
        if room.on_cpu and room.engine_count >= len(room.hardware.cpu.cores):
            refused[f"{room.host}: {request.name}: each of its CPU cores carries an engine already"] = None
            continue
        if not any(free.count for free in room.free):
            refused[f"{room.host}: {request.name}: no GPU is left"] = None
            continue
        ranked = sorted(
            (
                (candidate, free)
                for free in room.free
                if free.count
                for candidate in site.candidates(request, facts, free.device, wish)
                if checkpoint in (None, candidate.configuration.model.name)
            ),
            key=lambda pair: rank_of(pair[0], wish),
        )
        taken: tuple[Candidate, tuple[str, ...]] | None = None
        for candidate, free in ranked:
            rejection = candidate.rejection or _memory_shortage(room, candidate)
            if not rejection and taken is None:
                uuids = _take(room, free, candidate)
                if uuids is not None:
                    taken = candidate, uuids
                    continue
                rejection = (
                    f"{free.count} x {free.device.name} are left; it takes {devices_text(candidate.configuration)}"
                )
            if rejection:
                refused[f"{room.host}: {request.name}: {rejection}"] = None
        if taken is not None:
            return room, *taken, list(refused)
    tried = "; ".join(list(refused)[:REASONS_PER_REFUSAL])
    raise DoesNotFit(f"no host can carry {request.name}: {tried}{_what_would(request, facts, site, wish)}")


def _what_would(request: ModelRequest, facts: ModelFacts, site: _Site, wish: Wish) -> str:
    """The end of a refusal: what would meet the wish, or that there is too little of what does."""
    pools = site.pools_of(_allowed(request, site.rooms))
    if any(pool.device.accelerator == "cpu" for pool in pools):
        return ""
    if any(one.meets_the_wish for pool in pools for one in site.candidates(request, facts, pool.device, wish)):
        return f"; ask for fewer than {request.replicas} replicas, or add a host"
    return f"; {changes_text(changes_for(facts, pools, wish, engines_at_most=1))}"


def _allowed(request: ModelRequest, rooms: Mapping[str, _Room]) -> list[_Room]:
    for host in request.hosts or ():
        if host not in rooms:
            raise UnknownFact(f"{request.name} asks for host {host}; group engines has {', '.join(rooms)}")
    return [rooms[host] for host in (request.hosts or rooms)]


def _memory_shortage(room: _Room, candidate: Candidate) -> str:
    needed_bytes = candidate.answer.per_gpu.requested_bytes
    if not room.on_cpu or needed_bytes <= room.free_memory_bytes:
        return ""
    return f"needs {gib_text(needed_bytes)} of memory; {gib_text(room.free_memory_bytes)} are left"


def _take(room: _Room, free: FreeDevices, candidate: Candidate) -> tuple[str, ...] | None:
    """The GPUs of one engine, none on a CPU; None where its GPUs are not free."""
    if room.on_cpu:
        room.free_memory_bytes -= candidate.answer.per_gpu.requested_bytes
        room.engine_count += 1
        return ()
    positions = free.take(candidate.shape)
    if positions is None:
        return None
    room.engine_count += 1
    return tuple(room.hardware.gpus[position].uuid for position in positions)


def _cores_per_engine(room: _Room) -> list[tuple[int, ...]]:
    """An even share of the host's cores for each of its CPU engines; what is left over stays free at the low end."""
    if not room.on_cpu or room.engine_count == 0:
        return []
    cores = room.hardware.cpu.cores
    spare = 1 if len(cores) > room.engine_count else 0
    share = (len(cores) - spare) // room.engine_count
    used = cores[len(cores) - share * room.engine_count :]
    return [used[start : start + share] for start in range(0, len(used), share)]


def _reason(request: ModelRequest, replica: int, room: _Room, candidate: Candidate) -> str:
    answer = candidate.answer
    return (
        f"{request.name}, replica {replica + 1} of {request.replicas}: {room.host}, "
        f"{devices_text(candidate.configuration)}: "
        f"{answer.kv_cache_tokens:,} tokens of KV cache hold {answer.max_concurrency:.1f} requests of "
        f"{answer.at_tokens:,} tokens at once"
    )

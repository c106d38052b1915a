"""Candidates: the configurations worth trying for one model on one kind of device, each judged, best first.

Throughput wants the fewest GPUs (more engines fit), latency the widest split, context the largest KV cache.
Quality decides about FP8: `strict` runs the checkpoint that was asked for with a KV cache of its own number format;
`balanced` may also take the model's official FP8 release and an FP8 KV cache, where that saves GPUs or makes the wish
possible. With as many GPUs either way, the unquantised one wins.

Nothing here looks at a host: what is computed for one kind of device holds for every host that has it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from sizing.device import Device
from sizing.engine_settings import settings_of
from sizing.estimate import EngineConfiguration, Estimate, estimate
from sizing.islands import Pool, Shape, engine_slots, tensor_shapes, wider_shapes
from sizing.loaded import under_load
from sizing.model_facts import ModelFacts, known_models, load_model_facts
from sizing.prospect import Prospect
from sizing.reasons import rejection_of
from sizing.units import ceil_div
from sizing.vllm_options import batches_for, cpu_configuration, gpu_configuration, utilization_for
from sizing.wish import Wish

LENGTH_STEP_TOKENS = 256
"""A window that nobody asked for is rounded down to this, so that it is a number one can remember."""

SHORTEST_WINDOW_TOKENS = 2048
"""Shorter windows are not offered unasked: nobody serves chats in them."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """Equal engines of one configuration, and why they are not taken (`rejection` empty: they meet the wish).

    `capacity_count`: requests in flight that one engine holds. `prospect`: what people would see of them, where there
    is a demand; `shortfall_ratio`: by how much that is missed, 0 where it was not asked. A rejected candidate has all
    engines that there is room for.
    """

    configuration: EngineConfiguration
    answer: Estimate
    shape: Shape
    engine_count: int
    capacity_count: int
    rejection: str
    prospect: Prospect | None = None
    shortfall_ratio: float = 0.0

    @property
    def meets_the_wish(self) -> bool:
        return not self.rejection

    @property
    def gpu_count(self) -> int:
        """Over all engines."""
        return self.shape.gpu_count * self.engine_count

    @property
    def fp8_steps(self) -> int:
        """How much of it is FP8: nothing, the cache, the weights, both."""
        return int(self.configuration.kv_cache_dtype != "auto") + 2 * int(
            self.configuration.model.quantization is not None
        )


def candidates_for(
    model: ModelFacts, pool: Pool, *, wish: Wish, engines_at_most: int | None = None
) -> tuple[Candidate, ...]:
    """Every candidate on equal devices, best first; the ones that fail keep their reason.

    `engines_at_most` 1 asks for one engine that holds the whole wish.
    """
    if pool.device.accelerator == "cpu":
        return (loaded(_on_cpu(model, pool.device, wish), pool, wish, engines_at_most),)
    if utilization_for(pool.device) <= 0:
        return ()
    most = wish.users_count if engines_at_most is None else engines_at_most
    tried = [
        candidate
        for checkpoint in _checkpoints(model, wish)
        for kv_cache_dtype in (("auto", "fp8") if wish.quality == "balanced" else ("auto",))
        for candidate in _all_shapes(_Search(checkpoint, pool.device, wish, kv_cache_dtype), pool, most)
    ]
    judged = [loaded(candidate, pool, wish, engines_at_most) for candidate in tried]
    return tuple(sorted(judged, key=lambda candidate: rank_of(candidate, wish)))


def loaded(candidate: Candidate, pool: Pool, wish: Wish, engines_at_most: int | None = None) -> Candidate:
    """As many engines as the demand takes, or why they do not meet it; the same where there is no demand."""
    if wish.demand is None or not candidate.meets_the_wish:
        return candidate
    configuration, device = candidate.configuration, pool.device
    on_cpu = device.accelerator == "cpu"
    slots = (1 if on_cpu else engine_slots(pool.island_sizes, candidate.shape)) * pool.host_count

    def on_processor(in_flight: int) -> EngineConfiguration:
        return cpu_configuration(configuration.model, device, wish=replace(wish, users_count=in_flight))

    found = under_load(
        configuration,
        candidate.answer,
        wish.demand,
        fewest=candidate.engine_count,
        slots=slots if engines_at_most is None else min(slots, engines_at_most),
        configure=on_processor if on_cpu else None,
    )
    return replace(
        candidate,
        configuration=found.configuration,
        answer=found.answer,
        engine_count=found.engine_count,
        capacity_count=int(capacity_of(found.configuration, found.answer, wish.request_tokens)),
        rejection=found.rejection,
        prospect=found.prospect,
        shortfall_ratio=found.shortfall.ratio if found.shortfall else 0.0,
    )


def rank_of(candidate: Candidate, wish: Wish) -> tuple[float, ...]:
    """Sort key: what meets the wish first, then by the objective; of equal ones the GPU without co-tenants, then the
    smaller, which leaves the larger to those who need it. Where no window was asked for, the longest comes first."""
    shape, answer = candidate.shape, candidate.answer
    beyond_an_island = shape.pipeline > 1 or shape.across_pcie
    by_objective: tuple[float, ...] = {
        "throughput": (beyond_an_island, candidate.gpu_count, shape.across_pcie, candidate.fp8_steps, shape.gpu_count),
        "latency": (shape.pipeline, -shape.tensor, candidate.fp8_steps, candidate.gpu_count),
        "context": (-answer.kv_cache_tokens * candidate.engine_count, candidate.gpu_count, candidate.fp8_steps),
    }[wish.objective]
    if wish.objective == "latency" and candidate.prospect is not None:
        by_objective = (candidate.prospect.judged.e2e_seconds.mean, candidate.gpu_count, candidate.fp8_steps)
    if not candidate.meets_the_wish:
        return (1.0, float(answer.verdict == "refused"), shape.gpu_count, candidate.fp8_steps, shape.across_pcie)
    window = -answer.at_tokens if wish.context_tokens is None else 0
    share = candidate.configuration.gpu_memory_utilization or 0.0
    return (0.0, window, *by_objective, -share, candidate.configuration.device.memory_usable_bytes)


def fp8_release_of(model: ModelFacts) -> ModelFacts | None:
    """The model's official FP8 release, where the catalogue has one."""
    name = f"{model.name}-FP8"
    return load_model_facts(name) if model.quantization is None and name in known_models() else None


def capacity_of(configuration: EngineConfiguration, answer: Estimate, request_tokens: int | None) -> float:
    """Requests in flight of a usual length (None: the whole window)."""
    if answer.verdict != "fits":
        return 0.0
    if request_tokens is None or request_tokens >= answer.at_tokens:
        return answer.max_concurrency
    return answer.kv_cache_gpu_blocks / settings_of(configuration).geometry.blocks_per_request(request_tokens)


def _checkpoints(model: ModelFacts, wish: Wish) -> tuple[ModelFacts, ...]:
    release = fp8_release_of(model) if wish.quality == "balanced" else None
    return (model,) if release is None else (model, release)


def _on_cpu(model: ModelFacts, device: Device, wish: Wish) -> Candidate:
    return _judged(cpu_configuration(model, device, wish=wish), Shape(tensor=1), wish, engine_count=1)


def _judged(configuration: EngineConfiguration, shape: Shape, wish: Wish, *, engine_count: int) -> Candidate:
    answer = estimate(configuration)
    capacity = int(capacity_of(configuration, answer, wish.request_tokens))
    rejection = rejection_of(configuration, answer, wish, capacity_count=capacity, engine_count=engine_count)
    return Candidate(
        configuration=configuration,
        answer=answer,
        shape=shape,
        engine_count=engine_count,
        capacity_count=capacity,
        rejection=rejection,
    )


def _all_shapes(search: "_Search", pool: Pool, engines_at_most: int) -> Iterator[Candidate]:
    def best(shape: Shape) -> Candidate:
        return search.best(shape, min(engines_at_most, engine_slots(pool.island_sizes, shape) * pool.host_count))

    workable = []
    for shape in tensor_shapes(pool.island_sizes):
        candidate = best(shape)
        if candidate.answer.verdict != "refused":
            workable.append(shape.tensor)
        yield candidate
    if not pool.joinable:
        return
    pipeline = not any(layer.shares_cache for layer in search.model.attention_layers)
    yield from map(best, wider_shapes(pool.island_sizes, workable, pipeline=pipeline))


class _Search:
    """One checkpoint and one KV cache type on one kind of GPU: window, batch and number of engines for a shape."""

    def __init__(self, model: ModelFacts, device: Device, wish: Wish, kv_cache_dtype: str) -> None:
        self.model = model
        self.device = device
        self._wish = wish
        self._kv_cache_dtype = kv_cache_dtype

    def best(self, shape: Shape, slots: int) -> Candidate:
        """With vLLM's own batch; with a smaller one where that makes the wish possible or the window longer."""
        usual, *smaller = batches_for(self.device)
        best = self._fewest_engines(shape, slots, usual)
        memory = best.answer.per_gpu
        if best.answer.verdict == "refused" or memory.weights_bytes >= memory.requested_bytes:
            return best
        greedy = self._wish.objective == "context" or self._wish.context_tokens is None
        for batch_tokens in smaller if greedy or not best.meets_the_wish else ():
            other = self._fewest_engines(shape, slots, batch_tokens)
            if self._merit(other) > self._merit(best):
                best = other
        return best

    def _merit(self, candidate: Candidate) -> tuple[float, ...]:
        return (
            float(candidate.meets_the_wish),
            float(candidate.answer.at_tokens),
            float(candidate.capacity_count),
            float(candidate.answer.limits.max_model_len_tokens),
        )

    def _fewest_engines(self, shape: Shape, slots: int, batch_tokens: int) -> Candidate:
        """The smallest number of engines, up to `slots`, that holds the wished requests in flight."""
        configure = self._configurer(shape, batch_tokens)
        window = self._wish.context_tokens or self._longest_window(configure, shape, slots)
        most = _judged(configure(window, slots), shape, self._wish, engine_count=slots)
        if not most.meets_the_wish:
            return most
        for engine_count in range(ceil_div(self._wish.users_count, most.capacity_count), slots):
            fewer = _judged(configure(window, engine_count), shape, self._wish, engine_count=engine_count)
            if fewer.meets_the_wish:
                return fewer
        return most

    def _configurer(self, shape: Shape, batch_tokens: int) -> Callable[[int, int], EngineConfiguration]:
        def configure(window: int, engine_count: int) -> EngineConfiguration:
            return gpu_configuration(
                self.model,
                self.device,
                shape=shape,
                context_tokens=window,
                users_count=ceil_div(self._wish.users_count, max(1, engine_count)),
                kv_cache_dtype=self._kv_cache_dtype,
                max_num_batched_tokens=batch_tokens,
            )

        return configure

    def _longest_window(self, configure: Callable[[int, int], EngineConfiguration], shape: Shape, slots: int) -> int:
        """The longest window at which all engines together hold the wished requests; the shortest offered if none."""
        longest = self.model.max_model_len_tokens
        shortest = min(SHORTEST_WINDOW_TOKENS, longest)

        def holds(window: int) -> bool:
            return _judged(configure(window, slots), shape, self._wish, engine_count=slots).meets_the_wish

        if not holds(shortest):
            return shortest
        if holds(longest):
            return longest
        low, high = shortest // LENGTH_STEP_TOKENS, longest // LENGTH_STEP_TOKENS + 1
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if holds(middle * LENGTH_STEP_TOKENS) else (low, middle)
        return max(shortest, low * LENGTH_STEP_TOKENS)

"""Page figures: bars and curves of the recommendation page as numbers for its template; the template only draws.

The curve says how many requests of a length are in flight at once, for windows from short to the model's own, with
the cache that the engines have: blocks / blocks per request, the same arithmetic as everywhere.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import log2

from sizing.answer import PerGpu
from sizing.candidates import Candidate
from sizing.device import Device
from sizing.engine_settings import settings_of
from sizing.plan import EngineMemory
from sizing.units import gib_text

BAR_WIDTH = 1000
ROW_HEIGHT = 34

KINDS = (
    ("weights", "weights", "weights_bytes"),
    ("activation", "activations", "activation_bytes"),
    ("non-torch", "outside PyTorch", "non_torch_bytes"),
    ("graph", "CUDA graphs", "cuda_graph_bytes"),
    ("kv", "KV cache", "kv_cache_bytes"),
)
LEGEND = (
    *((kind, label) for kind, label, _ in KINDS),
    ("unused", "free"),
    ("others", "other processes"),
    ("reserve", "driver"),
)

CURVE_WIDTH, CURVE_HEIGHT = 520, 320
CURVE_LEFT, CURVE_RIGHT, CURVE_TOP, CURVE_BOTTOM = 58, 26, 12, 44
SHORTEST_LENGTH_TOKENS = 512
POINTS_PER_DOUBLING = 4
MOST_CURVES = 3


@dataclass(frozen=True, kw_only=True)
class Part:
    """One piece of a memory bar."""

    kind: str
    label: str
    text: str
    x: float
    width: float


@dataclass(frozen=True, kw_only=True)
class Tick:
    """A line of the curve's grid."""

    at: float
    text: str


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One candidate: its points as an SVG path."""

    label: str
    path: str
    number: int


@dataclass(frozen=True, kw_only=True)
class CurveFigure:
    """Context against requests in flight, both on a scale of doublings."""

    curves: tuple[Curve, ...]
    lengths: tuple[Tick, ...]
    counts: tuple[Tick, ...]
    wish: tuple[float, float] | None
    wish_text: str


def bar_parts(memory: PerGpu | EngineMemory | None, device: Device | None = None) -> tuple[Part, ...]:
    """The memory of one GPU from left to right; `device` adds what others hold and what the driver keeps."""
    sizes = [(kind, label, 0 if memory is None else int(getattr(memory, field))) for kind, label, field in KINDS]
    used = sum(size for _, _, size in sizes)
    if device is not None:
        sizes += [
            ("unused", "free", max(0, device.memory_usable_bytes - device.memory_used_bytes - used)),
            ("others", "other processes", device.memory_used_bytes),
            ("reserve", "driver", device.memory_total_bytes - device.memory_usable_bytes),
        ]
    elif memory is not None:
        sizes.append(("unused", "free", max(0, memory.usable_bytes - used)))
    scale_bytes = max(1, sum(size for _, _, size in sizes))
    parts, x = [], 0.0
    for kind, label, size in sizes:
        width = BAR_WIDTH * size / scale_bytes
        if size > 0:
            parts.append(Part(kind=kind, label=label, text=gib_text(size), x=x, width=width))
        x += width
    return tuple(parts)


def curve_figure(candidates: Sequence[tuple[str, Candidate]], *, wish: tuple[int, int] | None) -> CurveFigure | None:
    """The curves of the best candidates, and the wish (tokens, requests) as a point among them."""
    lines = []
    for label, candidate in list(candidates)[:MOST_CURVES]:
        points = list(_points(candidate))
        if len(points) > 1:
            lines.append((label, points))
    if not lines:
        return None
    everything = [point for _, points in lines for point in points] + ([wish] if wish else [])
    lengths = _Scale([point[0] for point in everything], CURVE_LEFT, CURVE_WIDTH - CURVE_RIGHT)
    counts = _Scale([point[1] for point in everything], CURVE_HEIGHT - CURVE_BOTTOM, CURVE_TOP)
    return CurveFigure(
        curves=tuple(
            Curve(label=label, path=_path((lengths.at(x), counts.at(y)) for x, y in points), number=number)
            for number, (label, points) in enumerate(lines, start=1)
        ),
        lengths=tuple(Tick(at=lengths.at(tick), text=_short(tick)) for tick in lengths.ticks()),
        counts=tuple(Tick(at=counts.at(tick), text=_short(tick)) for tick in counts.ticks()),
        wish=None if wish is None else (lengths.at(wish[0]), counts.at(wish[1])),
        wish_text="" if wish is None else f"wished: {wish[1]:,} requests of {wish[0]:,} tokens",
    )


class _Scale:
    """Doublings to positions; at least two doublings wide, so that nothing divides by zero."""

    def __init__(self, values: Sequence[float], start: float, end: float) -> None:
        self._low = int(log2(min(values)) // 1)
        self._high = max(self._low + 2, int(-(-log2(max(values)) // 1)))
        self._start, self._end = start, end

    def at(self, value: float) -> float:
        return self._start + (log2(value) - self._low) / (self._high - self._low) * (self._end - self._start)

    def ticks(self) -> list[float]:
        step = max(1, (self._high - self._low) // 6)
        return [2.0**power for power in range(self._low, self._high + 1, step)]


def _points(candidate: Candidate) -> Iterable[tuple[float, float]]:
    """Requests in flight over all engines, down to one for each engine."""
    geometry = settings_of(candidate.configuration).geometry
    blocks, longest = candidate.answer.kv_cache_gpu_blocks, candidate.configuration.model.max_model_len_tokens
    doublings = log2(max(longest / SHORTEST_LENGTH_TOKENS, 1))
    steps = max(1, int(doublings * POINTS_PER_DOUBLING))
    for step in range(steps + 1):
        length = round(SHORTEST_LENGTH_TOKENS * 2 ** (doublings * step / steps))
        engine_holds = blocks / geometry.blocks_per_request(length)
        if engine_holds < 1:
            return
        yield length, engine_holds * max(1, candidate.engine_count)


def _path(points: Iterable[tuple[float, float]]) -> str:
    return "M" + " L".join(f"{x:.1f} {y:.1f}" for x, y in points)


def _short(value: float) -> str:
    if value >= 1024:  # noqa: PLR2004 - binary thousands, as context lengths are spoken of
        return f"{value / 1024:g}K"
    return f"{value:g}"

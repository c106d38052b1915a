"""Feel figures: the speed pictures of the recommendation page as numbers for its template; the template only draws.

A band for TTFT and one for TPOT against the load, with the wish as a line; throughput of a GPU against the time of a
token (towards the upper left is better on both counts), on scales of doublings; and the tables beside them as text.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, log2

from sizing.buy import Options, memory_text, span_text
from sizing.feel import Feel, Felt, LoadPoint, Range
from sizing.page_figures import CURVE_BOTTOM, CURVE_HEIGHT, CURVE_LEFT, CURVE_RIGHT, CURVE_TOP, CURVE_WIDTH, Tick

TICKS = 5
CUT_AT_WISHES = 3.0
"""The scale ends at so many times the wish: beyond, only that it is too slow matters."""


@dataclass(frozen=True, kw_only=True)
class Band:
    """One time against the load."""

    title: str
    area: str
    line: str
    dots: tuple[tuple[float, float, bool, str], ...]
    wish: float | None
    wish_text: str
    loads: tuple[Tick, ...]
    times: tuple[Tick, ...]
    load_text: str


@dataclass(frozen=True, kw_only=True)
class Trade:
    """Throughput against latency."""

    curves: tuple[tuple[int, str, str], ...]
    times: tuple[Tick, ...]
    rates: tuple[Tick, ...]
    wish: float | None
    wish_text: str


@dataclass(frozen=True, kw_only=True)
class SpeedPart:
    """One model on the page."""

    title: str
    facts: tuple[tuple[str, str, str], ...]
    bands: tuple[Band, ...]
    trade: Trade | None
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class TableFigure:
    """A table: headings, rows, the row that was chosen."""

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    chosen: int
    note: str


class _Linear:
    def __init__(self, top: float, start: float, end: float) -> None:
        self.top, self._start, self._end = top, start, end

    def at(self, value: float) -> float:
        return self._start + min(1.0, value / self.top) * (self._end - self._start)

    def ticks(self) -> list[float]:
        rough = self.top / TICKS
        power = 10.0 ** floor(log2(rough) / log2(10))
        step = next(power * nice for nice in (1, 2, 5, 10) if power * nice >= rough)
        return [step * number for number in range(int(self.top / step) + 1)]


class _Doubling:
    def __init__(self, values: Sequence[float], start: float, end: float) -> None:
        self._low, self._high = floor(log2(min(values))), ceil(log2(max(values)))
        self._high = max(self._high, self._low + 1)
        self._start, self._end = start, end

    def at(self, value: float) -> float:
        return self._start + (log2(value) - self._low) / (self._high - self._low) * (self._end - self._start)

    def ticks(self) -> list[float]:
        step = max(1, ceil((self._high - self._low) / (TICKS + 1)))
        return [2.0**power for power in range(self._low, self._high + 1, step)]


def speed_parts(felt: Felt) -> tuple[SpeedPart, ...]:
    """Every model."""
    return tuple(_part(model, feel) for model, feel in felt.by_model.items())


def gateway_table(felt: Felt) -> TableFigure:
    """Stream intervals, weighed."""
    chosen = next(number for number, one in enumerate(felt.gateway) if one.chosen)
    rows = tuple(
        (
            str(one.interval_tokens),
            f"{one.pieces_per_second:,.0f}",
            f"{one.cores[1]:.1f} ({one.cores[0]:.1f} to {one.cores[2]:.1f})",
            str(one.workers),
            str(one.hosts),
            f"{one.gap_seconds * 1000:.0f} ms",
        )
        for one in felt.gateway
    )
    return TableFigure(
        title="Gateway: how many tokens a streamed piece",
        headings=("stream-interval", "pieces/s", "cores", "workers", "hosts", "a piece every"),
        rows=rows,
        chosen=chosen,
        note=f"stream-interval {felt.gateway[chosen].interval_tokens}: {felt.gateway[chosen].because}.",
    )


def options_table(options: Options) -> TableFigure:
    """Hardware that would do, the cheapest first."""
    rows = []
    for one in options.settled:
        seen = one.engines[0].prospect
        watts = one.bill.power_watts if one.bill else (one.row.tdp_w or 0) * one.gpu_count
        rows.append(
            (
                f"{one.gpu_count} x {one.row.nvml_name}",
                str(one.host_count),
                memory_text(one),
                f"{(watts or 0) / 1000:,.1f} kW",
                f"{one.bill.total:,.0f} {one.bill.currency}" if one.bill else "-",
                span_text(seen, "ttft_seconds") if seen else "-",
                span_text(seen, "tpot_seconds") if seen else "-",
                seen.provenance if seen else "-",
            )
        )
    return TableFigure(
        title="Hardware that meets the wish",
        headings=("hardware", "hosts", "memory", "power", "total cost", "TTFT, ms", "TPOT, ms", "step times"),
        rows=tuple(rows),
        chosen=0,
        note="The cheapest first; without prices, the one with the least GPU memory. Times with their 80 % intervals.",
    )


def _part(model: str, feel: Feel) -> SpeedPart:
    at = feel.demand.objectives.percentile
    facts = [
        (f"first token, {at} %", _ms(feel.ttft_seconds), _span(feel.ttft_seconds, 1000, " ms")),
        (f"each further token, {at} %", _ms(feel.tpot_seconds), _span(feel.tpot_seconds, 1000, " ms")),
        (f"whole answer, {at} %", f"{feel.e2e_seconds.likely:.1f} s", _span(feel.e2e_seconds, 1, " s")),
    ]
    if feel.burst is not None:
        text = f"{_span(feel.burst, 1, ' s')} to the first token"
        facts.append(("all ask at once", f"{feel.burst.likely:.1f} s", text))
    throughput = feel.output_tokens_per_second
    most = feel.saturation_per_second
    dead = "it is the only engine" if feel.lost is None else feel.lost or "the objectives are still met"
    facts += [
        ("throughput", f"{throughput.likely:,.0f} tokens/s", _span(throughput, 1, " tokens/s")),
        ("at most", f"{most.likely:,.2f} requests/s", _span(most, 1, " requests/s")),
        (
            "in flight",
            f"{feel.in_flight.likely:.1f} requests",
            f"{_span(feel.in_flight, 1, '')} on {feel.candidate.engine_count} engines",
        ),
        ("growth", f"{feel.growth.factor:.2f} x", f"then: {feel.growth.then}"),
        ("one engine dead", "", dead),
        ("intervals", "80 %", f"step times {feel.provenance}; wished: {feel.demand.objectives.text()}"),
    ]
    objectives = feel.demand.objectives
    return SpeedPart(
        title=f"{model}: {feel.demand.text()}",
        facts=tuple(facts),
        bands=(
            _band(feel, f"First token, {at} % of the requests", "ttft_seconds", objectives.ttft_ms),
            _band(feel, f"Each further token, {at} % of the requests", "tpot_seconds", objectives.tpot_ms),
        ),
        trade=_trade(feel, objectives.tpot_ms),
        notes=feel.others,
    )


def _band(feel: Feel, title: str, field: str, wished_ms: float | None) -> Band:
    spans: list[tuple[LoadPoint, Range]] = [(point, getattr(point, field)) for point in feel.points]
    top_ms = max(span.high for _, span in spans) * 1000
    if wished_ms is not None:
        top_ms = min(top_ms, CUT_AT_WISHES * wished_ms)
        top_ms = max(top_ms, 1.15 * wished_ms)
    across = _Linear(max(point.load for point, _ in spans) * 1.02, CURVE_LEFT, CURVE_WIDTH - CURVE_RIGHT)
    up = _Linear(top_ms, CURVE_HEIGHT - CURVE_BOTTOM, CURVE_TOP)
    upper = [(across.at(point.load), up.at(span.high * 1000)) for point, span in spans]
    lower = [(across.at(point.load), up.at(span.low * 1000)) for point, span in reversed(spans)]
    middle = [(across.at(point.load), up.at(span.likely * 1000)) for point, span in spans]
    return Band(
        title=title,
        area=f"{_path([*upper, *lower])} Z",
        line=_path(middle),
        dots=tuple(
            (x, y, point.meets, f"{point.load:g}: {_ms(span)}, {_span(span, 1000, ' ms')}")
            for (x, y), (point, span) in zip(middle, spans, strict=True)
        ),
        wish=None if wished_ms is None else up.at(wished_ms),
        wish_text="" if wished_ms is None else f"wished: {wished_ms:g} ms",
        loads=tuple(Tick(at=across.at(tick), text=f"{tick:g}") for tick in across.ticks()),
        times=tuple(Tick(at=up.at(tick), text=f"{tick:g}") for tick in up.ticks()),
        load_text="requests per second" if feel.demand.is_open else "people" if feel.demand.people_count else "users",
    )


def _trade(feel: Feel, wished_ms: float | None) -> Trade | None:
    rivals = [one for one in feel.rivals if len(one.points) > 1]
    if not rivals:
        return None
    times = [seconds * 1000 for one in rivals for seconds, _ in one.points] + ([wished_ms] if wished_ms else [])
    across = _Doubling(times, CURVE_LEFT, CURVE_WIDTH - CURVE_RIGHT)
    rates = [rate for one in rivals for _, rate in one.points]
    up = _Doubling(rates, CURVE_HEIGHT - CURVE_BOTTOM, CURVE_TOP)
    return Trade(
        curves=tuple(
            (number, one.label, _path([(across.at(seconds * 1000), up.at(rate)) for seconds, rate in one.points]))
            for number, one in enumerate(rivals, start=1)
        ),
        times=tuple(Tick(at=across.at(tick), text=f"{tick:g}") for tick in across.ticks()),
        rates=tuple(Tick(at=up.at(tick), text=f"{tick:,.0f}") for tick in up.ticks()),
        wish=None if wished_ms is None else across.at(wished_ms),
        wish_text="" if wished_ms is None else f"wished: {wished_ms:g} ms a token",
    )


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + " L".join(f"{x:.1f} {y:.1f}" for x, y in points)


def _ms(span: Range) -> str:
    milliseconds = span.likely * 1000
    return f"{milliseconds:,.1f} ms" if milliseconds < 100 else f"{milliseconds:,.0f} ms"  # noqa: PLR2004


def _span(span: Range, scale: float, unit: str) -> str:
    low, high = span.low * scale, span.high * scale
    digits = 0 if high >= 100 else 1 if high >= 10 else 2  # noqa: PLR2004 - three digits are enough
    return f"{low:,.{digits}f} to {high:,.{digits}f}{unit}"

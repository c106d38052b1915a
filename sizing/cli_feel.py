"""How the speed of a recommendation is printed: what people see now, with more of them, and with an engine less."""

import dataclasses

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sizing.feel import Feel, Felt, LoadPoint, Range
from sizing.gateway_load import GatewayLoad

BAND_CELLS = 36


def feel_json(feel: Feel) -> dict[str, object]:
    """What a program reads: every figure with its interval; the configuration stands beside it already."""
    demand = feel.demand
    content = {
        name: dataclasses.asdict(value) if isinstance(value, Range) else value
        for name, value in ((name, getattr(feel, name)) for name in feel.__dataclass_fields__)
        if name not in {"candidate", "demand", "points", "growth", "lost_times", "lost", "rivals"}
    }
    content["demand"] = dataclasses.asdict(dataclasses.replace(demand, trace=None))
    if demand.trace is not None:
        content["trace_requests"] = len(demand.trace)
    content["percentile"] = demand.objectives.percentile
    content["points"] = [dataclasses.asdict(point) for point in feel.points]
    content["growth"] = dataclasses.asdict(feel.growth)
    if feel.lost_times is not None:
        first, each = feel.lost_times
        content["one_engine_less"] = {
            "meets": not feel.lost,
            "shortfall": feel.lost,
            "ttft_seconds": dataclasses.asdict(first),
            "tpot_seconds": dataclasses.asdict(each),
        }
    return content


def print_felt(console: Console, felt: Felt) -> None:
    """Every model, then the gateway."""
    for model, feel in felt.by_model.items():
        _print_feel(console, model, feel)
    _print_gateway(console, felt.gateway)


def _print_feel(console: Console, model: str, feel: Feel) -> None:
    demand, engines = feel.demand, feel.candidate.engine_count
    console.print(Text(f"{model}: {demand.text()}", style="bold"), soft_wrap=True)
    at = demand.objectives.percentile
    table = Table.grid(padding=(0, 2))
    table.add_column()
    table.add_column()
    table.add_row(f"first token, {at} %", f"{_ms(feel.ttft_seconds)}")
    table.add_row(f"further tokens, {at} %", f"{_ms(feel.tpot_seconds)} each, {_per_second(feel.tpot_seconds)}")
    table.add_row(f"whole answer, {at} %", f"{_seconds(feel.e2e_seconds)}")
    if feel.burst is not None:
        table.add_row("all ask at once", f"first token, {at} %: {_seconds(feel.burst)}")
    table.add_row("in flight", f"{_count(feel.in_flight, 1)} requests on {engines} engine{'s' if engines > 1 else ''}")
    table.add_row(
        "throughput",
        f"{_count(feel.output_tokens_per_second)} tokens/s; at most {_count(feel.saturation_per_second, 2)} requests/s",
    )
    table.add_row("growth", _growth(feel))
    table.add_row("one engine dead", _lost(feel))
    table.add_row("intervals", f"80 %, step times {feel.provenance}; {_asked(feel)}")
    console.print(table)
    for line in feel.others:
        console.print(Text(f"  {line}", style="dim"), soft_wrap=True)
    for name, field in (("first token", "ttft_seconds"), ("each further token", "tpot_seconds")):
        _print_band(console, feel, f"{name} of {at} %, by load", field)


def _asked(feel: Feel) -> str:
    objectives = feel.demand.objectives
    if not objectives.any:
        return "no times were wished"
    end = "the slow end of the interval" if objectives.certainty == "safe" else "the likely times"
    return f"wished: {objectives.text()}, asked of {end}"


def _growth(feel: Feel) -> str:
    return f"met up to {feel.growth.factor:.2f} times this load; then {feel.growth.then}"


def _lost(feel: Feel) -> str:
    if feel.lost_times is None:
        return "it is the only one: nothing is answered until it is back"
    if not feel.lost:
        return "the objectives are still met"
    return f"no longer met: {feel.lost}"


def _print_band(console: Console, feel: Feel, title: str, field: str) -> None:
    """A row for each load: the interval as a band, the likely value in it, the wish as a line; a scale of doublings
    would hide the knee, so it is linear and cut where the wish is far exceeded."""
    objectives = feel.demand.objectives
    wished_ms = objectives.ttft_ms if field == "ttft_seconds" else objectives.tpot_ms
    spans: list[tuple[LoadPoint, Range]] = [(point, getattr(point, field)) for point in feel.points]
    top = max(span.high for _, span in spans)
    if wished_ms is not None:
        top = min(top, 3 * wished_ms / 1000)
    console.print(Text(f"  {title}", style="dim"))
    for point, span in spans:
        cells = [" "] * BAND_CELLS
        low, likely, high = (min(BAND_CELLS - 1, int(one / top * BAND_CELLS)) for one in vars(span).values())
        for cell in range(low, high + 1):
            cells[cell] = "░"
        cells[likely] = "█"
        if wished_ms is not None:
            cells[min(BAND_CELLS - 1, int(wished_ms / 1000 / top * BAND_CELLS))] = "│"
        mark = "  " if point.meets else " x"
        console.print(f"  {point.load:>9,.4g}{mark} {''.join(cells)} {_ms(span)}", markup=False, soft_wrap=True)


def _print_gateway(console: Console, loads: tuple[GatewayLoad, ...]) -> None:
    console.print(Text("gateway, by stream-interval (tokens a streamed piece)", style="bold"))
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("stream-interval", "pieces/s", "cores", "workers", "hosts", "a piece every"):
        table.add_column(heading, justify="right")
    for one in loads:
        low, likely, high = one.cores
        table.add_row(
            str(one.interval_tokens),
            f"{one.pieces_per_second:,.0f}",
            f"{likely:.1f} ({low:.1f} to {high:.1f})",
            str(one.workers),
            str(one.hosts),
            f"{one.gap_seconds * 1000:.0f} ms",
        )
    console.print(table)
    for one in loads:
        if one.chosen:
            line = f"  stream-interval {one.interval_tokens}: {one.because}"
            console.print(Text(line, style="dim"), soft_wrap=True)


def _ms(span: Range) -> str:
    low, likely, high = (one * 1000 for one in vars(span).values())
    digits = 1 if likely < 100 else 0  # noqa: PLR2004 - three digits are enough for a person
    return f"{likely:,.{digits}f} ms ({low:,.{digits}f} to {high:,.{digits}f})"


def _seconds(span: Range) -> str:
    return f"{span.likely:.1f} s ({span.low:.1f} to {span.high:.1f})"


def _per_second(span: Range) -> str:
    slow, likely, fast = (1 / one if one else 0.0 for one in (span.high, span.likely, span.low))
    return f"{likely:.0f} a second ({slow:.0f} to {fast:.0f})"


def _count(span: Range, digits: int = 0) -> str:
    return f"{span.likely:,.{digits}f} ({span.low:,.{digits}f} to {span.high:,.{digits}f})"

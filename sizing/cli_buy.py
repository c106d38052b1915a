"""How the answer to "what do I buy?" is printed: a table of options, and what people feel of the cheapest."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sizing.buy import Option, Options, memory_text, span_ms, span_text, what_to_buy
from sizing.cli_console import answer, human_console, say
from sizing.cli_feel import feel_json, print_felt
from sizing.errors import DoesNotFit
from sizing.feel import felt, with_rivals
from sizing.gateway_load import Streaming
from sizing.model_facts import load_model_facts
from sizing.prices import Prices
from sizing.reasons import alternative_text
from sizing.vllm_options import serve_command
from sizing.wish import Wish


def answer_what_to_buy(
    models: Sequence[str],
    wish: Wish,
    *,
    prices: Path | None,
    streaming: Streaming,
    as_json: bool,
    html: Path | None,
) -> int:
    """Exit code 3 where nothing in the catalogue meets the wish; the line says which bound is the nearest."""
    facts = [load_model_facts(model) for model in models]
    known = None if prices is None else Prices.load(prices)
    options = what_to_buy(facts, wish, prices=known)
    if not options.settled:
        reason = _nearest(options)
        if as_json:
            answer(
                json.dumps(
                    {"options": [], "rejected": {one.gpu: one.reason for one in options.rejected}, "unmet": reason},
                    indent=2,
                )
            )
            say(reason)
            return DoesNotFit.exit_code
        raise DoesNotFit(reason)
    best = options.settled[0]
    speed = None
    if wish.demand is not None:
        taken = {
            model.name: (engine, tuple(one.engines[number] for one in options.settled))
            for number, (model, engine) in enumerate(zip(facts, best.engines, strict=True))
        }
        speed = felt(taken, wish, streaming)
        if html is not None:
            speed = with_rivals(speed, {model: weighed for model, (_, weighed) in taken.items()})
    if html is not None:
        from sizing.recommend_page import buy_page, write_page  # noqa: PLC0415 - templates only where a page is made

        write_page(html, buy_page(options, [model.name for model in facts], wish=wish, speed=speed))
        say(f"page: {html}")
    if as_json:
        content = {
            "options": [_option_json(one, [model.name for model in facts]) for one in options.settled],
            "dearer_by_bound": dict(options.dearer),
            "rejected": {one.gpu: one.reason for one in options.rejected},
            "speed": {} if speed is None else {name: feel_json(feel) for name, feel in speed.by_model.items()},
            "gateway": [] if speed is None else [dataclasses.asdict(load) for load in speed.gateway],
        }
        answer(json.dumps(content, indent=2, ensure_ascii=False))
        return 0
    console = human_console()
    _print_options(console, options, [model.name for model in facts])
    if speed is not None:
        print_felt(console, speed)
    return 0


def _nearest(options: Options) -> str:
    nearest = options.nearest
    if nearest is None:
        return "no GPU of the catalogue was looked at"
    return f"no hardware of the catalogue meets it; nearest, {nearest.gpu}: {nearest.reason}"


def _option_json(option: Option, names: Sequence[str]) -> dict[str, object]:
    return {
        "gpu": option.row.nvml_name,
        "gpu_count": option.gpu_count,
        "host_count": option.host_count,
        "bill": None if option.bill is None else option.bill.model_dump(),
        "gpu_memory": memory_text(option),
        "engines": [
            {
                "model": name,
                "replicas": engine.engine_count,
                "ttft_ms": None if engine.prospect is None else span_ms(engine.prospect, "ttft_seconds"),
                "tpot_ms": None if engine.prospect is None else span_ms(engine.prospect, "tpot_seconds"),
                "provenance": None if engine.prospect is None else engine.prospect.provenance,
                "alternative": alternative_text(engine.configuration, engine.shape, wished_model=name),
                "vllm_serve_line": serve_command(
                    engine.configuration, engine.answer, model_path=engine.configuration.model.name
                ),
            }
            for name, engine in zip(names, option.engines, strict=True)
        ],
    }


def _print_options(console: Console, options: Options, names: Sequence[str]) -> None:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("hardware")
    for heading in ("hosts", "memory", "power", "total", "TTFT, ms", "TPOT, ms"):
        table.add_column(heading, justify="right")
    for option in options.settled:
        bill, watts = option.bill, option.row.tdp_w
        power = None if watts is None else watts * option.gpu_count
        if bill is not None:
            power = bill.power_watts
        seen = option.engines[0].prospect
        table.add_row(
            f"{option.gpu_count} x {option.row.nvml_name}",
            str(option.host_count),
            memory_text(option),
            "" if power is None else f"{power / 1000:,.1f} kW",
            "" if bill is None else f"{bill.total:,.0f} {bill.currency}",
            "" if seen is None else span_text(seen, "ttft_seconds"),
            "" if seen is None else span_text(seen, "tpot_seconds"),
        )
    console.print(table)
    best = options.settled[0]
    for name, engine in zip(names, best.engines, strict=True):
        what = alternative_text(engine.configuration, engine.shape, wished_model=name)
        console.print(Text(f"{name}: {engine.engine_count} x ({what})", style="bold"), soft_wrap=True)
        line = serve_command(engine.configuration, engine.answer, model_path=engine.configuration.model.name)
        console.print(Text(f"  {line}", style="green"), soft_wrap=True)
    if options.dearer:
        more = ", ".join(name for name, _ in options.dearer[:6])
        text = f"  dearer by their bounds, not simulated: {more}{' ...' if len(options.dearer) > 6 else ''}"  # noqa: PLR2004
        console.print(Text(text, style="dim"), soft_wrap=True)
    for one in options.rejected:
        console.print(Text(f"  not {one.gpu}: {one.reason}", style="dim"), soft_wrap=True)

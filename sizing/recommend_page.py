"""Recommend page: a recommendation as one self-contained HTML file.

A memory bar for each GPU, the reason for each choice, the ranked alternatives, the curve of context against requests
in flight, the error table of the vLLM version. No script, no font, no image from outside: it can be mailed and printed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path

from sizing.accuracy import error_rows
from sizing.answer import Estimate
from sizing.buy import Options
from sizing.engine_defaults import DEFAULT_VLLM_VERSION
from sizing.feel import Felt
from sizing.feel_figures import TableFigure, gateway_table, options_table, speed_parts
from sizing.islands import Pool
from sizing.page_figures import (
    CURVE_BOTTOM,
    CURVE_HEIGHT,
    CURVE_LEFT,
    CURVE_RIGHT,
    CURVE_TOP,
    CURVE_WIDTH,
    LEGEND,
    ROW_HEIGHT,
    CurveFigure,
    Part,
    bar_parts,
    curve_figure,
)
from sizing.page_template import page_template
from sizing.plan import Choice
from sizing.recommend import Recommendation, Recommended
from sizing.recommend_site import RecommendedSite
from sizing.wish import Wish


@dataclass(frozen=True, kw_only=True)
class Row:
    """One GPU, and what is on it."""

    name: str
    label: str
    parts: tuple[Part, ...]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One candidate or engine, taken or not."""

    title: str
    reason: str
    rejection: str
    command: str
    parts: tuple[Part, ...]
    choices: tuple[Choice, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Group:
    """What belongs to one model: what is taken and what would also do, the curve, and what does not do."""

    title: str
    entries: tuple[Entry, ...]
    curve: CurveFigure | None
    rejected: tuple[Entry, ...]


def ranked_page(recommended: Recommended, pools: Sequence[Pool], *, wish: Wish, speed: Felt | None = None) -> str:
    """The ranked candidates for one or more models on the devices of one host."""
    devices = " and ".join(f"{pool.device_count} x {pool.device.name}" for pool in pools)
    window = "the longest window" if wish.context_tokens is None else f"{wish.context_tokens:,} tokens"
    load = f"{wish.users_count} requests in flight of {window}"
    if wish.demand is not None:
        load = f"{wish.demand.text()}; {wish.demand.objectives.text()}; a window of {window}"
    subtitle = f"For {load}; objective {wish.objective}, quality {wish.quality}. vLLM {DEFAULT_VLLM_VERSION}."
    notes = [f"Would meet the wish: {change.text}." for change in recommended.changes]
    return _page(
        title=f"What to run on {devices}",
        subtitle=subtitle,
        unmet=recommended.unmet,
        rows=_rows(recommended, pools),
        groups=_groups(recommended, wish, speed),
        notes=notes,
        speed=speed,
    )


def buy_page(options: Options, models: Sequence[str], *, wish: Wish, speed: Felt | None) -> str:
    """What to buy: the options as a table, and what people feel of the cheapest."""
    load = f"{wish.users_count} requests in flight" if wish.demand is None else wish.demand.text()
    times = "" if wish.demand is None else f"; {wish.demand.objectives.text()}"
    return _page(
        title=f"What to buy for {' and '.join(models)}",
        subtitle=f"For {load}{times}. Quality {wish.quality}, vLLM {DEFAULT_VLLM_VERSION}.",
        unmet="",
        rows=(),
        groups=(),
        notes=[
            *(f"Dearer by its bounds, not simulated: {name}." for name, _ in options.dearer),
            *(f"Not {one.gpu}: {one.reason}." for one in options.rejected),
        ],
        speed=speed,
        options=options_table(options),
    )


def site_page(recommended: RecommendedSite, *, speed: Felt | None) -> str:
    """The plan of a site, and what people will feel of it."""
    plan = recommended.plan
    choices = {decision.model: decision for decision in plan.decisions}
    entries = tuple(
        Entry(
            title=f"{host} / {engine.name}",
            reason=f"{engine.model}: {engine.kv_cache.tokens:,} tokens of KV cache hold "
            f"{engine.kv_cache.max_concurrency_ratio:.1f} requests of {engine.vllm_options.max_model_len:,} tokens.",
            rejection="",
            command="",
            parts=bar_parts(engine.memory),
            choices=choices[engine.model].choices if engine.model in choices else (),
        )
        for host, engine in plan.engines()
    )
    return _page(
        title=f"Plan of site {plan.site}",
        subtitle=f"vLLM {plan.vllm_version}, LiteLLM {plan.litellm_version}. Memory of one rank of each engine.",
        unmet="",
        rows=(),
        groups=(Group(title="Engines", entries=entries, curve=None, rejected=()),),
        notes=(*recommended.reasons, *(f"Not taken: {one}" for one in recommended.rejections)),
        speed=speed,
    )


def write_page(path: Path, page: str) -> None:
    """Writes the page; the caller says where."""
    path.write_text(page, encoding="utf-8")


def _entry(one: Recommendation) -> Entry:
    engines = f"{one.replicas} engines with " if one.replicas > 1 else ""
    return Entry(
        title=f"{one.rank}. {engines}{one.alternative}",
        reason=f"{one.reason[0].upper()}{one.reason[1:]}.",
        rejection=one.rejection,
        command=one.vllm_serve_line,
        parts=bar_parts(Estimate.model_validate(one.estimate).per_gpu),
        choices=one.reasons if one.devices else (),
    )


def _rows(recommended: Recommended, pools: Sequence[Pool]) -> tuple[Row, ...]:
    taken = {position: one for one in recommended.ranked for positions in one.devices for position in positions}
    rows = []
    for pool in pools:
        for position in (position for island in pool.islands for position in island):
            one = taken.get(position)
            memory = None if one is None else Estimate.model_validate(one.estimate).per_gpu
            name = "CPU" if pool.device.accelerator == "cpu" else f"GPU {position}"
            label = "free" if one is None else one.checkpoint
            rows.append((position, Row(name=name, label=label, parts=bar_parts(memory, pool.device))))
    return tuple(row for _, row in sorted(rows, key=lambda pair: pair[0]))


def _groups(recommended: Recommended, wish: Wish, speed: Felt | None) -> tuple[Group, ...]:
    tokens = None if wish.context_tokens is None else wish.request_tokens or wish.context_tokens
    groups = []
    for model in dict.fromkeys(one.model for one in recommended.ranked):
        mine = [one for one in recommended.ranked if one.model == model]
        feel = speed.by_model.get(model) if speed else None
        in_flight = wish.users_count if feel is None else ceil(feel.in_flight.likely)
        point = None if tokens is None else (tokens, in_flight)
        doing = [one for one in mine if not one.rejection]
        named = [(f"{one.replicas} x ({one.alternative})", one.candidate) for one in doing]
        groups.append(
            Group(
                title=model,
                entries=tuple(_entry(one) for one in doing),
                curve=curve_figure(named, wish=point),
                rejected=tuple(_entry(one) for one in mine if one.rejection),
            )
        )
    return tuple(groups)


def _page(
    *,
    title: str,
    subtitle: str,
    unmet: str,
    rows: Sequence[Row],
    groups: Sequence[Group],
    notes: Sequence[str],
    speed: Felt | None = None,
    options: TableFigure | None = None,
) -> str:
    return page_template("recommendation.html.j2").render(
        title=title,
        subtitle=subtitle,
        unmet=unmet,
        rows=rows,
        row_height=ROW_HEIGHT,
        legend=LEGEND,
        groups=groups,
        speeds=() if speed is None else speed_parts(speed),
        gateway=None if speed is None else gateway_table(speed),
        options=options,
        curve_box={
            "width": CURVE_WIDTH,
            "height": CURVE_HEIGHT,
            "left": CURVE_LEFT,
            "right": CURVE_WIDTH - CURVE_RIGHT,
            "top": CURVE_TOP,
            "bottom": CURVE_HEIGHT - CURVE_BOTTOM,
        },
        errors=error_rows(DEFAULT_VLLM_VERSION),
        vllm_version=DEFAULT_VLLM_VERSION,
        notes=notes,
    )

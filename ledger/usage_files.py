"""A usage report as files: CSV (the finest lines), JSON (lines and every view), one HTML page with charts."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from importlib.resources import files
from pathlib import Path
from typing import Any

from ledger.usage import Line, Sum, Usage

COLUMNS = (
    "day",
    "team",
    "key",
    "model",
    "tags",
    "requests",
    "prompt_tokens",
    "completion_tokens",
    "cached_tokens",
    "cost",
)
MILLION = 1_000_000
MOST_ROWS = 200
"""Of a table on the page; the files have everything."""

COLUMN_WIDTH, COLUMN_GAP, CHART_HEIGHT, CHART_LEFT, CHART_BOTTOM = 20, 5, 200, 70, 24
GRID_LINES = 4
FORMULA_SIGNS = "=+-@\t\r"


@dataclass(frozen=True, kw_only=True)
class Column:
    """One day of the chart."""

    x: float
    prompt_y: float
    prompt_height: float
    answer_y: float
    answer_height: float
    label: str
    title: str


@dataclass(frozen=True, kw_only=True)
class View:
    """One table with its bars: the widths are percent of the largest."""

    title: str
    note: str
    rows: tuple[tuple[Sum, float], ...]
    more_count: int


def csv_text(usage: Usage) -> str:
    """The finest lines; what a spreadsheet would take for a formula is quoted."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for line in usage.lines:
        writer.writerow([_cell(value) for value in _values(line).values()])
    return out.getvalue()


def json_text(usage: Usage) -> str:
    """Costs are texts, because they are exact."""
    content = {
        "schema_version": 1,
        "first": usage.period.first.isoformat(),
        "last": usage.period.last.isoformat(),
        "time_zone": usage.period.time_zone,
        "currency": usage.currency,
        "made_at": usage.made_at.isoformat(),
        "total": _sum_json(usage.total),
        **{
            name: [_sum_json(one) for one in sums]
            for name, sums in (
                ("by_team", usage.by_team),
                ("by_key", usage.by_key),
                ("by_model", usage.by_model),
                ("by_tag", usage.by_tag),
                ("by_day", usage.by_day),
            )
        },
        "lines": [_values(line) | {"tags": list(line.tags)} for line in usage.lines],
    }
    return json.dumps(content, indent=2, ensure_ascii=False, default=str) + "\n"


def html_text(usage: Usage) -> str:
    """One page; nothing is loaded from elsewhere."""
    from jinja2 import Environment, StrictUndefined  # noqa: PLC0415 - the reconciliation, which runs often, needs none

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(files("ledger").joinpath("usage.html.j2").read_text(encoding="utf-8"))
    top = max((one.tokens for one in usage.by_day), default=0) or 1
    return template.render(
        usage=usage,
        title=f"Usage {usage.period.name}",
        columns=_columns(usage, top),
        chart_width=CHART_LEFT + len(usage.by_day) * (COLUMN_WIDTH + COLUMN_GAP),
        chart_height=CHART_HEIGHT + CHART_BOTTOM,
        chart_left=CHART_LEFT,
        column_width=COLUMN_WIDTH,
        grid=[
            (CHART_HEIGHT * (1 - number / GRID_LINES), _short(top * number / GRID_LINES))
            for number in range(GRID_LINES + 1)
        ],
        views=[
            _view("By team", usage.by_team),
            _view("By model", usage.by_model),
            _view("By key", usage.by_key),
            _view("By tag", usage.by_tag, note="A request with several tags counts under each of them."),
            _view("By day", usage.by_day),
        ],
        money=money,
    )


def write_files(usage: Usage, directory: Path) -> list[Path]:
    """Each replaced as a whole."""
    directory.mkdir(parents=True, exist_ok=True)
    written = []
    for suffix, text in (("csv", csv_text(usage)), ("json", json_text(usage)), ("html", html_text(usage))):
        path = directory / f"usage-{usage.period.name}.{suffix}"
        whole = path.with_name(f".{path.name}.{os.getpid()}")
        whole.write_text(text, encoding="utf-8")
        whole.chmod(0o640)
        whole.replace(path)
        written.append(path)
    return written


def money(value: Decimal) -> str:
    """For people: two decimals, or the first digits of what is less."""
    if value and abs(value) < Decimal("0.01"):
        return f"{value:.2g}" if value >= Decimal("0.0001") else f"{value:.9f}".rstrip("0")
    return f"{value:,.2f}"


def _values(line: Line) -> dict[str, Any]:
    return {
        "day": line.day.isoformat(),
        "team": line.team,
        "key": line.key,
        "model": line.model,
        "tags": " ".join(line.tags),
        "requests": line.requests,
        "prompt_tokens": line.prompt_tokens,
        "completion_tokens": line.completion_tokens,
        "cached_tokens": line.cached_tokens,
        "cost": _plain(line.cost),
    }


def _cell(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value[:1] and value[0] in FORMULA_SIGNS else value


def _sum_json(one: Sum) -> dict[str, Any]:
    return {
        "name": one.name,
        "requests": one.requests,
        "prompt_tokens": one.prompt_tokens,
        "completion_tokens": one.completion_tokens,
        "cached_tokens": one.cached_tokens,
        "cost": _plain(one.cost),
    }


def _plain(value: Decimal) -> str:
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _columns(usage: Usage, top: int) -> list[Column]:
    columns = []
    for number, one in enumerate(usage.by_day):
        prompt = CHART_HEIGHT * one.prompt_tokens / top
        answer = CHART_HEIGHT * one.completion_tokens / top
        day = date.fromisoformat(one.name)
        columns.append(
            Column(
                x=CHART_LEFT + number * (COLUMN_WIDTH + COLUMN_GAP),
                prompt_y=CHART_HEIGHT - prompt,
                prompt_height=prompt,
                answer_y=CHART_HEIGHT - prompt - answer,
                answer_height=answer,
                label=str(day.day) if day.day == 1 or day.day % 5 == 0 else "",
                title=f"{one.name}: {one.prompt_tokens:,} + {one.completion_tokens:,} tokens, {money(one.cost)}",
            )
        )
    return columns


def _view(title: str, sums: Sequence[Sum], *, note: str = "") -> View:
    by_cost = any(one.cost for one in sums)
    measures = [float(one.cost) if by_cost else float(one.tokens) for one in sums]
    largest = max(measures, default=0.0) or 1.0
    rows = tuple((one, 100 * measure / largest) for one, measure in zip(sums, measures, strict=True))
    return View(title=title, note=note, rows=rows[:MOST_ROWS], more_count=max(0, len(rows) - MOST_ROWS))


def _short(tokens: float) -> str:
    for unit, name in ((MILLION * 1000, "G"), (MILLION, "M"), (1000, "k")):
        if tokens >= unit:
            return f"{tokens / unit:.3g} {name}"
    return f"{tokens:.0f}"

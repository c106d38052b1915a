"""Cost page: what a token costs as one self-contained HTML file: the month by what for, each model's price with its
interval, and how prices fall as more of the capacity is used.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sizing.cost import ModelCost, Price
from sizing.costs import Costs
from sizing.monthly import Month
from sizing.page_template import page_template
from sizing.site_cost import price_text

WIDTH, HEIGHT = 520, 300
LEFT, RIGHT, TOP, BOTTOM = 64, 18, 14, 44
UTILIZATIONS = tuple(number / 20 for number in range(1, 21))
GRID_LINES = 4
TOP_RATIO = 4.0
"""The curve's scale ends at so many times the price at the declared utilization; what is dearer leaves the picture."""

MILLION = 1_000_000
COLOURS = ("one", "two", "three", "graph", "others", "reserve")


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A part of the bar of the month."""

    kind: str
    label: str
    text: str
    x: float
    width: float


@dataclass(frozen=True, kw_only=True)
class PriceBar:
    """One price: where its bar ends and its interval lies, in percent of the widest."""

    label: str
    text: str
    width: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Curve:
    """The price of an answer token of one model against the utilization."""

    colour: str
    label: str
    path: str
    dot: tuple[float, float]


def cost_page(
    models: Sequence[ModelCost],
    costs: Costs,
    month: Month,
    *,
    title: str,
    stated: Mapping[str, tuple[float, float]],
) -> str:
    """The page, as HTML."""
    top = max(TOP_RATIO * one.output_price.likely * MILLION for one in models)
    widest = max(price.high for one in models for price in (one.input_price, one.output_price))
    return page_template("cost.html.j2").render(
        title=title,
        costs=costs,
        month=month,
        pieces=_pieces(month),
        shares=_shares(models, month),
        models=[(one, _bars(one, widest), stated.get(one.model)) for one in models],
        price_text=price_text,
        curves=[_curve(one, COLOURS[number % len(COLOURS)], top) for number, one in enumerate(models)],
        columns=[(_x(ratio), f"{ratio:.0%}") for ratio in (0.2, 0.4, 0.6, 0.8, 1.0)],
        lines=[
            (_y(top * number / GRID_LINES, top), f"{top * number / GRID_LINES:,.3g}")
            for number in range(GRID_LINES + 1)
        ],
        box={"width": WIDTH, "height": HEIGHT, "left": LEFT, "right": WIDTH - RIGHT, "bottom": HEIGHT - BOTTOM},
        million=MILLION,
    )


def _pieces(month: Month) -> list[Piece]:
    parts = (
        ("one", "hardware", month.hardware),
        ("two", "power", month.power),
        ("three", "other", month.other),
    )
    pieces, x = [], 0.0
    for kind, label, value in parts:
        width = 1000 * value / month.total
        if value > 0:
            pieces.append(Piece(kind=kind, label=label, text=f"{value:,.2f}", x=x, width=width))
        x += width
    return pieces


def _shares(models: Sequence[ModelCost], month: Month) -> list[Piece]:
    pieces, x = [], 0.0
    for number, one in enumerate(models):
        width = 1000 * one.month.total / month.total
        kind = COLOURS[number % len(COLOURS)]
        pieces.append(Piece(kind=kind, label=one.model, text=f"{one.month.total:,.2f}", x=x, width=width))
        x += width
    return pieces


def _bars(one: ModelCost, widest: float) -> list[PriceBar]:
    return [_bar("prompt", one.input_price, widest), _bar("answer", one.output_price, widest)]


def _bar(label: str, price: Price, widest: float) -> PriceBar:
    return PriceBar(
        label=label,
        text=f"{price.likely * MILLION:,.3g}",
        width=100 * price.likely / widest,
        low=100 * price.low / widest,
        high=100 * price.high / widest,
    )


def _curve(one: ModelCost, colour: str, top: float) -> Curve:
    now = one.output_price.likely * MILLION
    points = [(ratio, now * one.utilization_ratio / ratio) for ratio in UTILIZATIONS]
    shown = [(_x(ratio), _y(price, top)) for ratio, price in points if price <= top]
    path = "M" + " L".join(f"{x:.1f},{y:.1f}" for x, y in shown)
    return Curve(colour=colour, label=one.model, path=path, dot=(_x(one.utilization_ratio), _y(now, top)))


def _x(ratio: float) -> float:
    return LEFT + ratio * (WIDTH - LEFT - RIGHT)


def _y(price: float, top: float) -> float:
    return HEIGHT - BOTTOM - price / top * (HEIGHT - TOP - BOTTOM)

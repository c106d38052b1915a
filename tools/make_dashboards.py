"""Writes Grafana's dashboards of the role monitoring: `python -m tools.make_dashboards`.

They are made from tools/dashboards.yml, because Grafana's own JSON is mostly places and colours.
"""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

DIRECTORY = Path(__file__).resolve().parent.parent / "roles" / "monitoring" / "files" / "dashboards"
WIDTH = 24
SOURCE = {"type": "prometheus", "uid": "appliance"}
TABLES = Path(__file__).with_name("dashboards.yml")
WINDOW = "[$__rate_interval]"

Unit = Literal["short", "reqps", "s", "percentunit", "bytes", "celsius", "watt", "none"]


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One question with its answer over time (`timeseries`), now (`stat`), or as rows (`table`)."""

    title: str
    queries: tuple[tuple[str, str], ...]  # legend, expression
    unit: Unit = "short"
    kind: Literal["timeseries", "stat", "table"] = "timeseries"
    width: int = 8
    height: int = 8
    stacked: bool = False
    highest: float | None = None


@dataclass(frozen=True, kw_only=True)
class Dashboard:
    """One page."""

    uid: str
    title: str
    panels: tuple[Panel, ...]
    variables: tuple[tuple[str, str], ...] = ()  # name, expression whose values can be chosen


def quantiles(name: str, *, by: str, where: str) -> tuple[tuple[str, str], ...]:
    """Median, 95 and 99 of 100."""
    return tuple(
        (
            f"{{{{{by}}}}} p{percent}",
            f"histogram_quantile({percent / 100:g}, sum by (le, {by}) (rate({name}_bucket{where}{WINDOW})))",
        )
        for percent in (50, 95, 99)
    )


def dashboards(path: Path = TABLES) -> tuple[Dashboard, ...]:
    """As the tables say; unknown words are refused by the dataclasses."""
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    return tuple(_dashboard(**one) for one in content)


def _dashboard(*, title: str, panels: list[dict[str, Any]], variables: Mapping[str, str] | None = None) -> Dashboard:
    return Dashboard(
        uid=f"appliance-{title.lower()}",
        title=title,
        panels=tuple(_asked(**panel) for panel in panels),
        variables=tuple((variables or {}).items()),
    )


def _asked(
    *, queries: list[dict[str, str]] | None = None, quantiles_of: Mapping[str, str] | None = None, **panel: Any
) -> Panel:
    if quantiles_of is not None:
        found = quantiles(quantiles_of["name"], by=quantiles_of["by"], where=quantiles_of.get("where", ""))
    else:
        found = tuple(pair for query in queries or () for pair in query.items())
    return Panel(queries=tuple((legend, expression.replace("[rate]", WINDOW)) for legend, expression in found), **panel)


def text_of(dashboard: Dashboard) -> str:
    """Grafana's JSON."""
    panels: list[dict[str, Any]] = []
    x = y = row_height = 0
    for number, panel in enumerate(dashboard.panels, start=1):
        if x + panel.width > WIDTH:
            x, y, row_height = 0, y + row_height, 0
        panels.append(_panel(panel, number=number, x=x, y=y))
        x, row_height = x + panel.width, max(row_height, panel.height)
    content = {
        "uid": dashboard.uid,
        "title": dashboard.title,
        "tags": ["appliance"],
        "schemaVersion": 36,
        "editable": False,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "browser",
        "templating": {"list": [_variable(name, query) for name, query in dashboard.variables]},
        "links": [
            {"type": "dashboards", "tags": ["appliance"], "title": "Appliance", "asDropdown": False, "keepTime": True}
        ],
        "panels": panels,
    }
    return json.dumps(content, indent=1) + "\n"


def _panel(panel: Panel, *, number: int, x: int, y: int) -> dict[str, Any]:
    is_table = panel.kind == "table"
    defaults: dict[str, Any] = {"unit": panel.unit, "min": 0}
    if panel.highest is not None:
        defaults["max"] = panel.highest
    if panel.kind == "timeseries":
        defaults["custom"] = {
            "lineWidth": 1,
            "fillOpacity": 20 if panel.stacked else 6,
            "showPoints": "never",
            "stacking": {"mode": "normal" if panel.stacked else "none"},
        }
    targets = [
        {
            "refId": chr(ord("A") + place),
            "datasource": SOURCE,
            "expr": expression,
            "legendFormat": legend or "__auto",
            "instant": panel.kind != "timeseries",
            "range": panel.kind == "timeseries",
            "format": "table" if is_table else "time_series",
        }
        for place, (legend, expression) in enumerate(panel.queries)
    ]
    return {
        "id": number,
        "title": panel.title,
        "type": panel.kind,
        "datasource": SOURCE,
        "gridPos": {"x": x, "y": y, "w": panel.width, "h": panel.height},
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "targets": targets,
        **({"transformations": [{"id": "organize", "options": {"excludeByName": {"Time": True}}}]} if is_table else {}),
    }


def _variable(name: str, query: str) -> dict[str, Any]:
    return {
        "name": name,
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": query, "refId": name},
        "includeAll": True,
        "multi": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
        "refresh": 2,
    }


def write(directory: Path = DIRECTORY) -> list[Path]:
    """Every dashboard; returns those that were different."""
    directory.mkdir(parents=True, exist_ok=True)
    changed = []
    for dashboard in dashboards():
        path = directory / f"{dashboard.uid.removeprefix('appliance-')}.json"
        text = text_of(dashboard)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            changed.append(path)
    return changed


def main() -> int:
    for path in write():
        print(f"dashboards: wrote {path.relative_to(DIRECTORY.parents[3])}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Every metric that an alert, a dashboard or the page names is one that something of the site exposes.

What others expose was recorded from the real thing (tests/fakes/recorded/metrics: HAProxy and exporters of Debian 12;
names and labels, no values; for vLLM its own list of names); ours is read where it is written.
"""

import json
import re
from pathlib import Path

import pytest
import yaml

from tests.sight.rendered import ROOT, RULES, render
from tools import make_dashboards
from tools.ask_monitoring import names_in, page_questions

RECORDED = ROOT / "tests" / "fakes" / "recorded" / "metrics"


def exposed() -> set[str]:
    """What Prometheus can read on a site."""
    found = {"up", "ALERTS"}
    for path in RECORDED.glob("*.txt"):
        found |= {line.partition("{")[0] for line in path.read_text("utf-8").splitlines() if not line.startswith("#")}
    relay = (ROOT / "relay" / "figures.py").read_text(encoding="utf-8")
    found |= set(re.findall(r'"((?:relay|process)_\w+)"', relay))
    for path in (ROOT / "sight").glob("*.py"):
        found |= set(re.findall(r'"(appliance_\w+)"', path.read_text(encoding="utf-8")))
    found |= set(re.findall(r'"(appliance_\w+)":', (ROOT / "ledger" / "report.py").read_text(encoding="utf-8")))
    return found | {f"{name}_{part}" for name in found for part in ("bucket", "sum", "count")}


def rules(path: Path) -> list[dict[str, str]]:
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    return [rule for group in document["groups"] for rule in group["rules"]]


@pytest.fixture(scope="module")
def objectives(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, str]]:
    return rules(render(tmp_path_factory.mktemp("objectives")) / "objectives.yml")


def test_names_are_found_in_an_expression() -> None:
    expression = (
        'sum by (a, b) (rate(x_total{y="z"}[5m])) / on(host) (w:q > 3e2) and on(a) max_over_time(v[1d]) or vector(0)'
    )

    assert {"x_total", "w:q", "v"} == names_in(expression)


def test_every_alert_asks_for_what_there_is(objectives: list[dict[str, str]]) -> None:
    known = exposed() | {rule["record"] for rule in objectives}
    asked = {name for rule in rules(RULES / "appliance.yml") + objectives for name in names_in(rule["expr"])}

    assert len(asked) > 30
    assert set() == asked - known


def test_every_panel_asks_for_what_there_is(objectives: list[dict[str, str]]) -> None:
    known = exposed() | {rule["record"] for rule in objectives}
    unknown = {
        f"{dashboard.title}, {panel.title}: {name}"
        for dashboard in make_dashboards.dashboards()
        for panel in dashboard.panels
        for _, expression in panel.queries
        for name in names_in(expression)
        if name not in known
    }

    assert set() == unknown


def test_the_page_asks_for_what_there_is(objectives: list[dict[str, str]]) -> None:
    known = exposed() | {rule["record"] for rule in objectives}

    assert set() == {name for expression in page_questions().values() for name in names_in(expression)} - known


def test_the_dashboards_are_what_the_tables_say(tmp_path: Path) -> None:
    make_dashboards.write(tmp_path)

    made = {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()}
    placed = {path.name: path.read_text(encoding="utf-8") for path in make_dashboards.DIRECTORY.iterdir()}
    assert made == placed, "run `python -m tools.make_dashboards`"
    assert {"engines.json", "gateway.json", "hardware.json", "teams.json", "objectives.json"} == set(made)


def test_panels_of_a_dashboard_lie_side_by_side_and_never_on_each_other() -> None:
    for path in make_dashboards.DIRECTORY.iterdir():
        taken: set[tuple[int, int]] = set()
        for panel in json.loads(path.read_text(encoding="utf-8"))["panels"]:
            place = panel["gridPos"]
            cells = {
                (x, y)
                for x in range(place["x"], place["x"] + place["w"])
                for y in range(place["y"], place["y"] + place["h"])
            }
            assert place["x"] + place["w"] <= 24, (path.name, panel["title"])
            assert not taken & cells, (path.name, panel["title"])
            taken |= cells

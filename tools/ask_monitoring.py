"""Asks a running Prometheus what dashboards, page and alerts ask it: `python -m tools.ask_monitoring URL`.

Nothing may be refused. What has no data is listed with the reason: nothing exposes the metric, or nothing fits now.
An alert that has no data is quiet; it is listed only where it could not fire, because what it looks at is not there.
"""

import argparse
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.table import Table

from tools import make_dashboards

PAGE = Path(__file__).resolve().parent.parent / "roles" / "monitoring" / "files" / "appliance.html"
WORDS = {"and", "or", "unless", "bool", "offset", "inf", "nan", "ignoring", "group_left", "group_right"}
GRAFANA = {"$__rate_interval": "5m", "$__range": "6h"}
VARIABLE = re.compile(r"\$[a-z_]+")  # $1 is of label_replace
LABEL_VALUES = re.compile(r"label_values\((?P<series>.+), (?P<label>\w+)\)")
TIMEOUT_SECONDS = 30.0


class NoAnswer(Exception):
    """Prometheus cannot be asked; the message is the one line to print."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """One expression and who asks it."""

    asker: str
    title: str
    expression: str
    is_alert: bool = False


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What Prometheus said: refused with these words, or so many series; `unknown` are metrics that nothing exposes."""

    question: Question
    refusal: str = ""
    series: int = 0
    unknown: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Nothing to draw; an alert may be quiet, if only all that it looks at is there."""
        return not self.refusal and (bool(self.unknown) if self.question.is_alert else self.series == 0)

    @property
    def reason(self) -> str:
        """Why there is nothing."""
        return f"nothing exposes {', '.join(self.unknown)}" if self.unknown else "nothing fits just now"


def names_in(expression: str) -> set[str]:
    """The metrics of a PromQL expression."""
    bare = re.sub(r"\"[^\"]*\"|'[^']*'", "", expression)
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]", "", bare)
    bare = re.sub(r"\b(by|on|without|ignoring)\s*\([^)]*\)", "", bare)
    found = re.finditer(r"[a-zA-Z_:][a-zA-Z0-9_:]*(?!\w)(\s*\()?", re.sub(r"\b[0-9][0-9a-z.]*\b", "", bare))
    return {one[0] for one in found if not one[1]} - WORDS


def page_questions() -> dict[str, str]:
    """What the operators' page asks, by name."""
    block = re.search(r"^const QUERIES = \{$(.*?)^\};$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    if block is None:
        raise NoAnswer(f"{PAGE.name} has no list of queries")
    found = re.findall(r"""^  (\w+): (?:'(.*?)'|"(.*?)"),?$""", block[1], re.MULTILINE)
    return {name: single or double for name, single, double in found}


def questions() -> Iterator[Question]:
    """Of dashboards, as Grafana would put them with everything chosen, and of the page."""
    for dashboard in make_dashboards.dashboards():
        for name, query in dashboard.variables:
            found = LABEL_VALUES.fullmatch(query)
            series = f"count by ({found['label']}) ({found['series']})" if found else query
            yield Question(asker=dashboard.title, title=f"choice of {name}", expression=series)
        for panel in dashboard.panels:
            for legend, expression in panel.queries:
                title = f"{panel.title} ({legend})" if len(panel.queries) > 1 else panel.title
                yield Question(asker=dashboard.title, title=title, expression=filled(expression))
    for name, expression in page_questions().items():
        yield Question(asker="page", title=name, expression=expression)


def filled(expression: str) -> str:
    """Grafana's variables, each with everything chosen."""
    for name, value in GRAFANA.items():
        expression = expression.replace(name, value)
    return VARIABLE.sub(".*", expression)


class Prometheus:
    """A running one."""

    def __init__(self, client: httpx.Client) -> None:
        self.client = client
        self.metrics = frozenset(self._get("/api/v1/label/__name__/values"))

    def rules(self) -> Iterator[tuple[Question, str]]:
        """Every rule that it has loaded, with the error of its last evaluation."""
        for group in self._get("/api/v1/rules")["groups"]:
            for rule in group["rules"]:
                asker = "alert" if rule["type"] == "alerting" else "objective"
                question = Question(
                    asker=asker, title=rule["name"], expression=rule["query"], is_alert=asker == "alert"
                )
                yield question, rule.get("lastError", "") if rule["health"] == "err" else ""

    def answer(self, question: Question, *, trouble: str = "") -> Answer:
        """One question, asked now."""
        said = self._ask("/api/v1/query", query=question.expression)
        if said.status_code != httpx.codes.OK:
            return Answer(question=question, refusal=said.json().get("error", said.text))
        # ALERTS and ALERTS_FOR_STATE are there only while something is wrong.
        unknown = names_in(question.expression) - self.metrics - {"ALERTS"}
        found = said.json()["data"]["result"]
        return Answer(question=question, refusal=trouble, series=len(found), unknown=tuple(sorted(unknown)))

    def _get(self, path: str) -> Any:
        return self._ask(path).raise_for_status().json()["data"]

    def _ask(self, path: str, **parameters: str) -> httpx.Response:
        try:
            return self.client.get(path, params=parameters)
        except httpx.HTTPError as error:
            raise NoAnswer(f"{self.client.base_url}: {error}") from None


def ask_everything(url: str) -> list[Answer]:
    """Every question of dashboards and page, and every rule that runs there."""
    with httpx.Client(base_url=url, timeout=TIMEOUT_SECONDS, trust_env=False) as client:
        prometheus = Prometheus(client)
        answers = [prometheus.answer(question) for question in questions()]
        return answers + [prometheus.answer(question, trouble=trouble) for question, trouble in prometheus.rules()]


def table_of(answers: list[Answer]) -> Table:
    """By who asks."""
    table = Table("asked by", "questions", "accepted", "with data", "without")
    for asker in dict.fromkeys(answer.question.asker for answer in answers):
        own = [answer for answer in answers if answer.question.asker == asker]
        accepted = [answer for answer in own if not answer.refusal]
        empty = [answer for answer in accepted if answer.is_empty]
        table.add_row(
            asker, *(str(number) for number in (len(own), len(accepted), len(accepted) - len(empty), len(empty)))
        )
    return table


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.ask_monitoring", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("url", help="where Prometheus listens, for example http://127.0.0.1:9090")
    arguments = parser.parse_args()
    console = Console(highlight=False, soft_wrap=True)
    try:
        answers = ask_everything(arguments.url)
    except (NoAnswer, httpx.HTTPError) as error:
        console.print(f"ask_monitoring: {error}", style="red", markup=False)
        return 2
    console.print(table_of(answers))
    for answer in answers:
        if answer.is_empty:
            place = f"{answer.question.asker}, {answer.question.title}"
            console.print(f"without data: {place}: {answer.reason}", markup=False)
    refused = [answer for answer in answers if answer.refusal]
    for answer in refused:
        place = f"{answer.question.asker}, {answer.question.title}"
        console.print(f"REFUSED: {place}: {answer.question.expression}: {answer.refusal}", style="red", markup=False)
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main())

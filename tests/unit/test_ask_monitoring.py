"""What is asked of a running Prometheus, and what its answers are taken for. Prometheus here is a table."""

import re

import httpx
import pytest

from tools.ask_monitoring import Prometheus, Question, filled, questions

SERIES = {"up": 2, "up == 0": 0, "gone_total": 0}


def prometheus() -> Prometheus:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/values"):
            return httpx.Response(200, json={"data": ["up"]})
        if request.url.path.endswith("/rules"):
            rules = [
                {"type": "alerting", "name": "Down", "query": "up == 0", "health": "ok"},
                {"type": "recording", "name": "half:up", "query": "up", "health": "err", "lastError": "twice the same"},
            ]
            return httpx.Response(200, json={"data": {"groups": [{"rules": rules}]}})
        query = request.url.params["query"]
        if query not in SERIES:
            return httpx.Response(400, json={"error": "parse error"})
        return httpx.Response(200, json={"data": {"result": [{}] * SERIES[query]}})

    return Prometheus(httpx.Client(base_url="http://prometheus", transport=httpx.MockTransport(answer)))


def question(expression: str, *, is_alert: bool = False) -> Question:
    return Question(asker="Engines", title="a panel", expression=expression, is_alert=is_alert)


def test_a_question_that_prometheus_refuses_is_told_with_its_words() -> None:
    answer = prometheus().answer(question("sum("))

    assert ("parse error", False) == (answer.refusal, answer.is_empty)


@pytest.mark.parametrize(
    ("expression", "is_alert", "is_empty", "reason"),
    [
        ("up", False, False, "nothing fits just now"),
        ("up == 0", False, True, "nothing fits just now"),
        ("gone_total", False, True, "nothing exposes gone_total"),
        ("up == 0", True, False, "nothing fits just now"),
        ("gone_total", True, True, "nothing exposes gone_total"),
    ],
)
def test_what_has_no_data_says_why_and_an_alert_may_be_quiet(
    expression: str, is_alert: bool, is_empty: bool, reason: str
) -> None:
    answer = prometheus().answer(question(expression, is_alert=is_alert))

    assert (is_empty, reason) == (answer.is_empty, answer.reason)


def test_a_rule_that_failed_when_it_was_evaluated_is_refused_whatever_the_question_says_now() -> None:
    site = prometheus()

    answers = [site.answer(one, trouble=trouble) for one, trouble in site.rules()]

    assert [("Down", True, ""), ("half:up", False, "twice the same")] == [
        (answer.question.title, answer.question.is_alert, answer.refusal) for answer in answers
    ]


def test_grafanas_variables_stand_for_everything() -> None:
    assert 'rate(x{model=~".*"}[5m]) + increase(y[6h])' == filled(
        'rate(x{model=~"$model"}[$__rate_interval]) + increase(y[$__range])'
    )


def test_every_panel_every_choice_and_the_whole_page_are_asked() -> None:
    asked = list(questions())

    assert len(asked) > 100
    left = re.compile(r"\$[A-Za-z_]|label_values")  # $1 is of label_replace
    assert [] == [one for one in asked if left.search(one.expression)]
    assert {"Engines", "Gateway", "Hardware", "Teams", "Objectives", "page"} == {one.asker for one in asked}

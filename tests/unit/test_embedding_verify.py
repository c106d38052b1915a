"""The judge of a site with an embedding model: a vector from the engine and one through the gateway, booked."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from sizing.judge import judge
from sizing.observation import Observation
from sizing.plan import Plan
from sizing.report import Report
from tests.fakes.lab_site import GEMMA, observation_content, plan_content

Seen = dict[str, Any]


def planned() -> dict[str, Any]:
    """The lab with Gemma as an embedding model."""
    plan = plan_content()
    model = next(one for one in plan["models"] if one["name"] == GEMMA)
    window_tokens = model["max_input_tokens"] + model["max_output_tokens"]
    model.update(task="embedding", max_input_tokens=window_tokens, max_output_tokens=0)
    next(one for one in plan["gateway"]["relays"] if one["model"] == GEMMA).update(task="embedding")
    for host in plan["hosts"].values():
        for engine in host["engines"]:
            if engine["model"] == GEMMA:
                engine["vllm_options"]["runner"] = "pooling"
    return plan


def observed() -> Seen:
    """What verify sees there: one call that was answered with a vector, and no token of that engine."""
    seen = copy.deepcopy(observation_content())
    gateway = seen["gateways"]["h1"]
    chat = next(one for one in gateway["calls"] if (one["model"], one["kind"]) == (GEMMA, "chat"))
    gateway["calls"] = [one for one in gateway["calls"] if one["model"] != GEMMA]
    gateway["calls"].append(
        {**chat, "kind": "embedding", "vector_numbers_count": 64, "text_characters": 0, "completion_tokens": 0}
    )
    for row in gateway["declared"]:
        if row["model"] == GEMMA:  # LiteLLM makes up a length for answers
            row.update(max_input_tokens=row["max_input_tokens"] + row["max_output_tokens"], max_output_tokens=4096)
    engine = seen["engines"]["h3"][1]
    engine.update(first_token_count=None, vector_numbers_count=64)
    rows = [row for row in seen["spend"]["rows"] if row["request_id"] != f"chatcmpl-{chat['request_id']}"]
    kept = [row for row in seen["spend"]["rows"] if row not in rows]
    price = kept[0]["prompt_tokens"] * 1e-6
    rows = [row for row in rows if row["model"] != GEMMA] + [{**kept[0], "completion_tokens": 0, "spend": price}]
    seen["spend"]["rows"] = rows
    seen["spend"]["key_spend"]["cafe"] = sum(row["spend"] for row in rows)
    return seen


def judged(change: Callable[[Seen], object] = lambda _: None) -> Report:
    seen = observed()
    change(seen)
    return judge(Plan.parse(planned(), origin="plan"), Observation.parse(seen, origin="observation"))


def failed(report: Report) -> set[str]:
    return {check.id for check in report.failed}


def test_vectors_instead_of_answers_pass_every_check() -> None:
    report = judged()

    assert () == report.failed, [(check.id, check.seen, check.expected) for check in report.failed]
    kinds = [check.id for check in report.checks if check.subject == GEMMA]
    assert "model.embedding" in kinds
    assert not {"model.chat", "model.stream", "model.over-long", "model.over-window"} & set(kinds)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda seen: seen["engines"]["h3"][1].update(vector_numbers_count=0), {"engine.first-token"}),
        (lambda seen: seen["gateways"]["h1"]["calls"][-1].update(vector_numbers_count=0), {"model.embedding"}),
        (lambda seen: seen["gateways"]["h1"]["calls"][-1].update(attempted_fallbacks_count=1), {"model.embedding"}),
    ],
)
def test_a_vector_that_is_missing_fails_the_check_about_it(change: Callable[[Seen], object], words: set[str]) -> None:
    assert words == failed(judged(change))

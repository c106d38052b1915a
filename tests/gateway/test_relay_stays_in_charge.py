"""LiteLLM in front of a relay: one layer that retries, and nothing that undoes what the relay does."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.gateway.conftest import Site
from tests.gateway.processes import MASTER_KEY
from tests.gateway.test_ledger_of_gateway import chat

pytestmark = pytest.mark.lab


def pieces(body: str) -> list[dict[str, Any]]:
    return [json.loads(line[6:]) for line in body.splitlines() if line.startswith("data: {")]


def text_of(body: str) -> str:
    return "".join(piece["choices"][0]["delta"].get("content") or "" for piece in pieces(body) if piece.get("choices"))


@pytest.mark.parametrize("status", ["500", "503"])
def test_what_a_relay_gives_up_on_is_not_tried_again_and_another_model_answers(site: Site, status: str) -> None:
    stub = site.stub.told(status)

    answer = chat(site, MASTER_KEY, model="stub")

    assert len(stub.asked) == 1
    assert answer.status == 200
    assert answer.headers["x-litellm-model-group"] == "chat"


def test_a_fault_of_the_client_is_the_clients_and_goes_to_no_other_model(site: Site) -> None:
    stub = site.stub.told("400")

    answer = chat(site, MASTER_KEY, model="stub")

    assert (answer.status, len(stub.asked)) == (400, 1)


@pytest.mark.parametrize("stream", [False, True])
def test_a_relay_that_thinks_longer_than_the_stream_timeout_is_waited_for(site: Site, stream: bool) -> None:
    stub = site.stub.told("late")

    answer = chat(site, MASTER_KEY, model="stub", stream=stream)

    assert (answer.status, len(stub.asked)) == (200, 1)
    assert answer.headers["x-litellm-model-group"] == "stub"


def test_a_stream_that_breaks_is_not_continued_from_text_by_another_model(site: Site) -> None:
    stub = site.stub.told("cut")
    before = len(site.engine_reports())

    answer = chat(site, MASTER_KEY, model="stub", stream=True)

    assert len(stub.asked) == 1
    assert len(site.engine_reports()) == before
    assert text_of(answer.body) == "piece-0 piece-1 piece-2 piece-3 "
    assert any("error" in piece for piece in pieces(answer.body))


def test_a_model_may_say_the_same_three_hundred_times(site: Site) -> None:
    site.stub.told("repeat")

    answer = chat(site, MASTER_KEY, model="stub", stream=True)

    assert text_of(answer.body) == "same" * 300
    assert "error" not in answer.body


def test_failures_do_not_make_the_gateway_leave_a_relay_alone(site: Site) -> None:
    site.stub.told("503")
    for _ in range(6):
        chat(site, MASTER_KEY, model="stub")

    stub = site.stub.told("answer")
    answers = [chat(site, MASTER_KEY, model="stub") for _ in range(4)]

    assert [answer.headers["x-litellm-model-group"] for answer in answers] == ["stub"] * 4
    assert len(stub.asked) == 4

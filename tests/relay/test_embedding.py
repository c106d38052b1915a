"""Requests for vectors: passed on whole, tried elsewhere, booked before the client has them; probes ask for one."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from relay.ledger_lines import SEGMENT_SUFFIX
from tests.relay.two_engines import CHAT, TwoEngines

EMBEDDINGS = "/v1/embeddings"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoEngines]:
    with TwoEngines(tmp_path_factory.mktemp("embedding"), task="embedding") as running:
        yield running


def booked(site: TwoEngines, identity: str) -> dict[str, Any]:
    """The bill of one request."""
    lines = [
        json.loads(line)
        for path in sorted(site.folder.glob(f"*{SEGMENT_SUFFIX}*"))
        for line in path.read_text(encoding="utf-8").splitlines()
        if identity in line and '"kind":"end"' in line
    ]
    (line,) = lines
    return dict(line)


def test_vectors_come_through_and_are_booked_as_the_engine_counted(site: TwoEngines) -> None:
    site.heal()
    asked = {"model": "fault", "input": ["Hello", "Hello there"]}

    heard = site.ask(EMBEDDINGS, asked, **{"x-request-id": "vectors-1"})

    assert (200, 2) == (heard.status, len(heard.body["data"]))
    bill = booked(site, "vectors-1")
    assert heard.body["usage"]["prompt_tokens"] == bill["prompt_tokens"] > 0
    assert (0, EMBEDDINGS, "completed") == (bill["completion_tokens"], bill["endpoint"], bill["outcome"])


def test_an_engine_that_fails_is_left_for_another_and_the_bill_names_both(site: TwoEngines) -> None:
    site.heal()
    asked = {"model": "fault", "input": "Hello"}
    right = site.undisturbed(EMBEDDINGS, asked).body["data"]

    outcomes: list[list[str]] = []
    for number in range(20):  # until the engine with the fault is the one that is asked
        site.heal()
        site.engines["a"].control.inject("500", requests=1)
        heard = site.ask(EMBEDDINGS, asked, **{"x-request-id": f"elsewhere-{number}-"})
        assert (200, right) == (heard.status, heard.body["data"])
        outcomes.append([leg["outcome"] for leg in booked(site, f"elsewhere-{number}-")["legs"]])
        if len(outcomes[-1]) > 1:
            break

    assert ["fault", "completed"] == outcomes[-1]


def test_engines_come_back_by_making_a_vector(site: TwoEngines) -> None:
    site.heal()
    site.engines["a"].control.inject("503", requests=2)
    for number in range(4):
        site.ask(EMBEDDINGS, {"model": "fault", "input": f"text {number}"})

    site.wait_for(a="serving", b="serving")

    heard = site.ask(EMBEDDINGS, {"model": "fault", "input": "after"})
    assert 200 == heard.status


def test_a_request_that_the_engine_refuses_is_the_clients_and_costs_nothing(site: TwoEngines) -> None:
    site.heal()

    heard = site.ask(EMBEDDINGS, {"model": "fault"}, **{"x-request-id": "vectors-3"})

    bill = booked(site, "vectors-3")
    assert (400, 0, "refused") == (heard.status, bill["prompt_tokens"], bill["outcome"])


def test_the_pause_of_coalescing_is_told_and_falls_back_when_streams_end(site: TwoEngines) -> None:
    site.heal()

    site.ask(CHAT, {"model": "fault", "stream": True, "max_tokens": 3, "messages": [{"role": "user", "content": "a"}]})

    assert 0.0 == site.status()["coalesce_pause_seconds"]

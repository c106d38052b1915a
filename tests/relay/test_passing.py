"""Paths whose answers the relay does not read: another engine is asked, a refusal is handed on, once."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.relay.two_engines import TwoEngines

WORDS = {"model": "fault", "prompt": "how many tokens? 몇 개? 🎉"}


@pytest.fixture
def site(tmp_path: Any) -> Iterator[TwoEngines]:
    with TwoEngines(tmp_path) as running:
        yield running


def test_tokens_are_counted_by_another_engine_when_one_is_dead(site: TwoEngines) -> None:
    right = site.undisturbed("/tokenize", WORDS).body
    site.engines["a"].kill()

    heard = [site.ask("/tokenize", WORDS) for _ in range(4)]

    assert [(200, right)] * 4 == [(one.status, one.body) for one in heard]


def test_a_group_that_is_gone_is_a_503_with_retry_after_here_too(site: TwoEngines) -> None:
    for engine in site.engines.values():
        engine.kill()

    heard = site.ask("/tokenize", WORDS)

    assert 503 == heard.status
    assert int(heard.headers["retry-after"]) >= 1


def test_what_engines_refuse_is_handed_on_and_not_tried_again(site: TwoEngines) -> None:
    heard = site.ask("/v1/audio/speech", {"model": "fault", "input": "not offered there"})

    assert 404 == heard.status
    assert [] == [line for line in site.log() if line["event"] == "fault"]
    assert {"serving"} == set(site.states().values())


def test_engines_that_cut_a_request_are_an_error_status_also_where_a_stream_was_spoken_of(tmp_path: Path) -> None:
    with TwoEngines(tmp_path, max_legs=1) as site:
        for engine in site.engines.values():
            engine.control.inject("reset")

        heard = site.ask("/v1/embeddings", {"model": "fault", "input": "hi", "stream": False})

    assert 502 == heard.status
    assert 502 == heard.body["error"]["code"]

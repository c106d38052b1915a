"""Crowds that lose an engine: every answer is held against what is right, and rounds of several runs add up."""

import asyncio
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.failover.crowd import Crowd, Round
from benchmarks.failover.crowd_result import criteria, fault_results
from benchmarks.failover.faults import Trial, faults_of
from benchmarks.failover.loopback import FAULT_MODEL, FAULT_MODEL_LEN, fault_engines
from benchmarks.failover.questions import SPECIALS, Question, agreed, computed, questions, unreadable_prompts
from benchmarks.failover.relay_process import RelayProcess
from benchmarks.failover.site import Engine
from benchmarks.listening import Heard, ask

KEY = "a-key-of-the-crowd"


def asked(count: int) -> list[Question]:
    made = questions(count, model=FAULT_MODEL, tokens=30, unreadable=unreadable_prompts(), special={})
    return computed(made, max_model_len=FAULT_MODEL_LEN)


@pytest.fixture(scope="module")
def engines() -> Iterator[list[Engine]]:
    with fault_engines(2, key=KEY, pace={"itl_ms": 100, "ttft_ms": 5}) as running:
        yield running


@pytest.fixture
def crowd(engines: list[Engine], tmp_path: Path) -> Iterator[Crowd]:
    replicas = {engine.name: engine.address for engine in engines}
    tuning = {"stall_seconds": 20.0, "first_byte_seconds": 60.0, "connect_seconds": 20.0}
    with RelayProcess(
        tmp_path / "relay", replicas, model=FAULT_MODEL, key=KEY, max_model_len=FAULT_MODEL_LEN, tuning=tuning
    ) as relay:
        relay.ready()
        yield Crowd(relay=relay, key=KEY, subject=FAULT_MODEL, spread_seconds=0.3)


def one_round(crowd: Crowd, engines: list[Engine], name: str, wanted: list[Question]) -> Round:
    trial = Trial(stall_seconds=1.0, outstanding=lambda engine: crowd.relay.outstanding_at(engine.name))
    fault = next(fault for fault in faults_of(engines, trial) if name in fault.name)
    return asyncio.run(crowd.round(wanted, fault, strike_seconds=0.4))


def test_the_questions_are_of_every_family_and_kind() -> None:
    made = asked(60)

    assert {"English", "Korean", "emoji", "unreadable ids"} == {question.family.split(", ")[0] for question in made}
    assert {kind for kind, _ in SPECIALS} <= {question.family.partition(", ")[2] for question in made}
    assert {True, False} == {bool(question.body.get("stream")) for question in made}
    assert {"/v1/chat/completions", "/v1/completions"} == {question.path for question in made}
    assert any("presence_penalty" in question.body for question in made)
    assert any(question.token_ids for question in made)


def test_a_crowd_that_loses_its_streams_hears_what_it_would_have_heard(crowd: Crowd, engines: list[Engine]) -> None:
    found = one_round(crowd, engines, "stream cut", asked(16))

    assert (16, 16, 0) == (found.requests, found.compared, found.bad), found.first_bad
    assert found.met > 0
    assert len(found.gaps) + len(found.replayed_gaps) == found.met_streaming
    assert [] == asyncio.run(crowd.books_differ())


def test_an_answer_that_is_not_right_is_seen_and_fails_the_suite(crowd: Crowd, engines: list[Engine]) -> None:
    wanted = asked(8)
    wanted[3] = dataclasses.replace(wanted[3], text="something else", token_ids=None)

    found = one_round(crowd, engines, "HTTP 503", wanted)

    assert 1 == found.bad
    assert "another text" in found.first_bad[0]
    verdicts = {one.name: one.passed for one in criteria([found], whole_ratio=0.999, books_differ=[], booked=8)}
    assert not verdicts["fault, HTTP 503: whole, equal, one id, exact usage"]


def test_a_round_in_which_nothing_met_the_fault_proves_nothing() -> None:
    idle = Round(fault="stream cut", subject="m", gap_limit_seconds=1.0, requests=10, in_flight=3)

    found = criteria([idle], whole_ratio=0.999, books_differ=[], booked=0)

    assert not next(one for one in found if one.name.endswith("it struck where requests ran")).passed


def test_rounds_of_earlier_runs_are_counted_in(tmp_path: Path) -> None:
    rounds = [
        Round(fault="stall", subject="m", gap_limit_seconds=3.0, requests=10, met=4, bad=bad, bad_met=bad, gaps=gaps)
        for bad, gaps in ((0, [2.0, 2.2]), (1, [2.4, 2.6]))
    ]
    for one in rounds:
        one.write(tmp_path / "rounds.jsonl")

    result = fault_results(Round.read(tmp_path / "rounds.jsonl"))

    assert 1 == len(result)
    assert (20, 8, 1, 2) == (result[0].requests, result[0].in_flight, result[0].broken_in_flight, result[0].repeats)
    assert 2.6 == result[0].gap_max_seconds


def test_only_what_all_undisturbed_runs_say_is_held_against() -> None:
    same, other = heard("one"), heard("two")
    made = questions(2, model="m", tokens=4, unreadable=[[1]], special={})

    known, unstable = agreed(made, [same, same], [same, other])

    assert 1 == unstable
    assert ["one", None] == [question.text for question in known]


def heard(text: str) -> Heard:
    body = json.dumps({"id": "x", "choices": [{"text": text, "finish_reason": "length"}]}).encode()
    one = Heard(request=b"", over=asyncio.new_event_loop().create_future())
    one.pieces = [b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n", body]
    return one


def test_silence_is_the_longest_one_that_reaches_beyond_the_fault() -> None:
    one = heard("")
    one.times, one.ended = [1.0, 4.0, 4.5, 7.0], 7.1

    assert 3.0 == one.silence(3.0)
    assert 2.5 == one.silence(4.2)
    assert 0.5 == pytest.approx(dataclasses.replace(one, times=[1.0, 1.5], ended=1.5).silence(1.2))


def test_who_never_gets_an_answer_is_hung_up_in_time(engines: list[Engine]) -> None:
    port = int(engines[0].address.rpartition(":")[2])
    body = {"model": FAULT_MODEL, "prompt": "x", "max_tokens": 4000, "stream": True}

    one = asyncio.run(ask(port, "/v1/completions", body, key=KEY, seconds=3.0))

    assert not one.done
    assert one.status == 200

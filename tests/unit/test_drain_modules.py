"""The modules of a drain against loopback servers: an engine is out when nothing runs on it, and back when it answers
as it did when it was deployed."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.ansible_module import run_module
from tests.fakes.replay import Asked, Reply, replaying

KEY = "an-engine-key"
GOLDEN = list(range(100, 132))


class Relay:
    """A relay with one engine, whose running requests end one by one each time somebody looks."""

    def __init__(self, *, state: str = "serving", running: int = 0) -> None:
        self.state = state
        self.running = running
        self.told: list[str] = []

    def __call__(self, asked: Asked) -> Reply:
        if asked.key != KEY:
            return Reply(status=401, content={"error": {"message": "Unauthorized"}})
        if asked.path.startswith("/relay/replicas/"):
            self.told.append(asked.path)
            self.state = "draining" if asked.path.endswith("/drain") else "serving"
            return Reply(content={})
        row = {"id": "chat@h2", "state": self.state, "outstanding_requests": self.running}
        if self.state == "draining":
            self.running = max(0, self.running - 1)
        return Reply(content={"replicas": [row]})


def drain(url: str, state: str, **more: Any) -> dict[str, Any]:
    return run_module("drain_replica", url=url, api_key=KEY, replica="chat@h2", state=state, **more)


def test_an_engine_is_out_when_its_last_answer_has_ended() -> None:
    relay = Relay(running=2)

    with replaying(relay) as server:
        answer = drain(server.url, "out")

    assert (True, True) == (answer["changed"], answer["known"])
    assert ["/relay/replicas/chat%40h2/drain"] == relay.told
    assert 0 == relay.running


def test_an_engine_that_is_out_already_is_left_so() -> None:
    relay = Relay(state="draining")

    with replaying(relay) as server:
        answer = drain(server.url, "out")

    assert not answer["changed"]
    assert [] == relay.told


def test_an_engine_that_never_finishes_is_named_with_what_still_runs() -> None:
    with replaying(Relay(running=10_000)) as server:
        answer = drain(server.url, "out", wait_seconds=0)

    assert answer["failed"]
    assert "chat@h2 is draining with 10000 requests after 0 s" in answer["msg"]


def test_an_engine_comes_back_where_it_was_taken_out() -> None:
    relay = Relay(state="draining")

    with replaying(relay) as server:
        answer = drain(server.url, "in")

    assert answer["changed"]
    assert "serving" == relay.state


def test_a_relay_that_is_not_there_sends_nothing_to_anybody() -> None:
    with replaying(Relay()) as server:
        url = server.url

    assert {"changed": False, "known": False} == {
        key: value for key, value in drain(url, "out").items() if key in {"changed", "known"}
    }


def test_a_relay_that_refuses_the_key_is_not_taken_for_drained() -> None:
    with replaying(Relay()) as server:
        answer = run_module("drain_replica", url=server.url, api_key="wrong", replica="chat@h2", state="out")

    assert answer["failed"]
    assert "401 Unauthorized" in answer["msg"]


class Gateway:
    """A gateway whose models answer one after the other with these replies, the last one for ever."""

    def __init__(self, *replies: Reply) -> None:
        self.replies = list(replies)
        self.bodies: list[Any] = []

    def __call__(self, asked: Asked) -> Reply:
        self.bodies.append(asked.body)
        return self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]


def prove(gateway: Gateway, **more: Any) -> dict[str, Any]:
    with replaying(gateway) as server:
        return run_module("generated_token", url=server.url, key=KEY, model="chat", **more)


def test_a_gateway_serves_when_a_model_itself_has_generated_a_token() -> None:
    gateway = Gateway(Reply(content={"usage": {"completion_tokens": 1}}))

    answer = prove(gateway)

    assert not answer.get("failed")
    assert [("chat", 1, True)] == [
        (body["model"], body["max_tokens"], body["disable_fallbacks"]) for body in gateway.bodies
    ]


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (Reply(status=503, content={"error": {"message": "no engine serves"}}), "503 no engine serves"),
        (Reply(content={"usage": {"completion_tokens": 0}}), "200, but no token"),
        (Reply(content={"status": "healthy"}), "200, but no token"),
    ],
)
def test_an_answer_without_a_token_proves_nothing_and_is_quoted(reply: Reply, words: str) -> None:
    answer = prove(Gateway(reply), wait_seconds=0)

    assert answer["failed"]
    assert f"generates no token with chat: {words}" in answer["msg"]


class Engine:
    """An engine that always says the same."""

    def __init__(self, token_ids: list[int]) -> None:
        self.token_ids = token_ids

    def __call__(self, asked: Asked) -> Reply:
        if asked.key != KEY:
            return Reply(status=401, content={"error": "Unauthorized"})
        return Reply(content={"choices": [{"text": "x", "token_ids": self.token_ids}]})


@pytest.fixture
def started(tmp_path: Path) -> Path:
    path = tmp_path / "fingerprint"
    path.write_text("release-1", encoding="utf-8")
    return path


def golden(engine: Engine, started: Path, **more: Any) -> dict[str, Any]:
    with replaying(engine) as server:
        return run_module(
            "golden_answer",
            name="chat",
            url=server.url,
            model="chat",
            api_key=KEY,
            directory=str(started.parent / "golden"),
            fingerprint=str(started),
            **more,
        )


def test_the_first_answer_is_recorded_and_the_same_one_is_equal_ever_after(started: Path) -> None:
    first = golden(Engine(GOLDEN), started)
    again = golden(Engine(GOLDEN), started, compare=True)

    assert (True, "recorded") == (first["changed"], first["verdict"])
    assert (False, "equal") == (again["changed"], again["verdict"])
    assert GOLDEN == json.loads((started.parent / "golden" / "chat.json").read_text("utf-8"))["token_ids"]


def test_another_answer_of_the_same_engine_is_refused_with_the_place(started: Path) -> None:
    golden(Engine(GOLDEN), started)

    answer = golden(Engine([*GOLDEN[:30], 7, 131]), started, compare=True)

    assert answer["failed"]
    assert "from token 31 of 32: expected 130, got 7" in answer["msg"]


def test_an_engine_with_other_options_may_answer_otherwise_and_is_recorded_anew(started: Path) -> None:
    golden(Engine(GOLDEN), started)
    started.write_text("release-2", encoding="utf-8")

    answer = golden(Engine(GOLDEN[::-1]), started, compare=True)

    assert "recorded" == answer["verdict"]


def test_an_engine_that_breaks_off_has_no_golden_answer(started: Path) -> None:
    answer = golden(Engine(GOLDEN[:3]), started)

    assert answer["failed"]
    assert not (started.parent / "golden").exists()

"""Which engine takes a request, what happens when none does, and how engines leave and come back."""

import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.relay.two_engines import CHAT, KEY, TwoEngines


@pytest.fixture
def site(tmp_path: Any) -> Iterator[TwoEngines]:
    limits = {"concurrent_requests_per_replica": 2, "queue_max_requests": 3, "drain_seconds": 10.0}
    with TwoEngines(tmp_path, **limits, drained_file=str(tmp_path / "drained.json")) as running:
        yield running


def chat(prompt: str, **more: Any) -> dict[str, Any]:
    body = {"model": "fault", "temperature": 0, "max_tokens": 40, "stream": True}
    return body | {"messages": [{"role": "user", "content": prompt}]} | more


def served(site: TwoEngines) -> dict[str, int]:
    return {name: engine.control.status()["counters"].get("requests", 0) for name, engine in site.engines.items()}


def test_a_conversation_returns_to_the_engine_that_holds_its_cache(site: TwoEngines) -> None:
    first = [{"role": "user", "content": "first question"}]
    home = site.ask(CHAT, chat("", messages=first)).headers["x-relay-replica"]
    turns = []
    for turn in range(4):
        first = [
            *first,
            {"role": "assistant", "content": f"answer {turn}"},
            {"role": "user", "content": f"and {turn}?"},
        ]
        turns.append(site.ask(CHAT, chat("", messages=first)).headers["x-relay-replica"])

    assert [home] * 4 == turns


def test_strangers_to_each_other_go_where_the_least_is_outstanding(site: TwoEngines) -> None:
    with ThreadPoolExecutor(4) as pool:
        heard = list(pool.map(lambda number: site.ask(CHAT, chat(f"{number} of four", max_tokens=300)), range(4)))

    assert {"a": 2, "b": 2} == {name: [one.headers["x-relay-replica"] for one in heard].count(name) for name in "ab"}


def test_what_does_not_fit_waits_and_what_does_not_fit_the_queue_gets_a_fast_503(site: TwoEngines) -> None:
    begun = threading.Barrier(12)

    def ask(number: int) -> tuple[int, str | None, bool]:
        begun.wait()
        heard = site.ask(CHAT, chat(f"crowd {number}", max_tokens=200))
        return heard.status, heard.headers.get("retry-after"), heard.done

    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(ask, range(12)))

    refused = [answer for answer in answers if answer[0] == 503]
    assert len(refused) >= 1
    assert {"1"} == {answer[1] for answer in refused}
    assert len(refused) + sum(answer[2] for answer in answers) == 12


def test_a_group_that_is_gone_is_a_503_with_retry_after_and_comes_back_by_itself(site: TwoEngines) -> None:
    for engine in site.engines.values():
        engine.kill()
    gone = site.ask(CHAT, chat("anybody?"))
    health = site.client.get(f"{site.address}/health").status_code
    for engine in site.engines.values():
        engine.restart()
    site.wait_for(a="serving", b="serving")
    back = site.ask(CHAT, chat("anybody now?"))

    assert 503 == gone.status
    assert int(gone.headers["retry-after"]) >= 1
    assert 503 == health
    assert back.done


def test_a_hung_engine_is_out_before_any_client_finds_it(site: TwoEngines) -> None:
    site.engines["a"].pause()
    try:
        site.wait_for(a="ejected")
    finally:
        site.engines["a"].proceed()
    site.wait_for(a="serving")

    assert "serving" == site.states()["b"]


def test_a_drained_engine_gets_nothing_and_returns_after_a_token(site: TwoEngines) -> None:
    drained = site.client.post(f"{site.address}/relay/replicas/a/drain").json()
    before = served(site)["a"]
    for number in range(4):
        assert site.ask(CHAT, chat(f"while drained {number}")).done
    untouched = served(site)["a"] == before
    restored = site.client.post(f"{site.address}/relay/replicas/a/restore")

    assert "draining" == drained["state"]
    assert untouched
    assert (200, "serving") == (restored.status_code, restored.json()["state"])


def test_a_drained_engine_stays_out_of_a_relay_that_was_killed_and_a_restored_one_does_not(site: TwoEngines) -> None:
    drained = site.client.post(f"{site.address}/relay/replicas/a/drain").json()
    site.kill_relay()
    after_drain = site.states()
    restored = site.client.post(f"{site.address}/relay/replicas/a/restore").json()
    site.kill_relay()

    assert (True, True) == (drained["kept"], restored["kept"])
    assert {"a": "draining", "b": "serving"} == after_drain
    assert {"a": "serving", "b": "serving"} == site.states()


def test_an_unknown_replica_is_named_with_those_that_are_known(site: TwoEngines) -> None:
    answer = site.client.post(f"{site.address}/relay/replicas/z/drain")

    assert 404 == answer.status_code
    assert "a, b" in answer.json()["error"]["message"]


def test_a_client_that_leaves_takes_the_engines_work_with_it(site: TwoEngines) -> None:
    for engine in site.engines.values():
        engine.control.become(itl_ms=20)
    headers = {"Authorization": f"Bearer {KEY}"}
    with (
        httpx.Client(headers=headers, trust_env=False) as client,
        client.stream("POST", site.address + CHAT, json=chat("I leave", max_tokens=4000)) as answer,
    ):
        next(answer.iter_lines())
    deadline = time.monotonic() + 10
    while any(engine.control.status()["running"] for engine in site.engines.values()):
        assert time.monotonic() < deadline, "the engine still works for nobody"
        time.sleep(0.02)

    assert 0 == site.status()["running_requests"]


def test_a_relay_that_is_told_to_stop_finishes_what_runs(site: TwoEngines) -> None:
    for engine in site.engines.values():
        engine.control.become(itl_ms=10)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(site.ask, CHAT, chat("take your time", max_tokens=100))
        deadline = time.monotonic() + 10
        while not site.status()["running_requests"]:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        site.process.send_signal(signal.SIGTERM)
        heard = running.result()

    assert heard.done
    assert 0 == site.process.wait(20)
    assert "stopped" == site.log()[-1]["event"]

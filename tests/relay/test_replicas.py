"""Which engine takes a request, what happens when none does, and how engines leave and come back."""

import json
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from relay.replicas import GRACE_SECONDS
from tests.relay.two_engines import CHAT, HASTY, KEY, PATIENCE_SECONDS, TwoEngines, until


@pytest.fixture
def site(tmp_path: Any) -> Iterator[TwoEngines]:
    limits = {"concurrent_requests_per_replica": 2, "queue_max_requests": 3}
    with TwoEngines(tmp_path, **limits, drained_file=str(tmp_path / "drained.json")) as running:
        yield running


def chat(prompt: str, **more: Any) -> dict[str, Any]:
    body = {"model": "fault", "temperature": 0, "max_tokens": 40, "stream": True}
    return body | {"messages": [{"role": "user", "content": prompt}]} | more


def served(site: TwoEngines, name: str) -> int:
    """Answers to clients; a probe is none."""
    return sum("relay-probe" not in one["id"] for one in site.engines[name].control.requests())


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


def test_a_conversation_leaves_the_engine_that_holds_its_cache_when_that_one_is_loaded(site: TwoEngines) -> None:
    site.become(max_model_len=20_000)
    first = [{"role": "user", "content": "a question that many ask"}]
    home = site.ask(CHAT, chat("", messages=first)).headers["x-relay-replica"]
    turn = [*first, {"role": "assistant", "content": "yes"}, {"role": "user", "content": "and then?"}]
    site.become(itl_ms=1000)
    long = chat("", messages=turn, max_tokens=9000)
    with site.client.stream("POST", site.address + CHAT, json=long) as stayed:
        lines = stayed.iter_lines()  # kept: the answer ends with it
        next(lines)
        elsewhere = site.ask(CHAT, chat("", messages=turn, max_tokens=1))

    assert home == stayed.headers["x-relay-replica"]
    assert elsewhere.done
    assert home != elsewhere.headers["x-relay-replica"]


def test_strangers_to_each_other_go_where_the_least_is_outstanding(site: TwoEngines) -> None:
    site.become(itl_ms=1000)  # none is over before the last has come
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(site.ask, CHAT, chat(f"{number} of four")) for number in range(4)]
        until(lambda: site.running(outstanding=4), lambda: str(site.status()))
        site.become(itl_ms=1)
        heard = [one.result() for one in asked]

    assert {"a": 2, "b": 2} == {name: [one.headers["x-relay-replica"] for one in heard].count(name) for name in "ab"}


def test_engines_that_are_equally_idle_take_turns(site: TwoEngines) -> None:
    heard = [site.ask(CHAT, chat(f"{number} after another")).headers["x-relay-replica"] for number in range(4)]

    assert ["a", "b", "a", "b"] == heard


def test_what_does_not_fit_waits_and_what_does_not_fit_the_queue_gets_a_fast_503(site: TwoEngines) -> None:
    site.become(itl_ms=1000)
    with ThreadPoolExecutor(7) as pool:
        asked = [pool.submit(site.ask, CHAT, chat(f"crowd {number}")) for number in range(7)]
        until(lambda: site.running(outstanding=4, queued=3), lambda: str(site.status()))
        refused = [site.ask(CHAT, chat(f"too many {number}")) for number in range(3)]
        still = site.running(outstanding=4, queued=3)
        site.become(itl_ms=1)
        heard = [one.result() for one in asked]

    assert [(503, "1")] * 3 == [(one.status, one.headers.get("retry-after")) for one in refused]
    assert still, "the refusals waited for room"
    assert [True] * 7 == [one.done for one in heard]


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


def test_a_hung_engine_is_out_before_any_client_finds_it(tmp_path: Path) -> None:
    with TwoEngines(tmp_path, **HASTY) as site:
        site.engines["a"].pause()
        try:
            site.wait_for(a="ejected")
        finally:
            site.engines["a"].proceed()
        site.wait_for(a="serving", b="serving")


def test_who_waits_on_the_last_engine_while_it_is_silent_is_answered_when_it_goes_on(tmp_path: Path) -> None:
    with TwoEngines(tmp_path, **{**HASTY, "first_byte_seconds": 60.0}) as site, ThreadPoolExecutor() as pool:
        site.engines["a"].kill()
        site.wait_for(a="ejected")
        site.engines["b"].pause()
        try:
            asked = pool.submit(site.ask, CHAT, chat("are you there?"))
            site.wait_for(b="ejected")
            time.sleep(1.5 * GRACE_SECONDS)
        finally:
            site.engines["b"].proceed()
        heard = asked.result()
        site.engines["a"].restart()

    assert heard.done, heard.body


def test_a_drained_engine_gets_nothing_and_returns_after_a_token(site: TwoEngines) -> None:
    drained = site.client.post(f"{site.address}/relay/replicas/a/drain").json()
    before = served(site, "a")
    for number in range(4):
        assert site.ask(CHAT, chat(f"while drained {number}")).done
    untouched = served(site, "a") == before
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


def test_a_client_that_waits_for_a_whole_answer_and_leaves_takes_the_engines_work_with_it(site: TwoEngines) -> None:
    site.become(itl_ms=1000)
    for body in (chat("I leave too", stream=False), chat("and I", stream=False, logprobs=True)):
        content = json.dumps(body).encode()
        head = (
            f"POST {CHAT} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\ncontent-length: {len(content)}\r\n\r\n"
        )
        with socket.create_connection(("127.0.0.1", int(site.address.rpartition(":")[2]))) as client:
            client.sendall(head.encode() + content)
            until(lambda: site.running(outstanding=1), lambda: str(site.status()))
        until(lambda: not any(engine.control.status()["running"] for engine in site.engines.values()))
        until(lambda: site.running(outstanding=0), lambda: str(site.status()))


def test_a_client_that_leaves_takes_the_engines_work_with_it(site: TwoEngines) -> None:
    site.become(itl_ms=20)
    headers = {"Authorization": f"Bearer {KEY}"}
    with (
        httpx.Client(headers=headers, trust_env=False) as client,
        client.stream("POST", site.address + CHAT, json=chat("I leave", max_tokens=4000)) as answer,
    ):
        next(answer.iter_lines())

    until(lambda: not any(engine.control.status()["running"] for engine in site.engines.values()))
    until(lambda: site.status()["running_requests"] == 0, lambda: str(site.status()))


def test_a_relay_that_is_told_to_stop_finishes_what_runs(site: TwoEngines) -> None:
    site.become(itl_ms=1000)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(site.ask, CHAT, chat("take your time"))
        until(lambda: site.running(outstanding=1), lambda: str(site.status()))
        site.process.send_signal(signal.SIGTERM)
        until(lambda: site.log()[-1]["event"] == "stopping")
        site.become(itl_ms=10)
        heard = running.result()

    assert heard.done
    assert 0 == site.process.wait(PATIENCE_SECONDS)
    assert "stopped" == site.log()[-1]["event"]

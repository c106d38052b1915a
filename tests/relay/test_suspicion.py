"""A request that no engine can answer takes no engine out; an engine that answers nobody is out at once."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.relay.two_engines import CHAT, TEXT, TwoEngines


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoEngines]:
    with TwoEngines(tmp_path_factory.mktemp("site")) as running:
        yield running


def chat(prompt: str, **more: Any) -> dict[str, Any]:
    body = {"model": "fault", "temperature": 0, "max_tokens": 30, "stream": True}
    return body | {"messages": [{"role": "user", "content": prompt}]} | more


def ejections(site: TwoEngines) -> list[str]:
    """Reasons in the log by which a replica was put out."""
    return [line["reason"] for line in site.log() if line["event"] == "fault" and line["ejected"]]


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize("more", [{}, {"logprobs": True}], ids=["continue", "replay"])
def test_a_request_that_every_engine_answers_500_gets_its_500_and_harms_nobody_else(
    site: TwoEngines, stream: bool, more: dict[str, Any]
) -> None:
    site.heal()
    since = {name: replica["since"] for name, replica in replicas(site).items()}
    for engine in site.engines.values():
        engine.control.inject("poison")

    with ThreadPoolExecutor(8) as pool:
        bad = [pool.submit(site.ask, CHAT, chat(f"poison {n}", stream=stream, **more)) for n in range(6)]
        good = [pool.submit(site.ask, CHAT, chat(f"good {n}")) for n in range(20)]
        poisoned, served = [one.result() for one in bad], [one.result() for one in good]

    assert [500] * 6 == [one.status for one in poisoned]
    assert [True] * 20 == [one.done for one in served]
    assert since == {name: replica["since"] for name, replica in replicas(site).items()}, "an engine was out"


def replicas(site: TwoEngines) -> dict[str, dict[str, Any]]:
    return {replica["id"]: replica for replica in site.status()["replicas"]}


def test_each_engine_is_asked_once_for_what_none_can_answer(site: TwoEngines) -> None:
    site.heal()
    for engine in site.engines.values():
        engine.control.inject("poison")

    site.ask(CHAT, chat("poison once"), **{"X-Request-Id": "poisoned-once"})

    faults = [line for line in site.log() if line.get("request") == "poisoned-once" and line["event"] == "fault"]
    assert ["a", "b"] == sorted(line["replica"] for line in faults)
    assert [False, False] == [line["ejected"] for line in faults]


def test_an_engine_that_answers_500_to_everybody_is_out_and_nobody_notices(site: TwoEngines) -> None:
    site.heal()
    site.engines["a"].control.inject("500")

    with ThreadPoolExecutor(8) as pool:
        heard = list(pool.map(lambda n: site.ask(CHAT, chat(f"meets a 500 {n}")), range(20)))

    site.wait_for(a="ejected")
    assert [True] * 20 == [one.done for one in heard]


def test_an_engine_that_ends_every_answer_falsely_is_out_although_it_talks(site: TwoEngines) -> None:
    site.heal()
    site.engines["a"].control.inject("false_end", after_tokens=0)

    with ThreadPoolExecutor(8) as pool:
        heard = list(pool.map(lambda n: site.ask(CHAT, chat(f"meets a false end {n}")), range(20)))

    site.wait_for(a="ejected")
    assert [True] * 20 == [one.done for one in heard]


def test_the_last_engine_is_not_put_out_by_one_bad_request_and_serves_the_next(site: TwoEngines) -> None:
    site.heal()
    site.client.post(f"{site.address}/relay/replicas/b/drain")
    site.engines["a"].control.inject("poison")

    heard = [site.ask(CHAT, chat(prompt)) for prompt in ("poison", "no harm", "poison", "no harm either")]

    site.client.post(f"{site.address}/relay/replicas/b/restore")
    assert [500, 200, 500, 200] == [one.status for one in heard]


def test_other_paths_do_not_put_engines_out_either(site: TwoEngines) -> None:
    site.heal()
    since = {name: replica["since"] for name, replica in replicas(site).items()}
    for engine in site.engines.values():
        engine.control.inject("poison")
    body = {"model": "fault", "prompt": ["poison", "two prompts"], "max_tokens": 3}

    heard = site.ask(TEXT, body)

    assert 500 == heard.status
    assert since == {name: replica["since"] for name, replica in replicas(site).items()}

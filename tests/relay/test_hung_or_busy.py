"""An engine that reads a long prompt is busy, however silent; one that does nothing is out for all who wait for it."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.relay.two_engines import CHAT, TwoEngines


@pytest.fixture
def site(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[TwoEngines]:
    with TwoEngines(tmp_path, **({"probe_seconds": 0.3} | getattr(request, "param", {}))) as running:
        yield running


def chat(prompt: str, **more: Any) -> dict[str, Any]:
    body = {"model": "fault", "temperature": 0, "max_tokens": 5, "stream": True}
    return body | {"messages": [{"role": "user", "content": prompt}]} | more


# The relay looks three times within the stall timer: a machine that is short of time misses some.
@pytest.mark.parametrize("site", [{"stall_seconds": 1.0}], indirect=True, ids=["looks are many"])
def test_a_prefill_that_takes_many_times_the_stall_timer_puts_no_engine_out(site: TwoEngines) -> None:
    # One request at a time, as a prefill takes each step's whole budget: a probe waits behind it.
    for engine in site.engines.values():
        engine.control.become(prefill_tokens_per_second=500, max_num_seqs=1)

    heard = site.ask(CHAT, chat("word " * 300))

    assert heard.done
    assert [] == [line for line in site.log() if line["event"] == "fault"]
    assert {"serving"} == set(site.states().values())


@pytest.mark.parametrize("site", [{"probe_seconds": 30.0}], indirect=True, ids=["probes are rare"])
def test_who_waits_for_a_first_byte_of_an_engine_that_is_found_hung_does_not_wait_for_the_first_byte_timer(
    site: TwoEngines,
) -> None:
    site.client.post(f"{site.address}/relay/replicas/b/drain")
    with ThreadPoolExecutor(6) as pool:
        running = [pool.submit(site.ask, CHAT, chat(f"runs {n}", max_tokens=400)) for n in range(2)]
        _until(lambda: site.engines["a"].control.status()["running"] == 2)
        site.engines["a"].control.inject("stall")
        waiting = [pool.submit(site.ask, CHAT, chat(f"waits {n}")) for n in range(3)]
        _until(lambda: site.engines["a"].control.status()["counters"].get("requests", 0) >= 5)
        site.client.post(f"{site.address}/relay/replicas/b/restore")
        heard = [one.result() for one in (*running, *waiting)]

    assert [True] * 5 == [one.done for one in heard]
    reasons = [line["reason"] for line in site.log() if line["event"] == "fault"]
    assert [] == [reason for reason in reasons if "no first byte" in reason]


def test_an_engine_that_takes_requests_and_never_answers_is_out_long_before_the_first_byte_timer(
    site: TwoEngines,
) -> None:
    site.engines["a"].control.inject("mute")
    with ThreadPoolExecutor(8) as pool:
        heard = list(pool.map(lambda n: site.ask(CHAT, chat(f"to the mute {n}")), range(8)))

    assert [True] * 8 == [one.done for one in heard]
    reasons = [line["reason"] for line in site.log() if line["event"] == "fault"]
    assert len(reasons) > 0
    assert [] == [reason for reason in reasons if "no first byte" in reason]
    site.wait_for(a="ejected")


def _until(check: Any) -> None:
    deadline = time.monotonic() + 20
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.02)

"""An engine that reads a long prompt is busy, however silent; one that does nothing is out for all who wait for it."""

import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.relay.two_engines import CHAT, STALL_SECONDS, TwoEngines, until


@pytest.fixture
def site(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[TwoEngines]:
    quick = {"stall_seconds": 0.4, "probe_seconds": 0.3}  # all else is patient: an engine that is looked at answers
    with TwoEngines(tmp_path, **(quick | getattr(request, "param", {}))) as running:
        yield running


def chat(prompt: str, **more: Any) -> dict[str, Any]:
    body = {"model": "fault", "temperature": 0, "max_tokens": 5, "stream": True}
    return body | {"messages": [{"role": "user", "content": prompt}]} | more


def test_a_prefill_that_takes_many_times_the_stall_timer_puts_no_engine_out(site: TwoEngines) -> None:
    # One request at a time, as a prefill takes each step's whole budget: a probe waits behind it.
    site.become(prefill_tokens_per_second=200, max_num_seqs=1)

    heard = site.ask(CHAT, chat("word " * 300))

    assert heard.done
    assert [] == [line for line in site.log() if line["event"] == "fault"]
    assert {"serving"} == set(site.states().values())


@pytest.mark.parametrize(
    "site", [{"probe_seconds": 30.0, "stall_seconds": STALL_SECONDS}], indirect=True, ids=["probes are rare"]
)
def test_who_waits_for_a_first_byte_of_an_engine_that_is_found_hung_does_not_wait_for_the_first_byte_timer(
    site: TwoEngines,
) -> None:
    site.client.post(f"{site.address}/relay/replicas/b/drain")
    engine = site.engines["a"].control
    engine.become(itl_ms=50, max_num_seqs=2)
    with ThreadPoolExecutor(6) as pool:
        running = [pool.submit(site.ask, CHAT, chat(f"runs {n}", max_tokens=400)) for n in range(2)]
        until(lambda: engine.status()["running"] == 2, lambda: str(engine.status()))
        waiting = [pool.submit(site.ask, CHAT, chat(f"waits {n}")) for n in range(3)]
        until(lambda: engine.status()["waiting"] == 3, lambda: str(engine.status()))
        site.client.post(f"{site.address}/relay/replicas/b/restore")
        engine.inject("stall")
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


@pytest.mark.parametrize(
    "site", [{"probe_seconds": 30.0, "stall_seconds": 2.0}], indirect=True, ids=["probes are rare"]
)
def test_a_relay_that_had_no_core_for_longer_than_the_stall_timer_blames_no_engine(site: TwoEngines) -> None:
    site.become(itl_ms=20)
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(site.ask, CHAT, chat(f"through a pause {n}", max_tokens=200)) for n in range(8)]
        until(lambda: site.running(outstanding=8), lambda: str(site.status()))
        site.process.send_signal(signal.SIGSTOP)
        time.sleep(3)
        site.process.send_signal(signal.SIGCONT)
        heard = [one.result() for one in asked]

    assert [True] * 8 == [one.done for one in heard]
    assert [] == [line for line in site.log() if line["event"] == "fault"]

"""PostgreSQL away, Redis away: known keys are served, strangers and spent keys stay out, and nothing used is lost."""

from __future__ import annotations

import contextlib
import os
import signal
import time

import pytest

from tests.gateway.conftest import Site
from tests.gateway.processes import ask
from tests.gateway.test_ledger_of_gateway import chat

pytestmark = pytest.mark.lab


def make_key(site: Site, alias: str, *, max_budget: float) -> str:
    """A new key; LiteLLM may connect to PostgreSQL anew once more some seconds after it is back, and says so."""
    deadline = time.monotonic() + 120
    while (answer := site.gateway.post("/key/generate", {"key_alias": alias, "max_budget": max_budget})).status != 200:
        assert "connection" in answer.body, answer.body
        assert time.monotonic() < deadline, answer.body
        time.sleep(0.5)
    return str(answer.json["key"])


def spend_all(site: Site, alias: str) -> str:
    """A key that was let in until its budget was gone."""
    key = make_key(site, alias, max_budget=6e-5)
    for _ in range(60):
        if chat(site, key).status == 422:
            return key
        time.sleep(0.2)
    raise AssertionError("the budget never ended")


def expire_counters(site: Site) -> int:
    """What a minute without traffic does to LiteLLM's counters; the copies for a day live on."""
    names = [name for name in site.redis_command("--scan").split() if name.startswith("spend:")]
    for name in names:
        site.redis_command("DEL", name)
    return len(names)


def until_both_workers_are_back(site: Site) -> None:
    deadline, in_a_row = time.monotonic() + 120, 0
    while in_a_row < 10:
        assert time.monotonic() < deadline
        in_a_row = in_a_row + 1 if site.gateway.post("/key/generate", {}).status == 200 else 0
        time.sleep(0.2)


def timed(site: Site, key: str) -> tuple[int, float]:
    started = time.monotonic()
    return chat(site, key).status, time.monotonic() - started


def test_while_postgres_is_away_known_keys_go_on_and_spent_ones_stay_out(site: Site) -> None:
    known = make_key(site, "known-1", max_budget=1.0)
    spent = spend_all(site, "spent-1")
    for _ in range(8):  # so that both workers know both keys
        assert (chat(site, known).status, chat(site, spent).status) == (200, 422)
    time.sleep(3)

    site.postgres.stop()
    try:
        answers: dict[str, list[tuple[int, float]]] = {"known": [], "spent": [], "stranger": []}
        for turn in range(8):
            if turn % 2:
                assert expire_counters(site) > 0
            answers["known"].append(timed(site, known))
            answers["spent"].append(timed(site, spent))
            answers["stranger"].append(timed(site, "sk-nobody-knows-this-one"))
    finally:
        site.postgres.start()
    print({kind: [(status, round(seconds, 2)) for status, seconds in seen] for kind, seen in answers.items()})

    assert {200} == {status for status, _ in answers["known"]}
    assert {422} == {status for status, _ in answers["spent"]}
    assert {status for status, _ in answers["stranger"]} <= {401, 503}

    until_both_workers_are_back(site)
    count = "SELECT count(*) FROM appliance.usage WHERE key_alias = 'known-1'"
    assert str(8 + 8) == site.wait_for(str(8 + 8), count, reconciles=True)
    cost = float(site.sql("SELECT sum(cost)::float8 FROM appliance.usage WHERE key_alias = 'known-1'"))
    spend = float(site.sql("SELECT spend FROM \"LiteLLM_VerificationToken\" WHERE key_alias = 'known-1'"))
    assert abs(spend - cost) < 1e-12


def test_while_redis_is_away_requests_are_served_and_spent_keys_stay_out(site: Site) -> None:
    known = make_key(site, "known-2", max_budget=1.0)
    spent = spend_all(site, "spent-2")
    for _ in range(8):
        assert (chat(site, known).status, chat(site, spent).status) == (200, 422)
    count = "SELECT count(*) FROM appliance.usage WHERE key_alias = 'known-2'"
    assert "8" == site.wait_for("8", count, reconciles=True)

    os.kill(site.redis.process.pid, signal.SIGKILL)
    site.redis.process.wait()
    try:
        served = [timed(site, known) for _ in range(12)]
        refused = [timed(site, spent) for _ in range(6)]
        stranger = chat(site, "sk-nobody-knows-this-one").status
    finally:
        site.start_redis()
    print([round(seconds, 2) for _, seconds in served], [round(seconds, 2) for _, seconds in refused])

    assert {200} == {status for status, _ in served}
    assert {422} == {status for status, _ in refused}
    assert stranger == 401
    deadline = time.monotonic() + 60
    with contextlib.suppress(AssertionError):
        while "PONG" not in site.redis_command("PING"):
            assert time.monotonic() < deadline
    assert str(8 + 12) == site.wait_for(str(8 + 12), count, reconciles=True)
    assert ask(f"{site.gateway.address}/health/readiness").status == 200

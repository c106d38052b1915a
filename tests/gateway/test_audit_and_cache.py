"""Real LiteLLM, PostgreSQL and Redis: who called and who changed what is told; cached answers stay with their key."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from tests.gateway.conftest import Site
from tests.gateway.processes import Answer

pytestmark = pytest.mark.lab
REPORT_SECONDS = 1.0
DEADLINE_SECONDS = 60.0
CACHED = {"cache": {"use-cache": True}}


def chat(site: Site, key: str, words: str = "tell me", *, model: str = "direct", **more: Any) -> Answer:
    messages = [{"role": "user", "content": words}]
    if more.get("stream"):
        more["stream_options"] = {"include_usage": True}  # else LiteLLM counts by itself, and the ledger corrects it
    return site.gateway.post(
        "/v1/chat/completions", {"model": model, "messages": messages, "max_tokens": 5, **more}, key=key
    )


def eventually(site: Site, holds: Callable[[], Any]) -> Any:
    """What `holds` gives when it gives anything; the ledger is reconciled before each look."""
    ends_at = time.monotonic() + DEADLINE_SECONDS
    while True:
        site.reconcile(grace_seconds=600)  # what LiteLLM has not written yet is not lost
        found = holds()
        if found or time.monotonic() > ends_at:
            return found
        time.sleep(1)


def asked_count(site: Site) -> int:
    """How many requests reached the engine."""
    return len(site.engine_reports())


def reaches_engine(site: Site, key: str, words: str, **more: Any) -> bool:
    before = asked_count(site)
    answer = chat(site, key, words, **more)
    assert answer.status == 200, answer.body
    ends_at = time.monotonic() + REPORT_SECONDS
    while asked_count(site) == before:  # the engine reports a request when it is over, which is after its last byte
        if time.monotonic() > ends_at:
            return False
        time.sleep(0.1)
    return True


def fill_cache(site: Site, key: str, words: str, **more: Any) -> None:
    """LiteLLM writes an answer into the cache after the client has it."""
    ends_at = time.monotonic() + DEADLINE_SECONDS
    while reaches_engine(site, key, words, **more):
        assert time.monotonic() < ends_at, "the answer never came out of the cache"
        time.sleep(0.5)


def test_refusals_stand_in_the_audit_under_the_key_that_sent_them_with_status_and_reason(site: Site) -> None:
    team = site.gateway.post("/team/new", {"team_alias": "auditors"}).json["team_id"]
    narrow = site.gateway.make_key(key_alias="narrow", models=["chat"], team_id=team)
    slow = site.gateway.make_key(key_alias="slow", rpm_limit=1)
    spent = site.gateway.make_key(key_alias="spent", max_budget=1e-12)
    wrong = f"sk-{uuid.uuid4().hex}"
    chat(site, slow)
    answers = {
        "wrong": chat(site, wrong),
        "narrow": chat(site, narrow),
        "slow": chat(site, slow),
        "spent": chat(site, spent),
    }
    statuses = {name: answer.status for name, answer in answers.items()}
    assert {"wrong": 401, "narrow": 403, "slow": 429, "spent": 422} == statuses

    def refusals() -> list[dict[str, Any]] | None:
        rows = [row for row in site.audit("requests", "--result", "refused") if row["model"] == "direct"]
        return rows if len(rows) >= 4 else None

    rows = eventually(site, refusals) or []
    told = {(row["key_alias"], row["status"], row["team_alias"]) for row in rows}
    print([(row["key_alias"], row["status"], row["reason"], row["endpoint"], row["client"]) for row in rows])
    assert {(None, 401, None), ("narrow", 403, "auditors"), ("slow", 429, None), ("spent", 422, None)} <= told
    assert all(row["client"] == "127.0.0.1" and row["endpoint"] == "/v1/chat/completions" for row in rows)
    segments = b"".join(path.read_bytes() for path in (site.directory / "identity").rglob("*.jsonl"))
    assert wrong.encode() not in segments
    assert narrow.encode() not in segments


def test_an_answered_request_stands_in_the_audit_once_with_key_model_result_and_tokens(site: Site) -> None:
    key = site.gateway.make_key(key_alias="answered")
    answers = [chat(site, key), chat(site, key, model="chat", stream=True)]
    calls = [answer.headers["x-litellm-call-id"] for answer in answers]

    rows = eventually(
        site,
        lambda: (
            found if len(found := site.audit("requests", "--key", "answered", "--result", "completed")) > 1 else None
        ),
    )

    assert sorted(calls) == sorted(row["call_id"] for row in rows)
    assert {("direct", 200, 5), ("chat", 200, 5)} == {
        (row["model"], row["status"], row["completion_tokens"]) for row in rows
    }


def test_who_made_a_key_and_a_team_and_changed_its_budget_is_told(site: Site) -> None:
    team = site.gateway.post("/team/new", {"team_alias": "watched", "max_budget": 5}).json["team_id"]
    boss = site.gateway.make_key(key_alias="boss", user_id="boss-of-all")
    key = site.gateway.make_key(key_alias="watched-key", team_id=team)
    site.gateway.post("/team/update", {"team_id": team, "max_budget": 50})
    site.gateway.post("/key/update", {"key": key, "max_budget": 3})
    site.gateway.post("/key/delete", {"keys": [key]})

    def changes() -> list[dict[str, Any]] | None:
        rows = site.audit("changes", "--object", "watched-key")
        of_team = site.audit("changes", "--object", team)
        named = [row for row in of_team if row["actor"]]
        return [*rows, *of_team] if len(rows) >= 4 and len(named) == len(of_team) else None

    rows = eventually(site, changes) or []
    told = [(row["kind"], row["operation"], (row["became"] or {}).get("max_budget")) for row in rows]
    print(told, [(row["actor"], row["endpoint"], row["client"]) for row in rows])
    assert ("key", "made", None) in told
    assert ("key", "changed", 3) in told
    assert ("key", "removed", None) in told
    assert ("team", "made", 5) in told
    assert ("team", "changed", 50) in told
    assert all(row["actor"] for row in rows), rows
    for secret in (key, boss, site.gateway.environment["LITELLM_MASTER_KEY"]):
        assert secret not in str(rows)
    assert "" == site.sql("SELECT appliance.unwatched()")


def test_nobody_uses_the_cache_without_asking(site: Site) -> None:
    key = site.gateway.make_key(key_alias="plain")
    words = f"once more {uuid.uuid4()}"

    assert [True] * 3 == [reaches_engine(site, key, words) for _ in range(3)]


@pytest.mark.parametrize("stream", [False, True])
def test_a_cached_answer_stays_with_the_key_that_asked_for_it(site: Site, stream: bool) -> None:
    mine = site.gateway.make_key(key_alias=f"mine-{stream}")
    theirs = site.gateway.make_key(key_alias=f"theirs-{stream}")
    words = f"a secret of mine {uuid.uuid4()}"
    fill_cache(site, mine, words, stream=stream, **CACHED)

    names = site.redis_command("--scan", "--pattern", "*answers:key:*").split()
    assert names
    assert reaches_engine(site, theirs, words, stream=stream, **CACHED)
    for name in names:  # whatever somebody who can read Redis' names would send
        namespace = name.rpartition(":")[0]
        stolen = {"cache": {"use-cache": True, "namespace": namespace}, "metadata": {"redis_namespace": namespace}}
        assert reaches_engine(site, theirs, f"{words} {name}", stream=stream, **stolen)


def test_no_cache_is_honoured_and_what_only_vllm_knows_makes_another_request(site: Site) -> None:
    key = site.gateway.make_key(key_alias="exact")
    words = f"exactly this {uuid.uuid4()}"
    fill_cache(site, key, words, **CACHED)

    assert reaches_engine(site, key, words, cache={"use-cache": True, "no-cache": True})
    assert reaches_engine(site, key, words, chat_template_kwargs={"enable_thinking": False}, **CACHED)
    assert reaches_engine(site, key, words, temperature=0.1, **CACHED)
    assert not reaches_engine(site, key, words, **CACHED)


def test_a_declared_key_uses_the_cache_unasked_until_the_answers_life_is_over(site: Site) -> None:
    key = site.gateway.make_key(key_alias="always-cached")
    words = f"again {uuid.uuid4()}"
    fill_cache(site, key, words)
    short = f"short {uuid.uuid4()}"
    fill_cache(site, key, short, cache={"ttl": 4})

    assert reaches_engine(site, key, words, cache={"use-cache": False})
    ends_at = time.monotonic() + DEADLINE_SECONDS  # far less than the ten minutes of other answers
    while not reaches_engine(site, key, short, cache={"ttl": 4}):  # LiteLLM may write a second one late
        assert time.monotonic() < ends_at, "an answer for four seconds lives on"
    assert not reaches_engine(site, key, words)


def test_a_cached_answer_costs_nothing_and_is_counted(site: Site) -> None:
    key = site.gateway.make_key(key_alias="saver")
    words = f"cheap {uuid.uuid4()}"
    fill_cache(site, key, words, **CACHED)

    rows = eventually(site, lambda: site.audit("requests", "--key", "saver", "--result", "cached"))
    assert [(0, 0, 0.0, 200)] == [
        (row["prompt_tokens"], row["completion_tokens"], row["cost"], row["status"]) for row in rows
    ]
    answers, cost = eventually(site, lambda: billed(site, "saver"))
    spend = float(site.sql("SELECT spend FROM \"LiteLLM_VerificationToken\" WHERE key_alias = 'saver'"))
    assert abs(spend - cost) < 1e-12
    assert answers >= 1
    metrics = (site.directory / "ledger.prom").read_text()
    hits = float(metrics.partition("\nappliance_ledger_cache_hits_total ")[2].split()[0])
    asked = float(metrics.partition("\nappliance_ledger_cache_asked_total ")[2].split()[0])
    assert 1 <= hits < asked


def billed(site: Site, alias: str) -> tuple[int, float] | None:
    rows = site.sql(f"SELECT count(*), sum(cost) FROM appliance.usage WHERE key_alias = '{alias}' AND cost > 0")  # noqa: S608
    count, _, cost = rows.partition("|")
    return (int(count), float(cost)) if int(count) else None

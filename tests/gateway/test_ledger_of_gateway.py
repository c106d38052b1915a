"""Real LiteLLM, real PostgreSQL, a real relay: what engines reported is what is billed, whatever is killed."""

from __future__ import annotations

import json
import os
import signal
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from typing import Any

import pytest

from tests.alert_listeners import HttpListener, serving
from tests.gateway.conftest import INPUT_COST, OUTPUT_COST, Site

pytestmark = pytest.mark.lab


def chat(
    site: Site, key: str, *, model: str = "chat", stream: bool = False, tokens: int = 12, call_id: str | None = None
):
    body = {"model": model, "messages": [{"role": "user", "content": "count the tokens"}], "max_tokens": tokens,
            "stream": stream} | ({"stream_options": {"include_usage": True}} if stream else {})  # fmt: skip
    headers = {"x-litellm-call-id": call_id} if call_id else None
    return site.gateway.post("/v1/chat/completions", body, key=key, headers=headers)


def test_a_request_through_a_relay_and_one_without_are_billed_once(site: Site) -> None:
    team = site.gateway.post("/team/new", {"team_alias": "research"}).json["team_id"]
    key = site.gateway.make_key(key_alias="one-of-each", team_id=team)

    answers = [chat(site, key), chat(site, key, stream=True), chat(site, key, model="direct")]

    assert [200, 200, 200] == [answer.status for answer in answers], answers
    logged = f"SELECT count(*) FROM \"LiteLLM_SpendLogs\" WHERE team_id = '{team}'"  # noqa: S608
    assert "3" == site.wait_for("3", logged)
    print(site.reconcile_all())
    usage = answers[0].json["usage"]
    prompt, completion = usage["prompt_tokens"] * 3, usage["completion_tokens"] * 3
    bill = site.sql(
        "SELECT count(*), sum(prompt_tokens), sum(completion_tokens), count(DISTINCT source), min(team_alias) "
        "FROM appliance.usage WHERE key_alias = 'one-of-each'"
    )
    assert bill == f"3|{prompt}|{completion}|2|research"
    cost = prompt * INPUT_COST + completion * OUTPUT_COST
    for table, where in (
        ("LiteLLM_VerificationToken", "key_alias = 'one-of-each'"),
        ("LiteLLM_TeamTable", f"team_id = '{team}'"),
        ("LiteLLM_SpendLogs", f"team_id = '{team}'"),
    ):
        spent = float(site.sql(f'SELECT sum(spend) FROM "{table}" WHERE {where}'))  # noqa: S608
        assert abs(spent - cost) < 1e-12, table
    assert "" == site.reconcile()
    assert "3" == site.sql(logged)
    assert "0" == site.sql(
        "SELECT count(*) FROM appliance.repair JOIN appliance.usage USING (request) WHERE key_alias = 'one-of-each'"
    )


def test_no_billed_token_is_lost_when_a_worker_is_killed_under_load(site: Site) -> None:
    team = site.gateway.post("/team/new", {"team_alias": "loaders"}).json["team_id"]
    declared = {"declared": True, "tags": ["load", "nightly"]}  # as playbooks/access.yml keeps the tags of a key
    keys = [
        site.gateway.make_key(key_alias=f"load-{number}", team_id=team, metadata={"appliance": declared})
        for number in range(4)
    ]
    before = set(site.engine_reports())
    (victim, *_others) = site.gateway.workers_of()
    assert len(site.gateway.workers_of()) == 2
    ends_at = time.monotonic() + 12

    def load(number: int) -> Counter[str]:
        seen: Counter[str] = Counter()
        while time.monotonic() < ends_at:
            try:
                answer = chat(site, keys[number % 4], stream=number % 2 == 0, tokens=5 + number)
                seen[str(answer.status)] += 1
            except (OSError, HTTPException):
                seen["connection lost"] += 1
        return seen

    with ThreadPoolExecutor(8) as pool:
        clients = [pool.submit(load, number) for number in range(8)]
        time.sleep(6)
        os.kill(victim, signal.SIGKILL)
        seen = sum((client.result() for client in clients), Counter())
    site.gateway.wait_for_workers(2)
    first = site.reconcile_all()

    reports = {name: report for name, report in site.engine_reports().items() if name not in before}
    finished = {name: report for name, report in reports.items() if report["outcome"] == "success"}
    rows = site.sql(
        "SELECT request, prompt_tokens, completion_tokens FROM appliance.usage WHERE key_alias LIKE 'load-%'"
    )
    billed = {request: (int(prompt), int(completion)) for request, prompt, completion in
              (row.split("|") for row in rows.splitlines())}  # fmt: skip
    reported = {
        name.removeprefix("chatcmpl-"): (report["prompt_tokens"], report["completion_tokens"])
        for name, report in finished.items()
    }
    print(seen, first.splitlines()[-1:], f"{len(billed)} billed, {len(reported)} finished by the engine")
    assert len(rows.splitlines()) == len(billed)
    assert {request: billed.get(request) for request in reported} == reported
    for name, report in reports.items():  # cut in the middle: what had come is billed, never more than was made
        prompt, completion = billed.get(name.removeprefix("chatcmpl-"), (0, 0))
        assert prompt <= report["prompt_tokens"]
        assert completion <= report["completion_tokens"]
    cost = sum(p * INPUT_COST + c * OUTPUT_COST for p, c in billed.values())
    for query in (
        "SELECT sum(spend) FROM \"LiteLLM_VerificationToken\" WHERE key_alias LIKE 'load-%'",
        'SELECT sum(l.spend) FROM "LiteLLM_SpendLogs" l JOIN "LiteLLM_VerificationToken" k ON k.token = l.api_key '
        "WHERE k.key_alias LIKE 'load-%'",
    ):
        assert abs(float(site.sql(query)) - cost) < 1e-9, query
    usage = site.usage()
    everything = [sum(tokens) for tokens in zip(*billed.values(), strict=True)]
    for view, name in (("by_team", "loaders"), ("by_tag", "load"), ("by_tag", "nightly")):
        (mine,) = (one for one in usage[view] if one["name"] == name)
        assert everything == [mine["prompt_tokens"], mine["completion_tokens"]], name
        assert abs(float(mine["cost"]) - cost) < 1e-9
    by_key = [one for one in usage["by_key"] if one["name"].startswith("load-")]
    assert everything == [sum(one[kind] for one in by_key) for kind in ("prompt_tokens", "completion_tokens")]
    assert "" == site.reconcile()
    assert int(site.sql("SELECT count(*) FROM appliance.repair")) > 0


def test_a_soft_budget_warns_and_a_spent_one_stops_with_words_that_help(site: Site) -> None:
    key = site.gateway.make_key(key_alias="thrifty", max_budget=2e-4, soft_budget=5e-5, budget_duration="30d")
    with serving(HttpListener()) as http:
        hook = {"name": "desk", "url": http.url, "format": "generic"}
        (site.directory / "alerts.json").write_text(json.dumps({"webhooks": [hook], "email": None}))

        answers = [chat(site, key)]
        while answers[-1].status == 200 and len(answers) < 60:
            answers.append(chat(site, key))
        told = _told(site, http, "thrifty", "budget.soft")
        spent = float(site.sql("SELECT spend FROM \"LiteLLM_VerificationToken\" WHERE key_alias = 'thrifty'"))
        site.gateway.post("/key/update", {"key": key, "max_budget": spent})  # so that it is spent to the last token
        stopped = _told(site, http, "thrifty", "budget.hard")
        site.reconcile()
        (site.directory / "alerts.json").unlink()

    assert 422 == answers[-1].status, answers[-1]
    error = answers[-1].json["error"]
    assert "budget_exceeded" == error["type"]
    assert "Nothing was sent to a model. It starts anew at 20" in error["message"]
    assert error["message"].endswith("ask your operators to raise the budget of key thrifty.")
    assert (5e-5, "EUR") == (told["soft_budget"], told["currency"])
    assert told["spend"] >= 5e-5
    assert stopped["resets_at"] is not None
    assert "its requests are refused with status 422" in stopped["text"]
    mine = [event["event"] for event in http.posted if event["name"] == "thrifty"]
    assert ("budget.soft", 1) == (mine[0], mine.count("budget.soft"))  # a lowered budget may be told of again
    assert {"budget.soft", "budget.hard"} == set(mine)


def _told(site: Site, http: HttpListener, name: str, event: str) -> dict[str, Any]:
    """Reconciles as the timer does until it is told."""
    ends_at = time.monotonic() + 120
    while time.monotonic() < ends_at:
        site.reconcile()
        for one in http.posted:
            if (one["name"], one["event"]) == (name, event):
                return one
        time.sleep(1)
    raise AssertionError(f"nobody was told {event} of {name}: {http.posted}")


def test_the_bill_refuses_changes(site: Site) -> None:
    for statement in ("UPDATE appliance.usage SET cost = 0", "DELETE FROM appliance.usage", "TRUNCATE appliance.usage"):
        with pytest.raises(AssertionError, match="append-only"):
            site.sql(statement)

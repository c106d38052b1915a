"""Real LiteLLM, real PostgreSQL, a real relay: what engines reported is what is billed, whatever is killed."""

from __future__ import annotations

import time

import pytest

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
    time.sleep(8)
    first = site.reconcile()
    second = site.reconcile()
    print(first)
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
    assert "" == second
    assert site.sql(f"SELECT count(*) FROM \"LiteLLM_SpendLogs\" WHERE team_id = '{team}'") == "3"  # noqa: S608
    assert site.sql("SELECT count(*) FROM appliance.repair") == "0"

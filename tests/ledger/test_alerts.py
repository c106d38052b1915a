"""Budgets that are passed are told once each, over real HTTP and SMTP, until every receiver has heard."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from ledger.alerts import Told, tell
from ledger.book import prepare
from ledger.receivers import Email, Receiver, Webhook, receivers_of
from tests.alert_listeners import HttpListener, MailListener, serving
from tests.prisma_engine.postgres import PostgresServer, find_binaries, free_port

Connection = psycopg.Connection[tuple[Any, ...]]
# The columns of LiteLLM 1.109.1 that are read; tests/gateway has the real tables.
LITELLM = """
CREATE TABLE "LiteLLM_BudgetTable" (budget_id text PRIMARY KEY, soft_budget float8, max_budget float8,
    budget_reset_at timestamp);
CREATE TABLE "LiteLLM_VerificationToken" (token text PRIMARY KEY, key_alias text, team_id text, spend float8 DEFAULT 0,
    budget_id text, max_budget float8, budget_reset_at timestamp, metadata jsonb DEFAULT '{}');
CREATE TABLE "LiteLLM_TeamTable" (team_id text PRIMARY KEY, team_alias text, spend float8 DEFAULT 0, soft_budget float8,
    max_budget float8, budget_reset_at timestamp);
CREATE TABLE "LiteLLM_TeamMembership" (user_id text, team_id text, spend float8 DEFAULT 0, budget_id text);
CREATE TABLE "LiteLLM_UserTable" (user_id text PRIMARY KEY, spend float8 DEFAULT 0, max_budget float8,
    budget_reset_at timestamp);
INSERT INTO "LiteLLM_BudgetTable" VALUES ('b1', 80, NULL, NULL), ('b2', NULL, 5, NULL);
INSERT INTO "LiteLLM_TeamTable" VALUES ('t1', 'search', 0, NULL, 500, NULL);
INSERT INTO "LiteLLM_VerificationToken" VALUES ('hash-1', 'search-prod', 't1', 0, 'b1', 100, '2026-12-01 00:00', '{}');
INSERT INTO "LiteLLM_TeamMembership" VALUES ('minho', 't1', 0, 'b2');
INSERT INTO "LiteLLM_UserTable" VALUES ('litellm-proxy-budget', 0, 1000, NULL);
"""


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    if find_binaries() is None:
        pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
    made = PostgresServer.create()
    try:
        made.start()
        yield made
    finally:
        made.remove()


@pytest.fixture
def connection(server: PostgresServer) -> Iterator[Connection]:
    server.sql("postgres", "DROP DATABASE IF EXISTS alerts")
    server.sql("postgres", "CREATE DATABASE alerts")
    server.sql("alerts", LITELLM)
    with psycopg.connect(server.url("alerts"), autocommit=True) as made:
        prepare(made)
        yield made


@pytest.fixture
def http() -> Iterator[HttpListener]:
    with serving(HttpListener()) as listener:
        yield listener


@pytest.fixture
def mail() -> Iterator[MailListener]:
    with serving(MailListener()) as listener:
        yield listener


def spend(connection: Connection, amount: float) -> None:
    connection.execute('UPDATE "LiteLLM_VerificationToken" SET spend = %s', (amount,))


def run(connection: Connection, *receivers: Receiver) -> Told:
    connection.execute("UPDATE appliance.delivery SET next_at = now()")  # no test waits for a pause
    return tell(connection, receivers, host="gw1", currency="EUR")


def test_a_soft_budget_warns_and_a_hard_one_says_what_to_do_once_each(
    connection: Connection, http: HttpListener, mail: MailListener
) -> None:
    slack = Webhook(name="chat", url=http.url, format="slack")
    post = Email(host="127.0.0.1", port=mail.port, security="none", sender="llm@example.com",
                 recipients=["ops@example.com", "jiwoo@example.com"])  # fmt: skip

    quiet = run(connection, slack, post)
    spend(connection, 81.5)
    soft = run(connection, slack, post)
    again = run(connection, slack, post)
    spend(connection, 100)
    hard = run(connection, slack, post)

    assert Told() == quiet == again
    assert (1, 2) == (len(soft.noticed), len(soft.delivered))
    assert (1, 2) == (len(hard.noticed), len(hard.delivered))
    assert [
        "Soft budget passed: key search-prod (team search) has spent 81.5 of 80 EUR; requests are refused from 100 on. "
        "It starts anew at 2026-12-01T00:00:00+00:00.",
        "Budget spent: key search-prod (team search) has spent 100 of 100 EUR; its requests are refused with status "
        "422. It starts anew at 2026-12-01T00:00:00+00:00. To go on before, raise its budget in access.yml and run "
        "playbooks/access.yml.",
    ] == [one["text"] for one in http.posted]
    assert [{"text"}, {"text"}] == [set(one) for one in http.posted]
    first = mail.received[0]
    assert "[gw1] Soft budget passed: key search-prod" == first["Subject"]
    assert "ops@example.com, jiwoo@example.com" == first["To"]
    payload = first.get_payload(decode=True)
    assert isinstance(payload, bytes)
    assert "81.5 of 80 EUR" in payload.decode().replace("\n", " ")


def test_programs_get_every_field(connection: Connection, http: HttpListener) -> None:
    spend(connection, 81.5)

    run(connection, Webhook(name="desk", url=http.url, format="generic"))

    (event,) = http.posted
    assert ("budget.soft", "key", "search-prod", "search", 81.5, 80, 100, "EUR", "gw1") == tuple(
        event[name]
        for name in ("event", "kind", "name", "team", "spend", "soft_budget", "budget", "currency", "gateway")
    )
    assert "2026-12-01T00:00:00+00:00" == event["resets_at"]


def test_teams_members_and_the_whole_gateway_are_watched_too(connection: Connection, http: HttpListener) -> None:
    connection.execute('UPDATE "LiteLLM_TeamTable" SET spend = 600')
    connection.execute('UPDATE "LiteLLM_TeamMembership" SET spend = 5')
    connection.execute('UPDATE "LiteLLM_UserTable" SET spend = 1000.5')

    run(connection, Webhook(name="desk", url=http.url, format="generic"))

    told = {(event["kind"], event["name"], event["event"]) for event in http.posted}
    assert {
        ("team", "search", "budget.hard"), ("member", "minho", "budget.hard"),
        ("gateway", "the whole gateway", "budget.hard"),
    } == told  # fmt: skip


def test_who_does_not_answer_is_told_when_it_is_back_and_nobody_else_hears_twice(
    connection: Connection, http: HttpListener
) -> None:
    with serving(HttpListener()) as other:
        both = (
            Webhook(name="chat", url=http.url, format="generic"),
            Webhook(name="desk", url=other.url, format="generic"),
        )
        http.status = 503
        spend(connection, 85)

        first = run(connection, *both)
        http.status = 200
        second = run(connection, *both)
        third = run(connection, *both)

        assert ["chat: status 503; tried again in 15 s"] == list(first.failed)
        assert (1, 0, 1) == (len(first.delivered), len(second.noticed), len(second.delivered))
        assert Told() == third
        assert (1, 1) == (len(http.posted), len(other.posted))


def test_a_failed_delivery_waits_and_keeps_the_address_to_itself(connection: Connection) -> None:
    gone = Webhook(name="chat", url=f"http://127.0.0.1:{free_port()}/services/secret", format="slack")
    spend(connection, 85)

    told = tell(connection, [gone], host="gw1", currency="EUR")
    at_once = tell(connection, [gone], host="gw1", currency="EUR")

    assert 1 == len(told.failed)
    assert "secret" not in told.failed[0]
    assert Told() == at_once
    row = connection.execute("SELECT attempts, delivered_at, next_at > now() FROM appliance.delivery").fetchone()
    assert (1, None, True) == row


def test_who_sends_us_elsewhere_has_not_heard(connection: Connection, http: HttpListener) -> None:
    http.status = 302
    spend(connection, 85)

    told = run(connection, Webhook(name="chat", url=http.url, format="generic"))

    assert ["chat: status 302; tried again in 15 s"] == list(told.failed)
    assert () == told.delivered


def test_who_answers_without_http_is_tried_again_and_others_hear_all_the_same(
    connection: Connection, mail: MailListener, http: HttpListener
) -> None:
    no_http = Webhook(name="chat", url=f"http://127.0.0.1:{mail.port}/services/secret", format="slack")
    spend(connection, 85)

    told = run(connection, no_http, Webhook(name="desk", url=http.url, format="generic"))

    assert 1 == len(told.failed)
    assert "secret" not in told.failed[0]
    assert 1 == len(http.posted)


def test_a_name_of_several_lines_is_told_by_mail(connection: Connection, mail: MailListener) -> None:
    connection.execute("UPDATE \"LiteLLM_VerificationToken\" SET key_alias = E'search\\nprod'")
    post = Email(host="127.0.0.1", port=mail.port, security="none", sender="llm@example.com",
                 recipients=["ops@example.com"])  # fmt: skip
    spend(connection, 85)

    told = run(connection, post)

    assert 1 == len(told.delivered)
    assert "[gw1] Soft budget passed: key search prod" == mail.received[0]["Subject"]


def test_a_renewed_budget_may_be_passed_again_and_a_raised_one_too(connection: Connection, http: HttpListener) -> None:
    hook = Webhook(name="desk", url=http.url, format="generic")
    spend(connection, 85)
    run(connection, hook)

    connection.execute("UPDATE \"LiteLLM_VerificationToken\" SET budget_reset_at = '2027-01-01', spend = 0")
    run(connection, hook)
    spend(connection, 90)
    run(connection, hook)
    connection.execute('UPDATE "LiteLLM_BudgetTable" SET soft_budget = 88')
    run(connection, hook)

    assert [(80, 85), (80, 90), (88, 90)] == [(one["soft_budget"], one["spend"]) for one in http.posted]


def test_a_rotated_key_is_told_of_under_its_new_value_only(connection: Connection, http: HttpListener) -> None:
    connection.execute(
        "INSERT INTO \"LiteLLM_VerificationToken\" VALUES ('old', 'search-prod.retired', 't1', 99, 'b1', 100, NULL, "
        '\'{"appliance": {"declared": true, "retired": "search-prod"}}\')'
    )
    run(connection, Webhook(name="desk", url=http.url, format="generic"))

    assert [] == http.posted


def test_receivers_come_from_the_file_that_the_role_writes(tmp_path: Path) -> None:
    path = tmp_path / "alerts.json"
    webhook = {"name": "chat", "url": "https://example.com/x", "format": "slack", "may_be_unreachable": True}
    mail = {"host": "mail", "port": 587, "security": "starttls", "sender": "a@b", "recipients": ["c@d"], "user": "u",
            "password": "p", "may_be_unreachable": False}  # fmt: skip
    path.write_text(json.dumps({"webhooks": [webhook], "email": mail}), encoding="utf-8")

    assert ["chat", "email"] == [receiver.name for receiver in receivers_of(path)]
    assert () == receivers_of(tmp_path / "none.json") == receivers_of(None)

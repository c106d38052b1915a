"""Who used what, against a real PostgreSQL: sums by hand, days where the site is, exports, the page, the command."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import psycopg
import pytest

from ledger.book import prepare
from ledger.errors import LedgerError
from ledger.usage import Period, usage_of
from ledger.usage_files import csv_text, html_text, json_text
from tests.prisma_engine.postgres import PostgresServer, find_binaries

ROOT = Path(__file__).resolve().parents[2]
NOW = datetime(2026, 11, 1, 2, 0, tzinfo=UTC)
INSERT = """
INSERT INTO appliance.usage (entry, request, call_id, source, host, model, model_group, key_hash, key_alias, team_id,
    team_alias, tags, prompt_tokens, completion_tokens, cached_tokens, legs, outcome, cost, begun_at, ended_at)
VALUES (%s, %s, %s, 'relay', 'h1', 'qwen3-8b', %s, %s, %s, %s, %s, %s, %s, %s, %s, '[]', 'completed', %s, %s, %s)
"""


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    if find_binaries() is None:
        pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
    made = PostgresServer.create()
    try:
        made.start()
        made.sql("postgres", "CREATE DATABASE usage")
        with psycopg.connect(made.url("usage"), autocommit=True) as connection:
            prepare(connection)
            add(connection, 1, "2026-10-01T00:00:00Z", 100, 10, "0.00012", tags=["batch", "nightly"])
            add(connection, 2, "2026-10-01T14:59:59Z", 200, 20, "0.00024", tags=["batch"])
            add(connection, 3, "2026-10-01T15:00:00Z", 400, 40, "0.00048", cached=300)  # the next day in Seoul
            add(
                connection,
                4,
                "2026-10-31T23:59:59.999Z",
                800,
                80,
                "0.000960000000001",
                model="big",
                team=None,
                key="=cmd",
            )
            add(connection, 5, "2026-11-01T00:00:00Z", 5, 5, "1", key="later")
            add(connection, 6, "2026-09-30T23:59:59.999Z", 7, 7, "1", key="sooner")
            add(connection, 7, "2026-10-20T12:00:00Z", 1, 0, "0", key=None, team=None)
        yield made
    finally:
        made.remove()


def add(  # noqa: PLR0917 - a row as it is read
    connection: psycopg.Connection[tuple[object, ...]], number: int, ended: str, prompt: int, answer: int, cost: str, *,
    model: str = "chat", team: str | None = "research", key: str | None = "one", tags: list[str] | None = None,
    cached: int = 0,
) -> None:  # fmt: skip
    name = f"r{number}"
    team_id = None if team is None else f"id-{team}"
    key_hash = None if key is None else f"hash-{key}"
    row = (name, name, name, model, key_hash, key, team_id, team, json.dumps(tags or []), prompt, answer, cached, cost,
           ended, ended)  # fmt: skip
    connection.execute(INSERT, row)


def october(server: PostgresServer, *, zone: str = "UTC"):  # type: ignore[no-untyped-def]
    period = Period.of_month("last", time_zone=zone, now=NOW)
    with psycopg.connect(server.url("usage"), autocommit=True) as connection:
        return usage_of(connection, period, currency="EUR", now=NOW)


def test_sums_of_every_view_are_those_of_the_single_requests(server: PostgresServer) -> None:
    usage = october(server)

    assert (5, 1501, 150, 300) == (
        usage.total.requests, usage.total.prompt_tokens, usage.total.completion_tokens, usage.total.cached_tokens
    )  # fmt: skip
    assert Decimal("0.001800000000001") == usage.total.cost
    for view in (usage.by_team, usage.by_key, usage.by_model, usage.by_day):
        assert (1501, 150) == (sum(one.prompt_tokens for one in view), sum(one.completion_tokens for one in view))
        assert usage.total.cost == sum(one.cost for one in view)
    teams = {one.name: one.prompt_tokens for one in usage.by_team}
    assert {"research": 700, "(no team)": 800, "(nobody known)": 1} == teams
    assert {"batch": 300, "nightly": 100, "(no tag)": 1201} == {one.name: one.prompt_tokens for one in usage.by_tag}
    assert 31 == len(usage.by_day)
    assert ("2026-10-01", 700) == (usage.by_day[0].name, usage.by_day[0].prompt_tokens)


def test_a_day_begins_where_the_site_is(server: PostgresServer) -> None:
    usage = october(server, zone="Asia/Seoul")

    days = {one.name: one.prompt_tokens for one in usage.by_day if one.prompt_tokens}
    # 15:00 UTC is midnight in Seoul: the last day of September ends there, too, and October's last hours are November.
    assert {"2026-10-01": 307, "2026-10-02": 400, "2026-10-20": 1} == days


def test_the_csv_adds_up_and_holds_no_formula(server: PostgresServer) -> None:
    usage = october(server)

    rows = list(csv.DictReader(io.StringIO(csv_text(usage))))

    assert 1501 == sum(int(row["prompt_tokens"]) for row in rows)
    assert usage.total.cost == sum(Decimal(row["cost"]) for row in rows)
    assert ["batch nightly", "batch", "", "", ""] == sorted((row["tags"] for row in rows), key=len, reverse=True)
    assert "'=cmd" in {row["key"] for row in rows}


def test_json_and_page_say_the_same(server: PostgresServer) -> None:
    usage = october(server)

    content, page = json.loads(json_text(usage)), html_text(usage)

    assert ("0.001800000000001", 1501) == (content["total"]["cost"], content["total"]["prompt_tokens"])
    assert 5 == len(content["lines"])
    assert "1,501" in page
    assert "=cmd" in page
    assert "src=" not in page
    assert "http" not in page


def test_names_of_keys_are_text_on_the_page(server: PostgresServer) -> None:
    with psycopg.connect(server.url("usage"), autocommit=True) as connection:
        add(connection, 100, "2025-01-05T00:00:00Z", 1, 1, "0", key="<script>alert(1)</script>")
        usage = usage_of(
            connection, Period(first=date(2025, 1, 1), last=date(2025, 1, 31), time_zone="UTC"), currency="", now=NOW
        )

    assert "<script" not in html_text(usage)


def test_a_period_without_requests_is_a_report_of_nothing(server: PostgresServer) -> None:
    with psycopg.connect(server.url("usage"), autocommit=True) as connection:
        period = Period.of_month("2020-02", time_zone="UTC", now=NOW)
        usage = usage_of(connection, period, currency="EUR", now=NOW)

    assert (0, 29, ()) == (usage.total.tokens, len(usage.by_day), usage.by_key)
    assert "Usage 2020-02" in html_text(usage)


def test_months_that_nobody_can_mean_are_one_line() -> None:
    for text in ("2026-13", "yesterday", ""):
        with pytest.raises(LedgerError, match="give it like 2026-10, or this, or last"):
            Period.of_month(text, time_zone="UTC", now=NOW)
    with pytest.raises(LedgerError, match="time zone Mars/Olympus is not known"):
        Period.of_month("this", time_zone="Mars/Olympus", now=NOW)


def test_the_command_writes_three_files_and_says_where(server: PostgresServer, tmp_path: Path) -> None:
    config = tmp_path / "ledger.json"
    config.write_text(
        json.dumps(
            {"host": "h1", "relay_directory": "/r", "identity_directory": "/i", "metrics_path": None,
             "grace_seconds": 0, "unclaimed_seconds": 0, "retention_days": 1, "relay_deployments": [],
             "prices": {}, "currency": "EUR"}
        )
    )  # fmt: skip
    command = [sys.executable, "-m", "ledger", "report", "--config", str(config)]
    environment = os.environ | {"DATABASE_URL": server.url("usage")}

    done = subprocess.run(
        [*command, "--month", "2026-10", "--directory", str(tmp_path / "reports")], cwd=ROOT, env=environment,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    shown = subprocess.run(
        [*command, "--from", "2026-10-01", "--to", "2026-10-01", "--format", "json"], cwd=ROOT, env=environment,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    refused = subprocess.run(
        [*command, "--month", "soon", "--format", "csv"], cwd=ROOT, env=environment, capture_output=True, text=True,
        check=False,
    )  # fmt: skip

    assert 0 == done.returncode, done.stderr
    written = sorted(path.name for path in (tmp_path / "reports").iterdir())
    assert ["usage-2026-10.csv", "usage-2026-10.html", "usage-2026-10.json"] == written
    assert 700 == json.loads(shown.stdout)["total"]["prompt_tokens"]
    assert 1 == refused.returncode
    assert "ledger: --month is 'soon'; give it like 2026-10, or this, or last\n" == refused.stderr

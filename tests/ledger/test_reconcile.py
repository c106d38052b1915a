"""Segments to rows, against a real PostgreSQL: once each, whoever is killed or late."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest

from ledger.configuration import Configuration, Price
from ledger.errors import DatabaseAway, LedgerError
from ledger.reconcile import Summary, connected, reconcile
from relay.ledger_lines import SEGMENT_SUFFIX, encode
from tests.prisma_engine.postgres import PostgresServer, find_binaries

ROOT = Path(__file__).resolve().parents[2]
# The columns of LiteLLM 1.109.1 that are touched; tests/gateway has the real tables.
LITELLM = """
CREATE TABLE "LiteLLM_VerificationToken" (token text PRIMARY KEY, spend float8 DEFAULT 0, total_spend float8 DEFAULT 0,
    last_active timestamp);
CREATE TABLE "LiteLLM_UserTable" (user_id text PRIMARY KEY, spend float8 DEFAULT 0);
CREATE TABLE "LiteLLM_TeamTable" (team_id text PRIMARY KEY, spend float8 DEFAULT 0, members_with_roles jsonb);
CREATE TABLE "LiteLLM_TeamMembership" (user_id text, team_id text, spend float8 DEFAULT 0, total_spend float8 DEFAULT 0,
    PRIMARY KEY (user_id, team_id));
CREATE TABLE "LiteLLM_SpendLogs" (request_id text PRIMARY KEY, call_type text, api_key text, spend float8,
    total_tokens int, prompt_tokens int, completion_tokens int, "startTime" timestamp, "endTime" timestamp, model text,
    model_group text, custom_llm_provider text, "user" text, metadata jsonb, request_tags jsonb, team_id text,
    organization_id text, end_user text, status text, litellm_call_id text, cache_hit text, updated_at timestamp);
INSERT INTO "LiteLLM_VerificationToken" VALUES ('hash-1');
INSERT INTO "LiteLLM_UserTable" VALUES ('anna');
INSERT INTO "LiteLLM_TeamTable" VALUES ('research', 0, '[{"user_id": "anna"}]');
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
def url(server: PostgresServer) -> str:
    server.sql("postgres", "DROP DATABASE IF EXISTS ledger")
    server.sql("postgres", "CREATE DATABASE ledger")
    server.sql("ledger", LITELLM)
    return server.url("ledger")


@pytest.fixture
def configuration(tmp_path: Path) -> Configuration:
    for name in ("relay", "gateway"):
        (tmp_path / name).mkdir()
    return Configuration(
        host="h1",
        relay_directory=tmp_path / "relay",
        identity_directory=tmp_path / "gateway",
        metrics_path=None,
        grace_seconds=0,
        unclaimed_seconds=600,
        retention_days=30,
        prices={"qwen": Price(input_cost=Decimal("0.000001"), output_cost=Decimal("0.000002"))},
    )


def write(directory: Path, *records: dict[str, Any], process: str = "aaaaaaaaaaaaaaaa", tail: bytes = b"") -> Path:
    path = directory / f"x.20260101T000000Z-{process}-000001{SEGMENT_SUFFIX}"
    with path.open("ab") as file:
        file.write(b"".join(encode(record) for record in records) + tail)
    return path


def begin(number: int) -> dict[str, Any]:
    return {
        "kind": "begin", "at": time.time(), "entry": f"g-{number}", "request": f"call-{number}-0000000{number}",
        "call_id": f"call-{number}", "key_hash": "hash-1", "key_alias": "one", "team_id": "research",
        "team_alias": "Research", "user_id": "anna", "organization_id": None, "end_user": None, "tags": ["t"],
        "model": "chat",
    }  # fmt: skip


def used(number: int, *, prompt: int = 10, completion: int = 5) -> dict[str, Any]:
    return {
        "kind": "end", "at": 2.0 + number, "entry": f"r-{number}", "group": "chat",
        "request": f"call-{number}-0000000{number}", "model": "qwen", "endpoint": "/v1/chat/completions",
        "begun_at": 1.5 + number, "prompt_tokens": prompt, "completion_tokens": completion, "cached_tokens": 0,
        "legs": [], "outcome": "completed",
    }  # fmt: skip


def run(configuration: Configuration, url: str) -> Summary:
    with connected(configuration, database_url=url) as connection:
        return reconcile(connection, configuration)


def fetch(url: str, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute(query.encode()).fetchall()


def sums(url: str) -> list[float]:
    tables = ("VerificationToken", "UserTable", "TeamTable", "TeamMembership", "SpendLogs")
    return [round(fetch(url, f'SELECT coalesce(sum(spend), 0) FROM "LiteLLM_{name}"')[0][0], 12) for name in tables]  # noqa: S608


def test_a_request_is_booked_once_to_its_key_user_team_and_member_however_often_it_is_read(
    configuration: Configuration, url: str
) -> None:
    write(configuration.identity_directory, begin(1), begin(2))
    write(configuration.relay_directory, used(1), used(2, prompt=100), used(1), tail=b'{"kind":"end","torn')

    first, second = run(configuration, url), run(configuration, url)

    cost = 10 * 1e-6 + 5 * 2e-6 + 100 * 1e-6 + 5 * 2e-6
    assert [round(cost, 12)] * 5 == sums(url)
    assert (2, 2) == (len(first.booked), len(first.repairs))
    assert (0, 0) == (len(second.booked), len(second.repairs))


def test_a_line_that_was_torn_is_read_when_it_is_whole(configuration: Configuration, url: str) -> None:
    write(configuration.identity_directory, begin(1))
    line = encode(used(1))
    write(configuration.relay_directory, tail=line[:40])
    before = run(configuration, url)
    write(configuration.relay_directory, tail=line[40:])

    after = run(configuration, url)

    assert (0, 1) == (len(before.booked), len(after.booked))


@pytest.mark.parametrize(
    "said",
    [
        {"end_user": "a\x00b"},
        {"end_user": {"id": 5}},
        {"end_user": 5},
        {"tags": ["a\x00b"]},
        {"model": "chat\x00"},
    ],
)
def test_nothing_that_a_client_calls_itself_keeps_the_bill_from_being_made(
    configuration: Configuration, url: str, said: dict[str, Any]
) -> None:
    prompt = {"kind": "prompt", "at": time.time(), "entry": "g-9", "request": "call-1-00000001", "call_id": "call-1",
              "prompt": [{"role": "user", "content": "a\x00b", "weight": float("nan")}]}  # fmt: skip
    write(configuration.identity_directory, begin(1) | said, prompt, begin(2))
    write(configuration.relay_directory, used(1), used(2))

    summary = run(configuration, url)

    assert 2 == len(summary.booked)
    assert [(2,)] == fetch(url, "SELECT count(*) FROM appliance.usage WHERE key_hash = 'hash-1'")
    assert [(1,)] == fetch(url, "SELECT count(*) FROM appliance.audit_prompt")


def test_usage_waits_for_its_caller_and_is_then_booked_to_it(configuration: Configuration, url: str) -> None:
    write(configuration.relay_directory, used(1))
    early = run(configuration, url)
    write(configuration.identity_directory, begin(1))

    late = run(configuration, url)

    assert (0, 1) == (len(early.booked), len(late.booked))
    assert [("one",)] == fetch(url, "SELECT key_alias FROM appliance.usage")


def test_usage_that_nobody_claims_is_booked_to_nobody_and_counted(configuration: Configuration, url: str) -> None:
    write(configuration.relay_directory, used(1))

    summary = run(replace(configuration, unclaimed_seconds=0), url)

    assert 15 == summary.unattributed_tokens
    assert [(None, 15)] == fetch(url, "SELECT key_hash, prompt_tokens + completion_tokens FROM appliance.usage")
    assert 0 == sums(url)[0]


def test_a_model_without_a_price_costs_nothing_and_is_told(configuration: Configuration, url: str) -> None:
    write(configuration.identity_directory, begin(1))
    write(configuration.relay_directory, used(1) | {"model": "unheard-of"})

    summary = run(configuration, url)

    assert 15 == summary.unpriced_tokens
    assert [(Decimal(0),)] == fetch(url, "SELECT cost FROM appliance.usage")


def test_a_row_of_litellm_that_counted_otherwise_is_corrected_and_a_right_one_left(
    configuration: Configuration, url: str
) -> None:
    def seen(number: int) -> dict[str, Any]:
        return {"kind": "end", "at": 3.0, "entry": f"g-{number}", "request": f"call-{number}-0000000{number}",
                "billed_by": "relay", "spend_log_id": f"log-{number}"}  # fmt: skip

    write(configuration.identity_directory, begin(1), begin(2), seen(1), seen(2))
    write(configuration.relay_directory, used(1), used(2))
    with psycopg.connect(url) as connection:
        for name, completion, spend in (("log-1", 5, 2e-5), ("log-2", 2, 0.0)):
            connection.execute(
                'INSERT INTO "LiteLLM_SpendLogs" (request_id, prompt_tokens, completion_tokens, spend) '
                "VALUES (%s, 10, %s, %s)",
                (name, completion, spend),
            )

    summary = run(configuration, url)

    assert [("different", "call-2-00000002")] == [(repair.kind, repair.request) for repair in summary.repairs]
    rows = fetch(url, 'SELECT request_id, completion_tokens, spend FROM "LiteLLM_SpendLogs" ORDER BY 1')
    assert [("log-1", 5, 2e-5), ("log-2", 5, 2e-5)] == rows


def test_segments_go_when_they_are_booked_closed_and_old(configuration: Configuration, url: str) -> None:
    write(configuration.identity_directory, begin(1))
    old = write(configuration.relay_directory, used(1))
    fresh = write(configuration.relay_directory, used(2), process="bbbbbbbbbbbbbbbb")
    long_ago = time.time() - 31 * 86400
    os.utime(old, (long_ago, long_ago))

    summary = run(configuration, url)

    assert 1 == summary.deleted_segments
    assert (False, True) == (old.exists(), fresh.exists())


def test_two_runs_of_one_host_do_not_meet(configuration: Configuration, url: str) -> None:
    with connected(configuration, database_url=url), pytest.raises(LedgerError, match="under way"):
        run(configuration, url)


def test_a_database_that_is_away_says_so_in_one_line(configuration: Configuration) -> None:
    with pytest.raises(DatabaseAway, match="segments keep"):
        run(configuration, "postgresql://127.0.0.1:9/none")


def test_runs_that_are_killed_anywhere_book_everything_once(
    configuration: Configuration, url: str, tmp_path: Path
) -> None:
    count = 3000
    write(configuration.identity_directory, *(begin(1) | {"request": f"c-{n}"} for n in range(count)))
    for part in range(10):
        records = (used(1) | {"entry": f"r-{n}", "request": f"c-{n}"} for n in range(part, count, 10))
        write(configuration.relay_directory, *records, process=f"{part:016x}")
    script = tmp_path / "run.py"
    script.write_text(
        "import sys; from pathlib import Path; from tests.ledger.test_reconcile import run; "
        "from ledger.configuration import Configuration, Price; from decimal import Decimal\n"
        f"run(Configuration(host='h1', relay_directory=Path({str(configuration.relay_directory)!r}), "
        f"identity_directory=Path({str(configuration.identity_directory)!r}), metrics_path=None, grace_seconds=0, "
        "unclaimed_seconds=600, retention_days=30, prices={'qwen': Price(input_cost=Decimal('0.000001'), "
        "output_cost=Decimal('0.000002'))}), sys.argv[1])\n"
    )
    run(replace(configuration, relay_directory=tmp_path / "none"), url)
    booked: list[int] = []
    for target in (1, 1600, 2500):
        process = subprocess.Popen([sys.executable, str(script), url], cwd=ROOT, env=os.environ | {"PYTHONPATH": "."})
        while process.poll() is None and fetch(url, "SELECT count(*) FROM appliance.usage")[0][0] < target:
            time.sleep(0.002)
        process.kill()
        process.wait()
        booked += fetch(url, "SELECT count(*) FROM appliance.usage")[0]
    print(f"booked when killed: {booked}")
    assert booked[0] < count

    summary = run(configuration, url)

    assert booked[-1] + len(summary.booked) == count
    assert [round(count * 2e-5, 9)] * 5 == [round(value, 9) for value in sums(url)]

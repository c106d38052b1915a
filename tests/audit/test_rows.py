"""Segments to rows of the audit with the rights of the gateway's login, against a real PostgreSQL; and out again."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest

from audit.errors import AuditError
from audit.export import export
from audit.read import Question, moment, rows
from ledger.configuration import Configuration
from ledger.reconcile import connected, reconcile
from tests.audit.database import OwnedDatabase
from tests.ledger.test_reconcile import LITELLM, begin, used, write
from tests.prisma_engine.postgres import PostgresServer

REFUSED = {
    "kind": "noted", "result": "refused", "reason": "budget_exceeded", "status": 422, "at": 1_790_000_000.5,
    "entry": "g-90", "request": None, "call_id": "call-90", "model": "chat", "endpoint": "/v1/chat/completions",
    "client": "10.0.0.9", "key_hash": "hash-1", "key_alias": "one", "team_id": None, "team_alias": None,
    "user_id": "=cmd()", "end_user": None,
}  # fmt: skip
PROMPT = {"kind": "prompt", "at": 1_790_000_001.0, "entry": "g-91", "request": "r", "call_id": "call-91",
          "prompt": [{"role": "user", "content": "why\x00?"}]}  # fmt: skip
CACHED = {"kind": "end", "at": 4.0, "entry": "g-92", "request": "call-3-00000003", "begun_at": 3.0,
          "billed_by": "provider", "spend_log_id": "log-3", "model": "qwen", "endpoint": "acompletion",
          "prompt_tokens": 0, "completion_tokens": 0, "cached_tokens": 0, "outcome": "cached", "cost": "0.0",
          "cache": "hit"}  # fmt: skip


@pytest.fixture(scope="module")
def filled(server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnedDatabase]:
    """Two requests of an engine, one that nobody finished, a refusal, a prompt and a cached answer; read twice."""
    database = OwnedDatabase.make(server, "audit_rows")
    database.install()
    database.gateway(LITELLM)
    directory = tmp_path_factory.mktemp("segments")
    write(_made(directory / "gateway"), begin(1) | {"client": "10.0.0.7"}, begin(2), begin(3), REFUSED, PROMPT, CACHED)
    write(_made(directory / "relay"), used(1), used(2) | {"outcome": "client_left"}, used(1))
    for _ in range(2):
        with connected(_configuration(directory), database_url=database.url) as connection:
            reconcile(connection, _configuration(directory))
    yield database


def _made(directory: Path) -> Path:
    directory.mkdir()
    return directory


def _configuration(directory: Path) -> Configuration:
    return Configuration(
        host="h1", relay_directory=directory / "relay", identity_directory=directory / "gateway", metrics_path=None,
        grace_seconds=0, unclaimed_seconds=600, retention_days=30, prices={},
    )  # fmt: skip


def found(database: OwnedDatabase, question: Question) -> list[dict[str, Any]]:
    with psycopg.connect(database.url) as connection:
        return list(rows(connection, question))


def test_every_request_is_told_once_with_its_key_result_and_address(filled: OwnedDatabase) -> None:
    told = found(filled, Question(about="requests", filters=(("key", "one"),)))

    assert [
        ("call-1", "completed", 200, 15, "10.0.0.7"),
        ("call-2", "cut", None, 15, None),
        ("call-3", "cached", 200, 0, None),
        ("call-90", "refused", 422, None, "10.0.0.9"),
    ] == sorted(
        (
            row["call_id"],
            row["result"],
            row["status"],
            None if row["prompt_tokens"] is None else row["prompt_tokens"] + row["completion_tokens"],
            row["client"],
        )
        for row in told
    )


def test_what_was_asked_is_kept_where_the_gateway_wrote_it(filled: OwnedDatabase) -> None:
    (told,) = found(filled, Question(about="prompts", filters=(("call", "call-91"),)))

    assert [{"role": "user", "content": "why\ufffd?"}] == told["prompt"]


def test_filters_and_times_leave_out_what_was_not_asked_for(filled: OwnedDatabase) -> None:
    refused = Question(about="requests", filters=(("result", "refused"), ("model", "chat")))
    before = replace(refused, until=moment("2026-09-21T14:13:20Z"))
    after = replace(refused, since=moment("2026-09-21T14:13:20Z"), until=moment("2026-09-21", ends=True))

    assert (1, 0, 1) == tuple(len(found(filled, question)) for question in (refused, before, after))


def test_a_name_with_a_percent_sign_is_a_name(filled: OwnedDatabase) -> None:
    day = datetime(2026, 1, 1, tzinfo=UTC)

    for since in (None, day):
        assert [] == found(filled, Question(about="requests", since=since, filters=(("user", "100%sure"),)))


def test_a_spreadsheet_takes_nobodys_name_for_a_formula_and_json_lines_are_whole(filled: OwnedDatabase) -> None:
    told = found(filled, Question(about="requests", filters=(("result", "refused"),)))
    as_csv, as_lines = io.StringIO(), io.StringIO()

    counts = [
        export(told, shape=shape, to=to, talk=io.StringIO()) for shape, to in (("csv", as_csv), ("jsonl", as_lines))
    ]

    assert [1, 1] == counts
    assert "'=cmd()" == next(csv.DictReader(io.StringIO(as_csv.getvalue())))["user_id"]
    assert "=cmd()" == json.loads(as_lines.getvalue())["user_id"]


def test_a_filter_that_does_not_apply_and_a_moment_that_is_none_are_refused() -> None:
    with pytest.raises(AuditError, match="--model does not apply to changes; there are object, key"):
        found_nothing = Question(about="changes", filters=(("model", "chat"),))
        next(rows(None, found_nothing))  # type: ignore[arg-type]
    with pytest.raises(AuditError, match="yesterday is no moment"):
        moment("yesterday")

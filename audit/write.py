"""Writes the audit: rows from what the gateway's hook noted, and from the bill.

Every row is written in the transaction that reads its source, once, however often it is read. A request that used
tokens and failed then has two rows with one id: what was used, and what the client heard.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

Connection = psycopg.Connection[tuple[Any, ...]]
LOST_AFTER_HOURS = 24
_NOTED = """
INSERT INTO appliance.audit_request (entry, at, host, request, call_id, result, reason, status, key_hash, key_alias,
    team_id, team_alias, user_id, end_user, client, model, endpoint, targets)
VALUES (%(entry)s, to_timestamp(%(at)s), %(host)s, %(request)s, %(call_id)s, %(result)s, %(reason)s, %(status)s,
    %(key_hash)s, %(key_alias)s, %(team_id)s, %(team_alias)s, %(user_id)s, %(end_user)s, %(client)s, %(model)s,
    %(endpoint)s, %(targets)s)
ON CONFLICT (at, entry) DO NOTHING
"""
# What ended without having used anything was heard by the client as a failure, and the hook noted that.
_BILLED = """
INSERT INTO appliance.audit_request (entry, at, host, request, call_id, result, reason, status, key_hash, key_alias,
    team_id, team_alias, user_id, end_user, client, model, endpoint, prompt_tokens, completion_tokens, cost, ended_at)
SELECT u.entry, u.begun_at, u.host, u.request, u.call_id,
    CASE u.outcome WHEN 'completed' THEN 'completed' WHEN 'cached' THEN 'cached' WHEN 'client_left' THEN 'cut'
        ELSE 'failed' END,
    CASE WHEN u.outcome NOT IN ('completed', 'cached') THEN u.outcome END,
    CASE WHEN u.outcome IN ('completed', 'cached') THEN 200 END,
    u.key_hash, u.key_alias, u.team_id, u.team_alias, u.user_id, u.end_user, c.client,
    coalesce(u.model_group, u.model), u.endpoint, u.prompt_tokens, u.completion_tokens, u.cost, u.ended_at
FROM appliance.usage u LEFT JOIN appliance.caller c USING (request)
WHERE u.entry = ANY(%s)
    AND (u.prompt_tokens + u.completion_tokens > 0 OR u.outcome IN ('completed', 'cached', 'client_left'))
ON CONFLICT (at, entry) DO NOTHING
"""
_PROMPT = """
INSERT INTO appliance.audit_prompt (entry, at, request, call_id, prompt)
VALUES (%(entry)s, to_timestamp(%(at)s), %(request)s, %(call_id)s, %(prompt)s)
ON CONFLICT (at, entry) DO NOTHING
"""
_LOST = """
INSERT INTO appliance.audit_request (entry, at, host, request, call_id, result, reason, key_hash, key_alias, team_id,
    team_alias, user_id, end_user, client, model)
SELECT 'lost-' || c.request, c.begun_at, '', c.request, c.call_id, 'lost', 'nobody wrote how it ended', c.key_hash,
    c.key_alias, c.team_id, c.team_alias, c.user_id, c.end_user, c.client, c.model_group
FROM appliance.caller c
WHERE c.begun_at >= %(since)s AND c.begun_at < %(until)s AND NOT EXISTS (
    SELECT FROM appliance.audit_request a WHERE a.call_id = c.call_id
        AND a.at BETWEEN c.begun_at - interval '1 hour' AND c.begun_at + interval '1 day')
ON CONFLICT (at, entry) DO NOTHING
"""
_NAMES = ("entry", "at", "request", "call_id", "reason", "status", "key_hash", "key_alias", "team_id", "team_alias",
          "user_id", "end_user", "client", "model", "endpoint", "targets")  # fmt: skip


def add_noted(connection: Connection, records: Sequence[Mapping[str, Any]], *, host: str) -> None:
    """Refusals, failures and calls of administration, as the gateway's hook noted them."""
    rows = [
        {name: record.get(name) for name in _NAMES} | {"host": host, "result": record["result"]} for record in records
    ]
    if rows:
        connection.cursor().executemany(_NOTED, rows)


def add_billed(connection: Connection, entries: Sequence[str]) -> None:
    """What was booked just now, by the names of its entries in the bill."""
    if entries:
        connection.execute(_BILLED, (list(entries),))


def add_prompts(connection: Connection, records: Sequence[Mapping[str, Any]]) -> None:
    """What was asked, where the operator wants it kept."""
    rows = [
        {name: record.get(name) for name in ("entry", "at", "request", "call_id")}
        | {"prompt": Jsonb(_storable(record["prompt"]))}
        for record in records
    ]
    if rows:
        connection.cursor().executemany(_PROMPT, rows)


def add_lost(connection: Connection) -> None:
    """Requests that began a day ago and of whose end nobody wrote: they are told, not forgotten."""
    with connection.transaction():
        connection.execute(
            "INSERT INTO appliance.compared (host, until) VALUES ('audit of lost requests', now() - interval '7 days') "
            "ON CONFLICT DO NOTHING"
        )
        row = connection.execute(
            "SELECT until, now() - make_interval(hours => %s) FROM appliance.compared "
            "WHERE host = 'audit of lost requests' FOR UPDATE",
            (LOST_AFTER_HOURS,),
        ).fetchone()
        if row is not None and row[0] < row[1]:
            connection.execute(_LOST, {"since": row[0], "until": row[1]})
            connection.execute(
                "UPDATE appliance.compared SET until = %s WHERE host = 'audit of lost requests'", (row[1],)
            )


def _storable(content: Any) -> Any:
    """PostgreSQL's jsonb cannot hold the character U+0000, nor numbers that are none; Python's JSON reads both."""
    if isinstance(content, str):
        return content.replace("\x00", "\ufffd")
    if isinstance(content, float) and not math.isfinite(content):
        return str(content)
    if isinstance(content, list):
        return [_storable(one) for one in content]
    if isinstance(content, dict):
        return {_storable(name): _storable(value) for name, value in content.items()}
    return content

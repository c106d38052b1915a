"""Puts LiteLLM's log of requests right: rows that died in a worker's memory, and rows that counted otherwise.

LiteLLM keeps a row for some seconds in memory before it writes it. Only rows older than that are compared, each once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from psycopg.types.json import Jsonb

from ledger.book import Connection

_CANDIDATES = """
WITH due AS (
    SELECT DISTINCT request FROM appliance.usage
    WHERE host = %(host)s AND booked_at >= %(since)s AND booked_at < %(until)s AND key_hash IS NOT NULL
), bill AS (
    SELECT u.request, min(u.call_id) AS call_id, min(u.key_hash) AS key_hash, min(u.team_id) AS team_id,
        min(u.user_id) AS user_id, min(u.organization_id) AS organization_id, min(u.end_user) AS end_user,
        min(u.model) AS model, min(u.model_group) AS model_group, min(u.endpoint) AS endpoint,
        min(u.tags::text)::jsonb AS tags, sum(u.prompt_tokens)::bigint AS prompt_tokens,
        sum(u.completion_tokens)::bigint AS completion_tokens, sum(u.cost) AS cost,
        min(u.begun_at) AS begun_at, max(u.ended_at) AS ended_at
    FROM appliance.usage u JOIN due USING (request) GROUP BY u.request
)
SELECT bill.*, coalesce(c.spend_log_id, bill.request) AS spend_log_id, log.request_id IS NOT NULL AS is_there
FROM bill
LEFT JOIN appliance.caller c USING (request)
LEFT JOIN "LiteLLM_SpendLogs" log ON log.request_id = coalesce(c.spend_log_id, bill.request)
WHERE bill.prompt_tokens + bill.completion_tokens > 0
    AND (log.request_id IS NULL OR log.prompt_tokens <> bill.prompt_tokens
        OR log.completion_tokens <> bill.completion_tokens OR abs(log.spend - bill.cost) > 1e-9)
"""
_INSERT_LOG = """
INSERT INTO "LiteLLM_SpendLogs" (request_id, call_type, api_key, spend, total_tokens, prompt_tokens, completion_tokens,
    "startTime", "endTime", model, model_group, custom_llm_provider, "user", metadata, request_tags, team_id,
    organization_id, end_user, status, litellm_call_id, cache_hit)
VALUES (%(spend_log_id)s, %(call_type)s, %(key_hash)s, %(cost)s, %(prompt_tokens)s + %(completion_tokens)s,
    %(prompt_tokens)s, %(completion_tokens)s, %(begun_at)s AT TIME ZONE 'utc', %(ended_at)s AT TIME ZONE 'utc',
    %(model)s, %(model_group)s, 'hosted_vllm', coalesce(%(user_id)s, ''), %(metadata)s, %(tags)s, %(team_id)s,
    %(organization_id)s, %(end_user)s, 'success', %(call_id)s, 'False')
ON CONFLICT (request_id) DO NOTHING
"""
_CORRECT_LOG = """
UPDATE "LiteLLM_SpendLogs" SET spend = %(cost)s, prompt_tokens = %(prompt_tokens)s,
    completion_tokens = %(completion_tokens)s, total_tokens = %(prompt_tokens)s + %(completion_tokens)s,
    updated_at = now() AT TIME ZONE 'utc'
WHERE request_id = %(spend_log_id)s
"""
_INSERT_REPAIR = """
INSERT INTO appliance.repair (request, spend_log_id, kind, prompt_tokens, completion_tokens, cost)
VALUES (%(request)s, %(spend_log_id)s, %(kind)s, %(prompt_tokens)s, %(completion_tokens)s, %(cost)s)
ON CONFLICT (request) DO NOTHING
"""


@dataclass(frozen=True, kw_only=True)
class Repair:
    """One request that LiteLLM had lost ("missing") or counted otherwise ("different")."""

    request: str
    kind: str
    tokens: int


def compare(connection: Connection, *, host: str, grace_seconds: float) -> list[Repair]:
    """Compares what was booked since the last time and is older than the grace; repairs it in one transaction."""
    with connection.transaction():
        since = connection.execute(
            "SELECT until FROM appliance.compared WHERE host = %s FOR UPDATE", (host,)
        ).fetchone()
        (until,) = _one(connection, "SELECT now() - make_interval(secs => %s)", grace_seconds)
        (beginning,) = _one(connection, "SELECT '-infinity'::timestamptz::text")
        places = {"host": host, "since": since[0] if since else beginning, "until": until}
        cursor = connection.execute(_CANDIDATES, places)
        names = [column.name for column in cursor.description or ()]
        repairs = [_repair(connection, dict(zip(names, row, strict=True))) for row in cursor.fetchall()]
        connection.execute(
            "INSERT INTO appliance.compared (host, until) VALUES (%s, %s) "
            "ON CONFLICT (host) DO UPDATE SET until = EXCLUDED.until",
            (host, until),
        )
    return repairs


def _repair(connection: Connection, bill: dict[str, Any]) -> Repair:
    kind = "different" if bill["is_there"] else "missing"
    values = bill | {
        "kind": kind,
        "tags": Jsonb(bill["tags"]),
        "call_type": "acompletion" if "chat" in (bill["endpoint"] or "chat") else "atext_completion",
        "metadata": Jsonb({"recovered": "this row was lost by LiteLLM and written from the appliance's ledger"}),
    }
    connection.execute(_CORRECT_LOG if bill["is_there"] else _INSERT_LOG, values)
    connection.execute(_INSERT_REPAIR, values)
    return Repair(request=bill["request"], kind=kind, tokens=bill["prompt_tokens"] + bill["completion_tokens"])


def _one(connection: Connection, query: str, *values: object) -> tuple[Any, ...]:
    row = connection.execute(query.encode(), values).fetchone()
    if row is None:
        raise LookupError(query)
    return row

"""Reads the audit: the operator's questions as statements that its indexes answer, however many rows there are.

A change carries the name of who made it where LiteLLM writes that down (keys, budgets); for teams, users and
memberships it does not, and the call of administration that named the object just before tells.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, LiteralString

import psycopg
from psycopg import sql
from psycopg.abc import AdaptContext

from audit.errors import AuditError

Connection = psycopg.Connection[tuple[Any, ...]]
BATCH_ROWS = 5000
_REQUESTS = """
SELECT r.at, r.ended_at, r.call_id, r.result, r.status, r.reason, r.model, r.endpoint, r.key_alias, r.key_hash,
    r.team_alias, r.team_id, r.user_id, r.end_user, r.client, r.prompt_tokens, r.completion_tokens, r.cost, r.host,
    r.targets
FROM appliance.audit_request r
"""
_CHANGES = """
SELECT r.at, r.kind, r.object, r.alias, r.operation, coalesce(r.actor, m.user_id) AS actor,
    coalesce(m.key_alias, '') AS actor_key_alias, coalesce(r.actor_key, m.key_hash) AS actor_key_hash,
    m.reason AS on_behalf_of, m.client, m.endpoint, r.login, r.was, r.became
FROM appliance.audit_change r LEFT JOIN LATERAL (
    SELECT a.* FROM appliance.audit_request a
    WHERE a.result = 'administered' AND a.at BETWEEN r.at - interval '10 seconds' AND r.at
        AND a.targets && (string_to_array(r.object, '/') || r.alias)
    ORDER BY a.at DESC LIMIT 1) m ON true
"""
_PROMPTS = "SELECT r.at, r.call_id, r.request, r.prompt FROM appliance.audit_prompt r "
_STATEMENTS: dict[str, LiteralString] = {"requests": _REQUESTS, "changes": _CHANGES, "prompts": _PROMPTS}
# One condition for each filter: the columns it may match.
_FILTERS: dict[str, dict[str, LiteralString]] = {
    "requests": {
        "key": "(r.key_alias = {0} OR r.key_hash = {0})",
        "team": "(r.team_id = {0} OR r.team_alias = {0})",
        "model": "r.model = {0}",
        "result": "r.result = {0}",
        "user": "(r.user_id = {0} OR r.end_user = {0})",
        "call": "r.call_id = {0}",
    },
    "changes": {"object": "(r.object = {0} OR r.alias = {0})", "key": "(r.object = {0} OR r.alias = {0})"},
    "prompts": {"call": "r.call_id = {0}"},
}


@dataclass(frozen=True, kw_only=True)
class Question:
    """Which rows: what they are about, from when (inclusive) to when (exclusive), and which of them."""

    about: str
    since: datetime | None = None
    until: datetime | None = None
    filters: tuple[tuple[str, str], ...] = ()


def moment(text: str, *, ends: bool = False) -> datetime:
    """`2026-11-01`, `2026-11-01T10:00` (UTC), `2026-11-01T10:00+09:00` or `24h`, `7d` ago. A last day counts whole."""
    if past := re.fullmatch(r"([0-9]+)([hd])", text):
        return datetime.now(UTC) - timedelta(**{{"h": "hours", "d": "days"}[past[2]]: int(past[1])})
    try:
        if re.fullmatch(r"\d{4}-\d{2}-\d{2}", text):
            day = datetime.combine(date.fromisoformat(text), datetime.min.time(), UTC)
            return day + timedelta(days=1) if ends else day
        given = datetime.fromisoformat(text)
    except ValueError:
        raise AuditError(f"{text} is no moment; write 2026-11-01, 2026-11-01T10:00+09:00, 24h or 7d") from None
    return given if given.tzinfo else given.replace(tzinfo=UTC)


def statement(question: Question) -> tuple[sql.Composed, list[Any]]:
    """The statement and its values, in the order of time."""
    known = _FILTERS[question.about]
    conditions: list[sql.Composable] = []
    values: list[Any] = []
    for words, value in (("r.at >= %s", question.since), ("r.at < %s", question.until)):
        if value is not None:
            conditions.append(sql.SQL(words))
            values.append(value)
    for name, wanted in question.filters:
        if name not in known:
            raise AuditError(f"--{name} does not apply to {question.about}; there are {', '.join(known)}")
        conditions.append(sql.SQL(known[name]).format(_Word(wanted)))
    where = sql.SQL(" WHERE ") + sql.SQL(" AND ").join(conditions) if conditions else sql.SQL("")
    return sql.SQL(_STATEMENTS[question.about]) + where + sql.SQL(" ORDER BY r.at"), values


class _Word(sql.Literal):
    """Stands in the statement itself, so that partial indexes answer; there a percent sign would begin a parameter."""

    def as_bytes(self, context: AdaptContext | None = None) -> bytes:
        return super().as_bytes(context).replace(b"%", b"%%")


def rows(connection: Connection, question: Question) -> Iterator[dict[str, Any]]:
    """The rows, a few thousand in memory at a time. Belongs into one transaction."""
    asked, values = statement(question)
    with connection.cursor(name="audit") as cursor:
        cursor.itersize = BATCH_ROWS
        cursor.execute(asked, values)
        names: list[str] = []
        for row in cursor:
            names = names or [column.name for column in cursor.description or ()]
            yield dict(zip(names, row, strict=True))

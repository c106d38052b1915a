"""Budgets that are nearly or wholly spent: noticed once each, told to every receiver until it has heard.

LiteLLM's own alerts live in the memory of the worker that saw a request, and its email is licensed. Here the spend that
the bill has booked is compared with what keys, teams, members and the whole gateway may spend, after each booking.
What is noticed becomes a row with one delivery for each receiver, in one transaction; deliveries are tried until they
succeed. A killed process forgets nothing; at worst a receiver hears twice. A budget that is renewed or changed may be
told again.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ledger.book import Connection
from ledger.receivers import Receiver, Undelivered

SOFT, HARD = "soft", "hard"
GIVE_UP_DAYS = 7
FIRST_PAUSE_SECONDS = 15
LONGEST_PAUSE_SECONDS = 3600
LOCK = "appliance.alerts"
# What is spent, what warns, what stops, and when it starts anew. Rotated keys keep their row, under a retired alias.
_SPENT = """
SELECT 'key', k.token, coalesce(k.key_alias, left(k.token, 10)), t.team_alias, k.spend, b.soft_budget, k.max_budget,
    k.budget_reset_at
FROM "LiteLLM_VerificationToken" k
LEFT JOIN "LiteLLM_BudgetTable" b ON b.budget_id = k.budget_id
LEFT JOIN "LiteLLM_TeamTable" t ON t.team_id = k.team_id
WHERE (k.spend >= b.soft_budget OR k.spend >= k.max_budget) AND k.metadata->'appliance'->'retired' IS NULL
UNION ALL
SELECT 'team', team_id, coalesce(team_alias, team_id), NULL, spend, soft_budget, max_budget, budget_reset_at
FROM "LiteLLM_TeamTable" WHERE spend >= soft_budget OR spend >= max_budget
UNION ALL
SELECT 'member', m.team_id || '/' || m.user_id, m.user_id, t.team_alias, m.spend, NULL, b.max_budget, b.budget_reset_at
FROM "LiteLLM_TeamMembership" m JOIN "LiteLLM_BudgetTable" b ON b.budget_id = m.budget_id
LEFT JOIN "LiteLLM_TeamTable" t ON t.team_id = m.team_id
WHERE m.spend >= b.max_budget
UNION ALL
SELECT 'gateway', user_id, 'the whole gateway', NULL, spend, NULL, max_budget, budget_reset_at
FROM "LiteLLM_UserTable" WHERE user_id = 'litellm-proxy-budget' AND spend >= max_budget
"""
_INSERT = """
INSERT INTO appliance.alert (kind, subject, level, occasion, event) VALUES (%s, %s, %s, %s, %s)
ON CONFLICT (kind, subject, level, occasion) DO NOTHING RETURNING id
"""
_DUE = """
SELECT d.alert, d.receiver, d.attempts, a.event FROM appliance.delivery d JOIN appliance.alert a ON a.id = d.alert
WHERE d.delivered_at IS NULL AND d.next_at <= now() AND a.noticed_at > now() - make_interval(days => %s)
ORDER BY d.alert, d.receiver
"""
_DELIVERED = "UPDATE appliance.delivery SET attempts = attempts + 1, delivered_at = now(), fault = NULL "
_FAILED = (
    "UPDATE appliance.delivery SET attempts = attempts + 1, fault = %s, next_at = now() + make_interval(secs => %s) "
)
_WHICH = "WHERE alert = %s AND receiver = %s"


@dataclass(frozen=True, kw_only=True)
class Told:
    """What one run did, for the journal."""

    noticed: tuple[str, ...] = ()
    delivered: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()


def tell(connection: Connection, receivers: Sequence[Receiver], *, host: str, currency: str) -> Told:
    """Notices and delivers. One gateway at a time; where another one is at it, it does all of it."""
    row = connection.execute("SELECT pg_try_advisory_lock(hashtext(%s))", (LOCK,)).fetchone()
    if row is None or not row[0]:
        return Told()
    try:
        noticed = _notice(connection, receivers, host=host, currency=currency)
        delivered, failed = _deliver(connection, receivers)
    finally:
        connection.execute("SELECT pg_advisory_unlock(hashtext(%s))", (LOCK,))
    return Told(noticed=tuple(noticed), delivered=tuple(delivered), failed=tuple(failed))


def event_of(row: Sequence[Any], level: str, *, host: str, currency: str, now: datetime) -> dict[str, Any]:
    """What a receiver is told: fields for programs, `text` for people."""
    kind, _, name, team, spend, soft, hard, resets_at = row
    event = {
        "event": f"budget.{level}",
        "kind": kind,
        "name": name,
        "team": team,
        "spend": spend,
        "soft_budget": soft,
        "budget": hard,
        "currency": currency,
        "resets_at": None if resets_at is None else resets_at.replace(tzinfo=UTC).isoformat(),
        "gateway": host,
        "at": now.isoformat(),
    }
    return event | {"text": _text(event, level)}


def _text(event: dict[str, Any], level: str) -> str:
    who = event["name"] if event["kind"] == "gateway" else f"{event['kind']} {event['name']}"
    if event["team"]:
        who += f" (team {event['team']})"
    limit = event["soft_budget"] if level == SOFT else event["budget"]
    spent = f"{event['spend']:.6g} of {limit:.6g} {event['currency']}".rstrip()
    anew = f"It starts anew at {event['resets_at']}." if event["resets_at"] else "It does not start anew by itself."
    if level == SOFT:
        stop = f"; requests are refused from {event['budget']:.6g} on" if event["budget"] is not None else ""
        return f"Soft budget passed: {who} has spent {spent}{stop}. {anew}"
    return (
        f"Budget spent: {who} has spent {spent}; its requests are refused with status 422. {anew} To go on before, "
        "raise its budget in access.yml and run playbooks/access.yml."
    )


def _notice(connection: Connection, receivers: Sequence[Receiver], *, host: str, currency: str) -> list[str]:
    noticed = []
    now = datetime.now(UTC)
    with connection.transaction():
        for row in connection.execute(_SPENT).fetchall():
            kind, subject, _, _, spend, soft, hard, resets_at = row
            for level, limit in ((SOFT, soft), (HARD, hard)):
                if limit is None or spend < limit:
                    continue
                event = event_of(row, level, host=host, currency=currency, now=now)
                occasion = f"{limit!r} {resets_at or ''}".strip()
                made = connection.execute(_INSERT, (kind, subject, level, occasion, json.dumps(event))).fetchone()
                if made is None:
                    continue
                noticed.append(event["text"])
                for receiver in receivers:
                    connection.execute(
                        "INSERT INTO appliance.delivery (alert, receiver) VALUES (%s, %s)", (made[0], receiver.name)
                    )
    return noticed


def _deliver(connection: Connection, receivers: Sequence[Receiver]) -> tuple[list[str], list[str]]:
    by_name = {receiver.name: receiver for receiver in receivers}
    silent: set[str] = set()
    delivered, failed = [], []
    for alert, name, attempts, event in connection.execute(_DUE, (GIVE_UP_DAYS,)).fetchall():
        if name not in by_name or name in silent:  # not declared any more, or just found not to answer
            continue
        try:
            by_name[name].tell(event)
        except Undelivered as fault:
            pause = min(FIRST_PAUSE_SECONDS * 2**attempts, LONGEST_PAUSE_SECONDS)
            connection.execute(_FAILED + _WHICH, (str(fault), pause, alert, name))
            failed.append(f"{name}: {fault}; tried again in {pause} s")
            silent.add(name)
        else:
            connection.execute(_DELIVERED + _WHICH, (alert, name))
            delivered.append(f"{name}: {event['text']}")
    return delivered, failed

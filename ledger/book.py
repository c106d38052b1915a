"""Writes usage into PostgreSQL, each entry once, and with it the spend of its key, user, team and team member.

The row and the spend stand in one transaction, and only rows that are new add spend: a reconciliation that is killed
anywhere, or run twice, or reads a line twice, books nothing twice. The gateway's hook keeps LiteLLM from adding the
same spend (roles/gateway/files/identity_ledger.py), so nothing else writes these sums but LiteLLM's budget resets.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from importlib.resources import files
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from audit import write as audit
from ledger.errors import LedgerError
from ledger.records import Caller, Usage

SCHEMA_VERSION = 2
Connection = psycopg.Connection[tuple[Any, ...]]
_INSERT_USAGE = """
INSERT INTO appliance.usage (entry, request, call_id, source, host, model, model_group, endpoint, key_hash, key_alias,
    team_id, team_alias, user_id, organization_id, end_user, tags, prompt_tokens, completion_tokens, cached_tokens,
    legs, outcome, cost, begun_at, ended_at)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s,
    to_timestamp(%s), to_timestamp(%s))
ON CONFLICT (entry) DO NOTHING
RETURNING entry
"""
_INSERT_CALLER = """
INSERT INTO appliance.caller (request, call_id, key_hash, key_alias, team_id, team_alias, user_id, organization_id,
    end_user, tags, model_group, begun_at, client)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, to_timestamp(%s), %s)
ON CONFLICT (request) DO NOTHING
"""
_SELECT_CALLERS = """
SELECT request, call_id, extract(epoch FROM begun_at)::float8, key_hash, key_alias, team_id, team_alias, user_id,
    organization_id, end_user, tags, model_group
FROM appliance.caller WHERE request = ANY(%s)
"""
# The same statements that LiteLLM sends, so that both kinds of writer agree on what a column means.
_ADD_SPEND = {
    "key": 'UPDATE "LiteLLM_VerificationToken" SET spend = spend + %s, total_spend = total_spend + %s, '
    "last_active = now() AT TIME ZONE 'utc' WHERE token = %s",
    "user": 'UPDATE "LiteLLM_UserTable" SET spend = spend + %s WHERE user_id = %s',
    "team": 'UPDATE "LiteLLM_TeamTable" SET spend = spend + %s WHERE team_id = %s',
}
_ADD_MEMBER_SPEND = """
INSERT INTO "LiteLLM_TeamMembership" (user_id, team_id, spend, total_spend)
SELECT %(user)s, %(team)s, %(cost)s, %(cost)s
WHERE EXISTS (SELECT 1 FROM "LiteLLM_TeamTable" t WHERE t.team_id = %(team)s
        AND t.members_with_roles @> jsonb_build_array(jsonb_build_object('user_id', %(user)s::text)))
    OR EXISTS (SELECT 1 FROM "LiteLLM_TeamMembership" m WHERE m.user_id = %(user)s AND m.team_id = %(team)s)
ON CONFLICT (user_id, team_id) DO UPDATE
SET spend = "LiteLLM_TeamMembership".spend + EXCLUDED.spend,
    total_spend = GREATEST("LiteLLM_TeamMembership".total_spend, "LiteLLM_TeamMembership".spend) + EXCLUDED.spend
"""


def prepare(connection: Connection) -> None:
    """Makes the appliance's own tables, where nobody else owns them; else looks whether they are the ones expected.

    On a host they belong to a role that nobody logs in as (roles/audit): this login adds rows and changes no table.
    """
    owner = connection.execute(
        "SELECT pg_get_userbyid(nspowner) <> current_user FROM pg_namespace WHERE nspname = 'appliance'"
    ).fetchone()
    if owner is not None and owner[0]:
        _check_version(connection)
        return
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(hashtext('appliance.schema'))")
        for package in ("ledger", "audit"):
            connection.execute(files(package).joinpath("schema.sql").read_bytes())
        connection.execute("SELECT appliance.watch()")


def _check_version(connection: Connection) -> None:
    try:
        row = connection.execute("SELECT appliance.schema_version()").fetchone()
    except (psycopg.errors.UndefinedFunction, psycopg.errors.InsufficientPrivilege):
        row = None
    if row is None or row[0] < SCHEMA_VERSION:
        found = row[0] if row else "an older one"
        told = f"the tables of the ledger are version {found}, not {SCHEMA_VERSION}"
        raise LedgerError(f"{told}; run playbooks/site.yml --tags audit")


def offset_of(connection: Connection, *, host: str, path: str) -> int:
    """How far a segment has been read."""
    query = "SELECT next_offset FROM appliance.segment WHERE host = %s AND path = %s"
    row = connection.execute(query, (host, path)).fetchone()
    return int(row[0]) if row else 0


def set_offset(connection: Connection, *, host: str, path: str, next_offset: int) -> None:
    """Belongs into the transaction that books what was read."""
    connection.execute(
        "INSERT INTO appliance.segment (host, path, next_offset) VALUES (%s, %s, %s) "
        "ON CONFLICT (host, path) DO UPDATE SET next_offset = EXCLUDED.next_offset",
        (host, path, next_offset),
    )


def add_callers(connection: Connection, callers: Iterable[Caller]) -> None:
    """Remembers whose requests they are."""
    rows = [
        (
            caller.request, caller.call_id, caller.key_hash, caller.key_alias, caller.team_id, caller.team_alias,
            caller.user_id, caller.organization_id, caller.end_user, Jsonb(list(caller.tags)), caller.model_group,
            caller.begun_at, caller.client,
        )
        for caller in callers
    ]  # fmt: skip
    if rows:
        connection.cursor().executemany(_INSERT_CALLER, rows)


def name_spend_logs(connection: Connection, named: Sequence[tuple[str, str]]) -> None:
    """Remembers under which id LiteLLM keeps its own row of a request: (request, id)."""
    if named:
        connection.cursor().executemany(
            "UPDATE appliance.caller SET spend_log_id = %s WHERE request = %s",
            [(spend_log, request) for request, spend_log in named],
        )


def callers_of(connection: Connection, requests: Sequence[str]) -> dict[str, Caller]:
    """Those that are known, by request."""
    rows = connection.execute(_SELECT_CALLERS, (list(requests),)).fetchall()
    names = ("request", "call_id", "begun_at", "key_hash", "key_alias", "team_id", "team_alias", "user_id",
             "organization_id", "end_user", "tags", "model_group")  # fmt: skip
    return {row[0]: Caller(**dict(zip(names, row, strict=True))) for row in rows}


def book(connection: Connection, usages: Sequence[Usage], callers: Mapping[str, Caller], *, host: str) -> list[Usage]:
    """Writes rows and adds the spend of those that are new; returns them. Belongs into one transaction."""
    new = [usage for usage in usages if _insert(connection, usage, _caller(usage, callers), host=host)]
    spend: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
    of_members: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
    for usage in new:
        caller = _caller(usage, callers)
        for kind, name in (("key", caller.key_hash), ("user", caller.user_id), ("team", caller.team_id)):
            if name is not None:
                spend[kind, name] += usage.cost
        if caller.team_id is not None and caller.user_id is not None:
            of_members[caller.team_id, caller.user_id] += usage.cost
    audit.add_billed(connection, [usage.entry for usage in new])
    # In one order everywhere: gateways that book at the same time wait for each other and never in a circle.
    for (kind, name), cost in sorted(spend.items()):
        amounts = [float(cost)] * (2 if kind == "key" else 1)
        connection.execute(_ADD_SPEND[kind], [*amounts, name])
    for (team, user), cost in sorted(of_members.items()):
        connection.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", (team,))
        connection.execute(_ADD_MEMBER_SPEND, {"team": team, "user": user, "cost": float(cost)})
    return new


def hold_back(connection: Connection, records: Iterable[Mapping[str, Any]], *, host: str) -> None:
    """Keeps what nobody is known to have asked for, until its caller turns up."""
    rows = [(record["entry"], host, Jsonb(dict(record), dumps=json.dumps)) for record in records]
    if rows:
        connection.cursor().executemany(
            "INSERT INTO appliance.unclaimed (entry, host, record) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING", rows
        )


def take_unclaimed(connection: Connection, *, host: str, older_than_seconds: float) -> list[dict[str, Any]]:
    """What was held back and has a caller now, or waited too long for one."""
    rows = connection.execute(
        "DELETE FROM appliance.unclaimed u WHERE host = %s AND (since < now() - make_interval(secs => %s) OR EXISTS "
        "(SELECT 1 FROM appliance.caller c WHERE c.request = u.record->>'request')) RETURNING record",
        (host, older_than_seconds),
    ).fetchall()
    return [row[0] for row in rows]


def _caller(usage: Usage, callers: Mapping[str, Caller]) -> Caller:
    return callers.get(usage.request) or Caller.unknown(usage.request, begun_at=usage.begun_at)


def _insert(connection: Connection, usage: Usage, caller: Caller, *, host: str) -> bool:
    row = (
        usage.entry, usage.request, caller.call_id, usage.source, host, usage.model, caller.model_group, usage.endpoint,
        caller.key_hash, caller.key_alias, caller.team_id, caller.team_alias, caller.user_id, caller.organization_id,
        caller.end_user, Jsonb(list(caller.tags)), usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens,
        Jsonb(list(usage.legs)), usage.outcome, usage.cost, usage.begun_at, usage.ended_at,
    )  # fmt: skip
    return connection.execute(_INSERT_USAGE, row).fetchone() is not None

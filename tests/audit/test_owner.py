"""What the gateway's login cannot do to bill and audit, against a real PostgreSQL."""

# ruff: noqa: S608 - statements of the tests' own

from __future__ import annotations

import json

import pytest

from tests.audit.database import KEYS, OwnedDatabase, Refused

KEY_TABLE = '"LiteLLM_VerificationToken"'
TAMPERING = (
    "UPDATE appliance.usage SET cost = 0",
    "DELETE FROM appliance.usage",
    "TRUNCATE appliance.usage",
    "DROP TABLE appliance.usage",
    "ALTER TABLE appliance.usage DISABLE TRIGGER ALL",
    "UPDATE appliance.audit_request SET result = 'lost'",
    "DELETE FROM appliance.audit_request",
    "TRUNCATE appliance.audit_request",
    "DROP TABLE appliance.audit_request",
    "DELETE FROM appliance.audit_request_other",
    "DELETE FROM appliance.audit_change",
    "INSERT INTO appliance.audit_change (kind, object, operation, login) VALUES ('key', 'h', 'changed', 'somebody')",
    "UPDATE appliance.audit_retention SET retention_days = 1",
    "SELECT appliance.keep_audit()",
    "CREATE OR REPLACE FUNCTION appliance.record_change() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN END'",
    "CREATE TABLE appliance.more (x int)",
    "DROP SCHEMA appliance CASCADE",
    "DROP OWNED BY appliance",
    "REASSIGN OWNED BY appliance TO litellm",
    "SET ROLE appliance",
    "DROP EVENT TRIGGER appliance_removals",
    "SET session_replication_role = replica",
    f"DROP TRIGGER appliance_audit ON {KEY_TABLE}",
    f"DROP TRIGGER appliance_audit_all ON {KEY_TABLE}",
    f"ALTER TABLE {KEY_TABLE} DISABLE TRIGGER ALL",
    f"ALTER TABLE {KEY_TABLE} DISABLE TRIGGER appliance_audit",
    f"ALTER TRIGGER appliance_audit ON {KEY_TABLE} RENAME TO another",
    f"CREATE OR REPLACE TRIGGER appliance_audit AFTER INSERT OR UPDATE OR DELETE ON {KEY_TABLE} FOR EACH ROW "
    "WHEN (false) EXECUTE FUNCTION appliance.record_change()",
    f"CREATE OR REPLACE TRIGGER appliance_audit_all AFTER TRUNCATE ON {KEY_TABLE} FOR EACH STATEMENT "
    "WHEN (false) EXECUTE FUNCTION appliance.record_emptying()",
)


def test_the_gateways_login_adds_to_bill_and_audit_and_can_neither_change_nor_empty_nor_unwatch_anything(
    database: OwnedDatabase,
) -> None:
    database.install()
    database.gateway(KEYS)
    database.gateway("INSERT INTO appliance.audit_request (entry, at, host, result) VALUES ('e', now(), 'h', 'lost')")

    allowed = []
    for statement in TAMPERING:
        try:
            database.gateway(statement)
            allowed.append(statement)
        except Refused:
            pass

    assert [] == allowed
    assert "1" == database.gateway("SELECT count(*) FROM appliance.audit_request")
    assert "" == database.gateway("SELECT appliance.unwatched()")


def test_every_change_of_a_key_is_recorded_with_its_actor_and_without_its_secrets(database: OwnedDatabase) -> None:
    database.install()
    database.gateway(KEYS)
    secret = {"logging": [{"callback_vars": {"langfuse_secret_key": "hidden-1"}}], "note": "sk-hidden-2222222", "n": 3}

    database.gateway(
        f"INSERT INTO {KEY_TABLE} (token, key_alias, metadata, created_by) "
        f"VALUES ('hash', 'a', '{json.dumps(secret)}', 'anna')"
    )
    database.gateway(f"UPDATE {KEY_TABLE} SET spend = 7, updated_at = now()")
    database.gateway(f"UPDATE {KEY_TABLE} SET max_budget = 5, updated_by = 'ben'")
    database.gateway("INSERT INTO \"LiteLLM_DeletedVerificationToken\" VALUES ('hash', 'a', 'cleo', 'hash-of-cleo')")
    database.gateway(f"DELETE FROM {KEY_TABLE}")

    rows = database.gateway(
        "SELECT kind, object, alias, operation, actor, actor_key, login, was, became FROM appliance.audit_change "
        "WHERE kind <> 'table' ORDER BY at"
    ).splitlines()
    assert [
        "key|hash|a|made|anna||litellm",
        'key|hash|a|changed|ben||litellm|{"max_budget": null}|{"max_budget": 5}',
        "removed key|hash|a|made|cleo|hash-of-cleo|litellm",
        "key|hash|a|removed|cleo|hash-of-cleo|litellm",
    ] == [row if "changed" in row else "|".join(row.split("|")[:7]) for row in rows]
    assert "hidden" not in "".join(rows)


def test_a_secret_that_changes_is_told_without_its_value(database: OwnedDatabase) -> None:
    database.install()
    database.gateway(KEYS)
    database.gateway(f"INSERT INTO {KEY_TABLE} (token, metadata) VALUES ('h', '{{\"api_key\": \"one\"}}')")

    database.gateway(f'UPDATE {KEY_TABLE} SET metadata = \'{{"api_key": "two"}}\'')

    told = database.gateway("SELECT was, became FROM appliance.audit_change WHERE operation = 'changed'")
    hidden = '{"metadata": {"api_key": "(not recorded)"}}'
    assert f"{hidden}|{hidden}" == told


def test_a_table_that_is_exchanged_for_another_one_is_watched_again_and_told(database: OwnedDatabase) -> None:
    database.install()
    database.gateway(KEYS)

    database.gateway(f"ALTER TABLE {KEY_TABLE} RENAME TO gone; CREATE TABLE {KEY_TABLE} (token text)")
    database.gateway(f"TRUNCATE {KEY_TABLE}")

    told = database.gateway(
        "SELECT operation FROM appliance.audit_change WHERE object = 'LiteLLM_VerificationToken' ORDER BY at"
    )
    assert ["create table", "create table", "emptied"] == told.splitlines()
    assert "" == database.gateway("SELECT appliance.unwatched()")


def test_installing_again_keeps_every_row_and_tables_that_the_gateway_once_owned_change_hands(
    database: OwnedDatabase,
) -> None:
    database.gateway("CREATE SCHEMA appliance")
    database.gateway("CREATE TABLE appliance.counter (host text, name text, value float8, PRIMARY KEY (host, name))")
    database.gateway("INSERT INTO appliance.counter VALUES ('h', 'n', 3)")
    database.gateway(KEYS)

    database.install()
    database.install()

    assert "3" == database.gateway("SELECT value FROM appliance.counter")
    strangers = (
        "SELECT count(*) FROM pg_class WHERE relnamespace = 'appliance'::regnamespace "
        "AND relowner <> 'appliance'::regrole"
    )
    assert "0" == database.superuser(strangers)
    assert "" == database.superuser("SELECT appliance.unwatched()")


def test_what_is_older_than_declared_goes_with_its_month_and_the_rest_stays(database: OwnedDatabase) -> None:
    database.install()
    database.gateway(
        "INSERT INTO appliance.audit_request (entry, at, host, result) SELECT 'e' || age, "
        "now() - age * interval '1 day', 'h', 'lost' FROM unnest(ARRAY[0, 70, 1500]) AS age"
    )

    database.superuser("UPDATE appliance.audit_retention SET retention_days = 40 WHERE relation = 'audit_request'")
    first = database.superuser("SELECT appliance.keep_audit()")
    second = database.superuser("SELECT appliance.keep_audit()")

    assert first.startswith("dropped audit_request_")
    assert "" == second
    assert "e0" == database.gateway("SELECT entry FROM appliance.audit_request")


def test_retention_asks_no_date_of_names_that_hold_none_however_postgresql_plans_it(database: OwnedDatabase) -> None:
    database.install()
    hash_join = "SET enable_nestloop = off; SET enable_mergejoin = off;"  # what it chooses itself once months are many

    assert "" == database.superuser(f"{hash_join} SELECT appliance.keep_audit()")


def test_rows_that_found_no_month_move_into_it_when_it_is_made(database: OwnedDatabase) -> None:
    database.install()
    database.superuser("DROP TABLE appliance.audit_request_" + database.superuser("SELECT to_char(now(), 'YYYY_MM')"))
    database.gateway("INSERT INTO appliance.audit_request (entry, at, host, result) VALUES ('e', now(), 'h', 'lost')")
    before = database.superuser("SELECT count(*) FROM appliance.audit_request_other")

    database.superuser("SELECT appliance.keep_audit()")

    after = database.superuser("SELECT count(*) FROM appliance.audit_request_other")
    assert ("1", "0", "1") == (before, after, database.gateway("SELECT count(*) FROM appliance.audit_request"))


def test_the_reconciliation_says_which_play_to_run_when_its_tables_are_older(database: OwnedDatabase) -> None:
    import psycopg

    from ledger import book
    from ledger.errors import LedgerError

    database.install()
    with psycopg.connect(database.url, autocommit=True) as connection:
        book.prepare(connection)
        database.superuser(
            "CREATE OR REPLACE FUNCTION appliance.schema_version() RETURNS integer LANGUAGE sql AS 'SELECT 1'"
        )

        with pytest.raises(LedgerError, match=r"version 1, not 2; run playbooks/site\.yml --tags audit"):
            book.prepare(connection)

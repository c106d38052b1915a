"""Times the operator's questions to an audit of ten million rows, in a PostgreSQL of its own on this machine.

`python -m benchmarks audit` fills the tables of audit/schema.sql as the role makes them (the gateway's rights, monthly
partitions, every index), asks each question through the same statements as the export (audit/read.py), a few times,
and prints times, rows and plans. It needs PostgreSQL's programs (initdb, pg_ctl), some gigabytes below --directory, and
nothing else; it is no test. What PostgreSQL may remember between two asks is said: the first ask is printed apart.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import psycopg
import typer
from psycopg import sql

from audit.read import Question, statement
from benchmarks.errors import BadLoad

ROOT = Path(__file__).resolve().parents[1]
BATCH_ROWS = 500_000
MONTHS = 12
KEYS, TEAMS = 400, 40
# A key that sends twenty times as much as the others: its questions are the slow ones.
_FILL = """
INSERT INTO appliance.audit_request (entry, at, host, request, call_id, result, reason, status, key_hash, key_alias,
    team_id, team_alias, user_id, client, model, endpoint, prompt_tokens, completion_tokens, cost, ended_at)
SELECT 'e-' || n, t, 'h' || n % 2, c || '-00000000', c,
    CASE WHEN n % 50 = 0 THEN 'refused' WHEN n % 97 = 0 THEN 'failed' ELSE 'completed' END,
    CASE WHEN n % 50 = 0 THEN 'budget_exceeded' END, CASE WHEN n % 50 = 0 THEN 422 ELSE 200 END,
    encode(sha256(k::text::bytea), 'hex'), 'key-' || k, 'team-' || k % %(teams)s, 'Team ' || k % %(teams)s,
    'user-' || k, '10.0.' || k % 250 || '.' || n % 250, 'model-' || n % 6, '/v1/chat/completions',
    200 + n % 3000, n % 900, 0.0001, t + interval '4 seconds'
FROM (SELECT n, md5(n::text)::uuid::text AS c, CASE WHEN n % 20 = 0 THEN 0 ELSE n % %(keys)s END AS k,
        now() - (%(total)s - n) * (interval '1 day' * %(days)s / %(total)s) AS t
    FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS n) AS row_of
"""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One question, and what answering it took."""

    name: str
    row_count: int
    first_ms: float
    median_ms: float
    plan: str


def questions(newest: datetime, call_id: str) -> dict[str, tuple[Any, list[Any]]]:
    """What operators ask, by name: statements with their values."""
    day, month = timedelta(days=1), timedelta(days=30)
    asked = {
        "one request by its id": Question(about="requests", filters=(("call", call_id),)),
        "a key, one day": Question(about="requests", since=newest - day, filters=(("key", _hash_of("7")),)),
        "the busiest key, one day": Question(about="requests", since=newest - day, filters=(("key", _hash_of("0")),)),
        "a team, one month": Question(about="requests", since=newest - month, filters=(("team", "team-3"),)),
        "refusals of the last hour": Question(
            about="requests", since=newest - timedelta(hours=1), filters=(("result", "refused"),)
        ),
    }
    found: dict[str, tuple[Any, list[Any]]] = {name: statement(question) for name, question in asked.items()}
    found["the last 100 refusals"] = (
        sql.SQL("SELECT * FROM appliance.audit_request WHERE result = 'refused' ORDER BY at DESC LIMIT 100"), []
    )  # fmt: skip
    found["requests of each team, one month"] = (
        sql.SQL(
            "SELECT team_id, count(*), sum(cost) FROM appliance.audit_request WHERE at >= %s AND at < %s GROUP BY 1"
        ),
        [newest - month, newest],
    )
    return found


def ask(connection: psycopg.Connection[Any], name: str, query: Any, values: list[Any], *, times: int = 5) -> Asked:
    """Asks it several times; every row is fetched."""
    took, count = [], 0
    for _ in range(times):
        begun = time.perf_counter()
        count = len(connection.execute(query, values).fetchall())
        took.append((time.perf_counter() - begun) * 1000)
    plan = connection.execute(sql.SQL("EXPLAIN (COSTS off) ") + query, values).fetchall()
    used = sorted({line.strip().removeprefix("->  ") for (line,) in plan if "Scan" in line})
    shown = f"{len(used)} scans, e.g. {used[0]}" if len(used) > 1 else used[0] if used else "no scan"
    return Asked(name=name, row_count=count, first_ms=took[0], median_ms=statistics.median(took[1:]), plan=shown)


def run(*, rows: int, directory: Path) -> None:
    """Fills, asks and prints."""
    with _server(directory) as place:
        url = f"host={place} user=bench dbname=bench"
        subprocess.run(
            ["psql", "--no-psqlrc", "-qAt", "--set", "ON_ERROR_STOP=1", "--set", "login=litellm", "--dbname", url,
             "--command", "CREATE ROLE litellm LOGIN", "--file", "audit/owner.sql", "--command", "SET ROLE appliance",
             "--file", "ledger/schema.sql", "--file", "audit/schema.sql", "--command", "RESET ROLE",
             "--file", "audit/rights.sql", "--command",
             f"UPDATE appliance.audit_retention SET behind = {MONTHS} WHERE relation = 'audit_request'",  # noqa: S608
             "--command", "SELECT appliance.keep_audit()"],
            cwd=ROOT, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        with psycopg.connect(url, autocommit=True) as connection:
            indexes = _take_indexes(connection)
        with psycopg.connect(f"{url.replace('user=bench', 'user=litellm')}", autocommit=True) as connection:
            seconds = _fill(connection, rows)
            print(f"filled {rows:,} rows in {seconds:.0f} s ({rows / seconds:,.0f} a second), as the gateway's login")
        with psycopg.connect(url, autocommit=True) as connection:
            print(f"made {len(indexes)} indexes over {MONTHS + 5} partitions in {_make(connection, indexes):.0f} s")
            connection.execute("VACUUM ANALYZE appliance.audit_request")
            size, parts = _one(connection, "SELECT pg_size_pretty(sum(pg_total_relation_size(inhrelid))), count(*) "
                               "FROM pg_inherits WHERE inhparent = 'appliance.audit_request'::regclass")  # fmt: skip
            print(f"{size} with indexes in {parts} partitions; load average {os.getloadavg()[0]:.1f}\n")
            (newest,) = _one(connection, "SELECT max(at) FROM appliance.audit_request")
            (call_id,) = _one(connection, f"SELECT md5('{rows // 3}')::uuid::text")
            print(f"{'question':34} {'rows':>9} {'first ms':>9} {'median ms':>10}  plan")
            for name, (query, values) in questions(newest, call_id).items():
                asked = ask(connection, name, query, values)
                times = f"{asked.first_ms:>9.1f} {asked.median_ms:>10.1f}"
                print(f"{name:34} {asked.row_count:>9,} {times}  {asked.plan}")
            begun = time.perf_counter()
            connection.execute(
                "UPDATE appliance.audit_retention SET retention_days = 300 WHERE relation = 'audit_request'"
            )
            dropped = [row[0] for row in connection.execute("SELECT appliance.keep_audit()")]
            took_ms = (time.perf_counter() - begun) * 1000
            watched, bare = _spend_update_us(connection, watched=True), _spend_update_us(connection, watched=False)
            print(f"\nadding spend to a key: {watched:.0f} us with the watch on its table, {bare:.0f} us without")
            print(f"\nafter a shorter retention, in {took_ms:.0f} ms: {', '.join(dropped)}")


def audit_command(
    rows: Annotated[int, typer.Option(min=1000, help="How many requests the audit holds.")] = 10_000_000,
    directory: Annotated[Path, typer.Option(help="Where the database may lie; about 0.6 GB a million rows.")] = Path(
        "/tmp"  # noqa: S108 - a directory of its own is made in it
    ),
) -> None:
    """The operator's questions to an audit of ten million rows, in a PostgreSQL of its own."""
    run(rows=rows, directory=directory)


def _fill(connection: psycopg.Connection[Any], rows: int) -> float:
    begun = time.monotonic()
    for first in range(1, rows + 1, BATCH_ROWS):
        last = min(first + BATCH_ROWS - 1, rows)
        values = {"first": first, "last": last, "total": rows, "days": MONTHS * 30, "keys": KEYS, "teams": TEAMS}
        numbers = {name: str(int(value)) for name, value in values.items()}
        filled = _FILL
        for name, number in numbers.items():
            filled = filled.replace(f"%({name})s", number)
        connection.execute(filled.encode())
        done = time.monotonic() - begun
        sys.stderr.write(f"{last:,} of {rows:,} rows, {done:.0f} s\n")
    return time.monotonic() - begun


def _take_indexes(connection: psycopg.Connection[Any]) -> list[str]:
    """Takes every index but the primary key away for the filling; returns how each is made again."""
    found = connection.execute(
        "SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid) FROM pg_index "
        "WHERE indrelid = 'appliance.audit_request'::regclass AND NOT indisprimary ORDER BY 1"
    ).fetchall()
    for name, _ in found:
        connection.execute(f"DROP INDEX {name}".encode())
    # What is made of the table alone (ON ONLY) would leave its partitions without.
    return [definition.replace(" ON ONLY ", " ON ") for _, definition in found]


def _make(connection: psycopg.Connection[Any], indexes: list[str]) -> float:
    begun = time.monotonic()
    connection.execute("SET maintenance_work_mem = '512MB'")
    for index in indexes:
        connection.execute(index.encode())
        sys.stderr.write(f"{index.split()[2]}, {time.monotonic() - begun:.0f} s\n")
    connection.execute("RESET maintenance_work_mem")
    return time.monotonic() - begun


def _spend_update_us(connection: psycopg.Connection[Any], *, watched: bool) -> float:
    """One of many updates of a row as wide as LiteLLM's, inside PostgreSQL; a replica's session fires no triggers."""
    fields = ", ".join(f"field_{number} text DEFAULT 'as long as a setting is'" for number in range(45))
    connection.execute(
        f'CREATE TABLE IF NOT EXISTS "LiteLLM_VerificationToken" '
        f"(token text PRIMARY KEY, spend float8 DEFAULT 0, metadata jsonb DEFAULT '{{\"a\": 1}}', {fields})".encode()
    )
    connection.execute("INSERT INTO \"LiteLLM_VerificationToken\" (token) VALUES ('k') ON CONFLICT DO NOTHING")
    connection.execute("SET session_replication_role = " + ("origin" if watched else "replica"))
    times, begun = 5000, time.perf_counter()
    connection.execute(
        "DO $$ BEGIN FOR i IN 1..5000 LOOP "
        "UPDATE \"LiteLLM_VerificationToken\" SET spend = spend + 1 WHERE token = 'k'; COMMIT; END LOOP; END $$"
    )
    took = time.perf_counter() - begun
    connection.execute("SET session_replication_role = origin")
    connection.execute('VACUUM "LiteLLM_VerificationToken"')
    return took / times * 1e6


def _one(connection: psycopg.Connection[Any], query: str) -> tuple[Any, ...]:
    row = connection.execute(query.encode()).fetchone()
    if row is None:
        raise BadLoad(f"no row: {query}")
    return tuple(row)


def _hash_of(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


@contextmanager
def _server(below: Path) -> Iterator[str]:
    """A server of its own behind a socket, with PostgreSQL's settings as the role leaves them."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"), key=lambda path: float(path.parts[-3]))
    if not found:
        raise BadLoad("PostgreSQL is not installed; apt-get install postgresql")
    place = Path(tempfile.mkdtemp(prefix="audit-", dir=below))
    lead: list[str] = []
    if os.geteuid() == 0:
        os.chown(place, pwd.getpwnam("postgres").pw_uid, -1)
        lead = ["runuser", "-u", "postgres", "--"]
    data, programs = place / "data", found[-1].parent
    options = f"-k {place} -c listen_addresses= -c shared_buffers=128MB -c max_wal_size=4GB"
    try:
        commands: tuple[list[str | Path], ...] = (
            [programs / "initdb", f"--pgdata={data}", "--username=bench", "--auth=trust", "--encoding=UTF8"],
            [programs / "pg_ctl", f"--pgdata={data}", f"--log={place}/log", "--wait", f"--options={options}", "start"],
        )
        for command in commands:
            subprocess.run([*lead, *command], check=True, cwd="/", stdout=subprocess.DEVNULL)
        subprocess.run(["createdb", "--host", place, "--username", "bench", "bench"], check=True)
        yield str(place)
    finally:
        if (data / "postmaster.pid").exists():
            subprocess.run(
                [*lead, programs / "pg_ctl", f"--pgdata={data}", "--wait", "--mode=immediate", "stop"],
                check=False, cwd="/", stdout=subprocess.DEVNULL,
            )  # fmt: skip
        shutil.rmtree(place)

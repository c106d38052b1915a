"""The pool under load, at its limit, and through a restart of the database."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.prisma_engine.postgres import PostgresServer


@asynccontextmanager
async def another_client(prisma_client: Any, url: str, **options: Any) -> AsyncIterator[Any]:
    client = prisma_client.Prisma(datasource={"url": url}, **options)
    await client.connect()
    try:
        yield client
    finally:
        await client.disconnect()


def connection_count(postgres: PostgresServer, name: str) -> int:
    names = postgres.sql("postgres", "SELECT application_name FROM pg_stat_activity")
    return names.splitlines().count(name)


def asleep(postgres: PostgresServer) -> int:
    """Queries that have reached the database and sleep there."""
    return postgres.sql("postgres", "SELECT wait_event FROM pg_stat_activity").split().count("PgSleep")


async def until(check: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not await asyncio.to_thread(check):
            await asyncio.sleep(0.05)


@pytest.mark.usefixtures("db")
async def test_two_hundred_queries_share_ten_connections(prisma_client: Any, postgres: PostgresServer) -> None:
    url = postgres.url("test", parameters="connection_limit=10&pool_timeout=200&application_name=crowd")
    unlimited = {"timeout": 250, "limits": httpx.Limits(max_connections=None)}
    async with another_client(prisma_client, url, http=unlimited) as client:
        await client.user.create_many(data=[{"email": f"{i}@b", "age": i} for i in range(200)])

        found = await asyncio.gather(*(client.user.find_first(where={"age": i}) for i in range(200)))
        slept = await asyncio.gather(*(client.query_raw("SELECT pg_sleep(0.01), $1::int AS i", i) for i in range(200)))

        assert [user.email for user in found] == [f"{i}@b" for i in range(200)]
        assert [rows[0]["i"] for rows in slept] == list(range(200))
        assert connection_count(postgres, "crowd") == 10


async def test_a_query_that_finds_no_free_connection_says_so(prisma_client: Any, postgres: PostgresServer) -> None:
    url = postgres.url("test", parameters="connection_limit=2&pool_timeout=1")
    async with another_client(prisma_client, url) as client:
        holders = [asyncio.create_task(client.query_raw("SELECT pg_sleep(6)")) for _ in range(2)]
        await until(lambda: asleep(postgres) == 2)
        began = time.monotonic()

        with pytest.raises(prisma_client.errors.DataError, match="Timed out fetching a new connection") as caught:
            await client.query_raw("SELECT 1")

        assert time.monotonic() - began > 0.9
        assert not any(holder.done() for holder in holders), "it waited for a free one"
        assert caught.value.code == "P2024"
        assert caught.value.meta == {"connection_limit": 2, "timeout": 1}
        await asyncio.gather(*holders)
        assert (await client.query_raw("SELECT 1 AS one")) == [{"one": 1}]


async def test_a_query_over_its_time_limit_frees_its_connection(prisma_client: Any, postgres: PostgresServer) -> None:
    url = postgres.url("test", parameters="connection_limit=1&socket_timeout=1")
    async with another_client(prisma_client, url) as client:
        with pytest.raises(prisma_client.errors.DataError, match="timed out") as caught:
            await client.query_raw("SELECT pg_sleep(30)")

        assert caught.value.code == "P1008"
        assert (await client.query_raw("SELECT 1 AS one")) == [{"one": 1}]


async def test_a_server_without_free_slots_is_no_outage(prisma_client: Any, postgres: PostgresServer) -> None:
    postgres.sql("postgres", "CREATE ROLE narrow LOGIN PASSWORD 'narrow' CONNECTION LIMIT 1")
    url = f"postgresql://narrow:narrow@127.0.0.1:{postgres.port}/test?connection_limit=5"
    async with another_client(prisma_client, url) as client:
        queries = [client.query_raw("SELECT pg_sleep(3)") for _ in range(5)]
        results = await asyncio.gather(*queries, return_exceptions=True)

    errors = [result for result in results if isinstance(result, Exception)]
    assert errors
    assert {error.code for error in errors} == {"P2037"}
    assert all("too many connections for role" in str(error) for error in errors)


async def test_a_lost_connection_costs_one_query_and_no_more(prisma_client: Any, postgres: PostgresServer) -> None:
    url = postgres.url("test", parameters="connection_limit=3&application_name=victim")
    kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'victim'"
    async with another_client(prisma_client, url) as client:
        running = asyncio.create_task(client.query_raw("SELECT pg_sleep(60)"))
        await until(lambda: asleep(postgres) == 1)
        postgres.sql("postgres", kill)
        with pytest.raises(prisma_client.errors.DataError, match="Server has closed the connection") as caught:
            await running
        assert caught.value.code == "P1017"

        await client.query_raw("SELECT 1")
        postgres.sql("postgres", kill)  # an idle one
        await until(lambda: connection_count(postgres, "victim") == 0)
        assert (await client.query_raw("SELECT 1 AS one")) == [{"one": 1}]

        for _ in range(6):  # inside a transaction, between two statements
            with pytest.raises(prisma_client.errors.PrismaError):
                async with client.tx() as transaction:
                    await transaction.query_raw("SELECT 1")
                    postgres.sql("postgres", kill)
                    await asyncio.sleep(0.1)
                    await transaction.query_raw("SELECT 1")
        async with client.tx() as transaction:
            assert (await transaction.query_raw("SELECT 1 AS one")) == [{"one": 1}]


@pytest.mark.usefixtures("db")
@pytest.mark.parametrize("mode", ["fast", "immediate"])
async def test_a_restarted_database_is_found_again_under_load(
    prisma_client: Any, postgres: PostgresServer, mode: str
) -> None:
    url = postgres.url("test", parameters="connection_limit=5&pool_timeout=5&application_name=patient")
    patience = timedelta(seconds=20)
    outcomes: list[str] = []
    written = 0
    stop = asyncio.Event()

    async def worker(client: Any, number: int) -> None:
        nonlocal written
        i = 0
        while not stop.is_set():
            i += 1
            try:
                if i % 3:
                    await client.user.create(data={"email": f"{number}-{i}@b"})
                    written += 1
                else:
                    async with client.tx(max_wait=patience, timeout=patience) as transaction:
                        await transaction.user.create(data={"email": f"{number}-{i}@b"})
                        await transaction.query_raw("SELECT 1")
                    written += 1
                outcomes.append("ok")
            except prisma_client.errors.PrismaError as error:
                outcomes.append(f"{type(error).__name__} {getattr(error, 'code', '')}")
                await asyncio.sleep(0.05)

    async with another_client(prisma_client, url) as client:
        workers = [asyncio.create_task(worker(client, i)) for i in range(12)]
        await asyncio.sleep(1)
        await asyncio.to_thread(postgres.stop, mode)
        await asyncio.sleep(1)
        down = len(outcomes)
        await until(lambda: len(outcomes) > down)
        assert "ok" not in outcomes[down:]
        await asyncio.to_thread(postgres.start)
        up = len(outcomes)
        async with asyncio.timeout(60):
            while outcomes[up:].count("ok") < 60:
                await asyncio.sleep(0.1)
        stop.set()
        await asyncio.gather(*workers)

        assert set(outcomes[-20:]) == {"ok"}
        failures = {outcome for outcome in outcomes if outcome.startswith("DataError")}
        assert failures <= {"DataError P1001", "DataError P1017"}
        # a reply that was lost with its connection may hide a write that happened, never the other way round
        assert written <= await client.user.count() <= written + 12
        assert connection_count(postgres, "patient") <= 5


async def test_an_encrypted_connection_is_checked_against_the_given_authority(
    prisma_client: Any, postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    certificate, key = postgres.data / "server.crt", postgres.data / "server.key"
    postgres.run(
        "/usr/bin/openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1",
        "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate),
    )  # fmt: skip
    postgres.sql("postgres", "ALTER SYSTEM SET ssl = on")
    postgres.sql("postgres", "SELECT pg_reload_conf()")
    await until(lambda: postgres.sql("postgres", "SHOW ssl") == "on")
    authority = tmp_path_factory.mktemp("tls") / "authority.pem"
    authority.write_bytes(certificate.read_bytes())
    used = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"

    checked = (f"sslmode=require&sslcert={authority}", f"sslmode=verify-full&sslrootcert={authority}")
    for parameters in ("sslmode=require", *checked):
        async with another_client(prisma_client, postgres.url("test", parameters=parameters)) as client:
            assert await client.query_raw(used) == [{"ssl": True}]
    suspicious = prisma_client.Prisma(
        datasource={"url": postgres.url("test", parameters="sslmode=require&sslaccept=strict")}
    )
    with pytest.raises(prisma_client.engine.errors.EngineConnectionError):
        await suspicious.connect(timeout=timedelta(seconds=2))
    async with another_client(prisma_client, postgres.url("test")) as client:
        assert await client.query_raw(used) == [{"ssl": False}]


async def test_a_schema_other_than_public_is_used_throughout(
    prisma_client: Any, postgres: PostgresServer, engine_directory: Path, environment: dict[str, str]
) -> None:
    url = postgres.url("test", parameters="schema=Other%20place")
    postgres.sql("test", 'CREATE SCHEMA "Other place"')
    schema = str(prisma_client.client.SCHEMA_PATH)
    push = ["node", str(engine_directory / "push.mjs"), schema]
    done = await asyncio.to_thread(
        subprocess.run, push, env=environment | {"DATABASE_URL": url}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr

    async with another_client(prisma_client, url) as client:
        await client.user.create(data={"email": "elsewhere@b"})
        assert await client.query_raw("SELECT email FROM users") == [{"email": "elsewhere@b"}]

    assert postgres.sql("test", 'SELECT count(*) FROM "Other place".users') == "1"
    assert postgres.sql("test", "SELECT count(*) FROM public.users WHERE email = 'elsewhere@b'") == "0"


async def test_transactions_that_gave_up_waiting_take_nothing(prisma_client: Any, postgres: PostgresServer) -> None:
    url = postgres.url("test", parameters="connection_limit=2&pool_timeout=5")
    async with another_client(prisma_client, url) as client:
        holders = [client.tx(timeout=timedelta(seconds=10)) for _ in range(2)]
        await asyncio.gather(*(holder.start() for holder in holders))
        waiting = [client.tx(max_wait=timedelta(milliseconds=100)).start() for _ in range(8)]

        results = await asyncio.gather(*waiting, return_exceptions=True)
        await asyncio.gather(*(holder.rollback() for holder in holders))

        assert all(isinstance(result, prisma_client.errors.PrismaError) for result in results)
        for _ in range(3):
            assert len(await asyncio.gather(*(client.query_raw("SELECT 1") for _ in range(4)))) == 4

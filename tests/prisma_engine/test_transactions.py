"""Interactive transactions and batches: all or nothing, in time or not at all."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from typing import Any

import pytest


async def test_a_committed_transaction_is_visible_and_was_not_before(db: Any) -> None:
    async with db.tx() as transaction:
        await transaction.user.create(data={"email": "a@b"})
        assert await transaction.user.count() == 1
        assert await db.user.count() == 0

    assert await db.user.count() == 1


async def test_an_exception_rolls_everything_back(db: Any) -> None:
    with pytest.raises(RuntimeError, match="changed my mind"):
        async with db.tx() as transaction:
            await transaction.user.create(data={"email": "a@b"})
            await transaction.execute_raw("UPDATE users SET age = 5")
            raise RuntimeError("changed my mind")

    assert await db.user.count() == 0


async def test_a_failed_statement_spoils_its_transaction_but_not_the_connection(db: Any, prisma_client: Any) -> None:
    await db.user.create(data={"email": "a@b"})

    for _ in range(12):  # more often than there are connections
        with pytest.raises(prisma_client.errors.UniqueViolationError):
            async with db.tx() as transaction:
                await transaction.user.create(data={"email": "c@d"})
                await transaction.user.create(data={"email": "a@b"})

    assert await db.user.count() == 1


async def test_a_transaction_that_takes_too_long_is_rolled_back_and_says_so(db: Any, prisma_client: Any) -> None:
    with pytest.raises(prisma_client.errors.TransactionExpiredError):
        async with db.tx(timeout=timedelta(milliseconds=200)) as transaction:
            await transaction.user.create(data={"email": "a@b"})
            await asyncio.sleep(0.5)
            await transaction.user.create(data={"email": "c@d"})

    assert await db.user.count() == 0


async def test_committing_an_expired_transaction_fails(db: Any, prisma_client: Any) -> None:
    manager = db.tx(timeout=timedelta(milliseconds=200))
    transaction = await manager.start()
    await transaction.user.create(data={"email": "a@b"})
    await asyncio.sleep(0.5)

    with pytest.raises(prisma_client.errors.PrismaError):
        await manager.commit()

    assert await db.user.count() == 0


async def test_expired_transactions_give_their_connections_back(db: Any) -> None:
    for _ in range(3):
        await asyncio.gather(*(db.tx(timeout=timedelta(milliseconds=100)).start() for _ in range(10)))
        await asyncio.sleep(0.4)

    assert await asyncio.wait_for(db.user.count(), timeout=2) == 0


async def test_a_transaction_waits_for_a_connection_no_longer_than_asked(db: Any, prisma_client: Any) -> None:
    managers = [db.tx(timeout=timedelta(seconds=20)) for _ in range(10)]
    await asyncio.gather(*(manager.start() for manager in managers))
    began = time.monotonic()

    with pytest.raises(prisma_client.errors.PrismaError, match="Unable to start a transaction in the given time"):
        await db.tx(max_wait=timedelta(milliseconds=300)).start()

    assert 0.25 < time.monotonic() - began < 1.5
    await asyncio.gather(*(manager.rollback() for manager in managers))
    async with db.tx(max_wait=timedelta(milliseconds=300)) as transaction:
        assert await transaction.user.count() == 0


async def test_a_failed_commit_reports_the_reason_and_loses_no_connection(db: Any, prisma_client: Any) -> None:
    await db.execute_raw(
        "CREATE TABLE IF NOT EXISTS late (id int, CONSTRAINT once UNIQUE (id) DEFERRABLE INITIALLY DEFERRED)"
    )

    for _ in range(12):
        with pytest.raises(prisma_client.errors.PrismaError):
            async with db.tx() as transaction:
                await transaction.execute_raw("INSERT INTO late VALUES (1), (1)")

    assert await db.query_raw("SELECT * FROM late") == []
    await db.execute_raw("DROP TABLE late")


async def test_a_batch_is_one_transaction(db: Any, prisma_client: Any) -> None:
    async with db.batch_() as batch:
        batch.user.create({"email": "a@b"})
        batch.user.update(where={"email": "a@b"}, data={"age": {"increment": 2}})
        batch.execute_raw("UPDATE users SET age = age * $1", 10)
    assert (await db.user.find_first()).age == 20

    with pytest.raises(prisma_client.errors.UniqueViolationError):
        async with db.batch_() as batch:
            batch.user.create({"email": "c@d"})
            batch.user.create({"email": "a@b"})
    assert await db.user.count() == 1


async def test_a_batch_inside_a_transaction_shares_its_fate(db: Any) -> None:
    with pytest.raises(RuntimeError):
        async with db.tx() as transaction:
            async with transaction.batch_() as batch:
                batch.user.create({"email": "a@b"})
                batch.user.create({"email": "c@d"})
            assert await transaction.user.count() == 2
            raise RuntimeError
    assert await db.user.count() == 0

    async with db.tx() as transaction, transaction.batch_() as batch:
        batch.user.create({"email": "a@b"})
    assert await db.user.count() == 1


async def test_a_batch_reports_the_sqlstate_of_the_statement_that_failed(db: Any, prisma_client: Any) -> None:
    with pytest.raises(prisma_client.errors.RawQueryError) as raw:
        async with db.batch_() as batch:
            batch.user.create({"email": "a@b"})
            batch.execute_raw("SELECT 1 / 0")
    with pytest.raises(prisma_client.errors.DataError, match=r'PostgresError \{ code: "22021"'):
        async with db.batch_() as batch:
            batch.user.create({"email": "a@b", "name": "nul \0 inside"})

    assert raw.value.meta["code"] == "22012"
    assert await db.user.count() == 0


async def test_transactions_side_by_side_do_not_see_each_other(db: Any) -> None:
    async def transfer(i: int) -> None:
        async with db.tx(max_wait=timedelta(seconds=20), timeout=timedelta(seconds=20)) as transaction:
            await transaction.user.create(data={"email": f"{i}@b", "age": i})
            assert await transaction.user.count(where={"age": i}) == 1
            [own] = await transaction.query_raw(
                "SELECT count(*) AS n FROM users WHERE xmin::text::int8 = txid_current()"
            )
            assert own == {"n": 1}

    await asyncio.gather(*(transfer(i) for i in range(50)))

    assert await db.user.count() == 50


async def test_a_lock_timeout_carries_its_sqlstate(db: Any, prisma_client: Any) -> None:
    await db.user.create(data={"email": "a@b"})

    async with db.tx() as holder:
        await holder.user.update(where={"email": "a@b"}, data={"age": 1})
        with pytest.raises(prisma_client.errors.PrismaError, match=r"55P03|lock timeout"):
            async with db.tx() as waiter:
                await waiter.execute_raw("SET LOCAL lock_timeout = '100ms'")
                await waiter.user.update(where={"email": "a@b"}, data={"age": 2})

    assert (await db.user.find_first()).age == 1

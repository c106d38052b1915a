"""Every failure reaches Python as the exception class that prisma-client-py has for it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest


async def test_a_second_record_with_a_unique_value_is_a_unique_violation(db: Any, prisma_client: Any) -> None:
    await db.user.create(data={"email": "a@b"})

    with pytest.raises(prisma_client.errors.UniqueViolationError) as caught:
        await db.user.create(data={"email": "a@b"})

    assert caught.value.code == "P2002"
    assert caught.value.meta["target"] == ["email"]


async def test_a_dangling_reference_is_a_foreign_key_violation(db: Any, prisma_client: Any) -> None:
    with pytest.raises(prisma_client.errors.ForeignKeyViolationError) as caught:
        await db.post.create(data={"title": "t", "author_id": "nobody"})

    assert caught.value.code == "P2003"


async def test_a_missing_record_that_must_exist_is_not_found(db: Any, prisma_client: Any) -> None:
    with pytest.raises(prisma_client.errors.RecordNotFoundError):
        await db.user.find_unique_or_raise(where={"id": "nobody"})
    with pytest.raises(prisma_client.errors.RecordNotFoundError):
        await db.user.find_first_or_raise(where={"age": 99})
    with pytest.raises(prisma_client.errors.RecordNotFoundError):
        await db.post.create(data={"title": "t", "author": {"connect": {"id": "nobody"}}})


async def test_a_missing_required_value_is_named(db: Any, prisma_client: Any) -> None:
    with pytest.raises(prisma_client.errors.MissingRequiredValueError, match="email"):
        await db.user.create(data={"name": "Ada"})


async def test_an_unknown_field_is_not_found(db: Any, prisma_client: Any) -> None:
    with pytest.raises(prisma_client.errors.FieldNotFoundError):
        await db.user.find_first(where={"shoe_size": 43})
    with pytest.raises(prisma_client.errors.FieldNotFoundError):
        await db.user.create(data={"email": "a@b", "shoe_size": 43})


async def test_a_value_of_the_wrong_type_is_refused(db: Any, prisma_client: Any) -> None:
    with pytest.raises(prisma_client.errors.PrismaError):
        await db.user.create(data={"email": "a@b", "age": "old"})
    with pytest.raises(prisma_client.errors.PrismaError):
        await db.user.create(data={"email": "a@b", "age": 2**40})
    with pytest.raises(prisma_client.errors.PrismaError):
        await db.user.create(data={"email": "a@b", "spend": float("nan")})
    assert await db.user.count() == 0


async def test_a_character_that_postgresql_has_no_place_for_is_a_data_error(db: Any, prisma_client: Any) -> None:
    with pytest.raises(prisma_client.errors.DataError, match="22021") as caught:
        await db.user.create(data={"email": "a@b", "name": "nul \0 inside"})

    assert type(caught.value) is prisma_client.errors.DataError


async def test_a_missing_table_is_told_apart(db: Any, prisma_client: Any, postgres: Any) -> None:
    postgres.sql("test", 'ALTER TABLE "DailySpend" RENAME TO elsewhere')
    try:
        with pytest.raises(prisma_client.errors.TableNotFoundError) as caught:
            await db.dailyspend.count()
        assert "DailySpend" in caught.value.table
    finally:
        postgres.sql("test", 'ALTER TABLE elsewhere RENAME TO "DailySpend"')


async def test_a_deadlock_is_told_apart(db: Any, prisma_client: Any) -> None:
    for email in ("a@b", "c@d"):
        await db.user.create(data={"email": email})

    async def lock_both(first: str, second: str, gate: asyncio.Barrier) -> None:
        async with db.tx() as transaction:
            await transaction.user.update(where={"email": first}, data={"age": 1})
            await gate.wait()
            await transaction.user.update(where={"email": second}, data={"age": 1})

    gate = asyncio.Barrier(2)
    results = await asyncio.gather(lock_both("a@b", "c@d", gate), lock_both("c@d", "a@b", gate), return_exceptions=True)

    [error] = [result for result in results if result is not None]
    assert isinstance(error, prisma_client.errors.DataError)
    assert "40P01" in str(error)
    assert "deadlock detected" in str(error)

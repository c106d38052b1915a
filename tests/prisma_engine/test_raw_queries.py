"""Raw SQL through the real client: parameters and results of every kind."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest


@pytest.mark.parametrize(
    ("cast", "value", "expected"),
    [
        ("int4", 5, 5),
        ("int2", -5, -5),
        ("int8", 9223372036854775807, 9223372036854775807),
        ("int8", -9007199254740993, -9007199254740993),
        ("float8", 0.125, 0.125),
        ("float8", 3, 3),
        ("numeric", Decimal("1.10"), 1.1),  # the client reads raw decimals as floats
        ("numeric", 9007199254740993, 9007199254740992.0),
        ("bool", True, True),
        ("bool", False, False),
        ("text", "ünï 😀 'quoted' \"twice\" \\ $1 ;--", "ünï 😀 'quoted' \"twice\" \\ $1 ;--"),
        ("text", "", ""),
        ("text", None, None),
        ("text", "null", "null"),
        ("uuid", "6f1d3c0e-0000-4000-8000-0123456789ab", "6f1d3c0e-0000-4000-8000-0123456789ab"),
        ("timestamp", datetime(2026, 3, 1, 4, 5, 6, 789000, tzinfo=UTC), "2026-03-01T04:05:06.789+00:00"),
        ("timestamptz", datetime(2026, 3, 1, tzinfo=timezone(timedelta(hours=-5))), "2026-03-01T05:00:00+00:00"),
        ("timestamptz", "2026-03-01 00:00:00.123456+02", "2026-02-28T22:00:00.123456+00:00"),
        ("date", "2026-02-28", "2026-02-28"),
        ("time", "23:59:59.5", "23:59:59.500"),
        ("jsonb", '{"a": [1, null, {"b": "ü"}]}', {"a": [1, None, {"b": "ü"}]}),
        ("jsonb", '"text"', "text"),
        ("jsonb", "null", None),
        ("json", "[1, 2]", [1, 2]),
        ("text[]", ["a", "b,c", None, "NULL", '"', ""], ["a", "b,c", None, "NULL", '"', ""]),
        ("text[]", [], []),
        ("int4[]", [1, 2, 3], [1, 2, 3]),
        ("int8[]", [9007199254740993], [9007199254740993]),
        ("float8[]", [0.5, 1], [0.5, 1]),
        ("bool[]", [True, False], [True, False]),
        ("bytea", "\\x00ff10", "AP8Q"),
        ("inet", "10.0.0.0/8", "10.0.0.0/8"),
        ("name", "pg_class", "pg_class"),
        ('"char"', "r", "r"),
        ("interval", "1 day 02:00", "1 day 02:00:00"),
        ("regclass", "pg_class", "pg_class"),
        ("money", "-1234.50", -1234.5),
    ],
)
async def test_a_parameter_comes_back_as_the_type_it_was_cast_to(db: Any, cast: str, value: Any, expected: Any) -> None:
    [row] = await db.query_raw(f"SELECT $1::{cast} AS value", value)

    assert row["value"] == expected
    assert type(row["value"]) is type(expected)


async def test_one_row_of_every_stored_type(db: Any, prisma_client: Any) -> None:
    moment = datetime(2026, 3, 1, 4, 5, 6, 789000, tzinfo=UTC)
    await db.sample.create(
        data={
            "id": 1, "text": "t", "number": 2, "big": 2**62, "real": 0.5, "exact": Decimal("1.5"), "flag": True,
            "moment": moment, "zoned": moment, "bytes": prisma_client.Base64.encode(b"\0\xff"), "role": "WRITER",
            "document": prisma_client.Json({"a": None}), "documents": [prisma_client.Json([1])],
            "texts": ["x"], "moments": [moment],
        }
    )  # fmt: skip

    [row] = await db.query_raw('SELECT * FROM "Sample" WHERE id = $1', 1)

    assert row == {
        "id": 1, "text": "t", "number": 2, "big": 2**62, "real": 0.5, "exact": 1.5, "flag": True,
        "moment": "2026-03-01T04:05:06.789+00:00", "zoned": "2026-03-01T04:05:06.789+00:00", "day": None,
        "bytes": "AP8=", "role": "WRITER", "uuid": None, "document": {"a": None}, "documents": [[1]],
        "texts": ["x"], "numbers": None, "bigs": None, "moments": ["2026-03-01T04:05:06.789+00:00"],
    }  # fmt: skip
    [user] = await db.query_raw("SELECT ARRAY['READER']::\"Role\"[] AS roles")
    assert user == {"roles": ["READER"]}


async def test_rows_are_parsed_into_a_model(db: Any, prisma_client: Any) -> None:
    await db.user.create(data={"email": "a@b", "spend": 1.25})

    users = await db.query_raw(
        "SELECT id, email, role, roles, age, spend, created AS created_at FROM users", model=prisma_client.models.User
    )

    assert (users[0].email, users[0].spend) == ("a@b", 1.25)


async def test_raw_statements_count_the_rows_they_touch(db: Any) -> None:
    for i in range(3):
        await db.user.create(data={"email": f"{i}@b", "age": i})

    assert await db.execute_raw("UPDATE users SET spend = spend + $1 WHERE age > $2", 0.5, 0) == 2
    assert await db.execute_raw("DELETE FROM users WHERE age > $1", 7) == 0
    assert await db.execute_raw("CREATE OR REPLACE VIEW everyone AS SELECT email FROM users") == 0
    assert await db.query_raw("SELECT count(*) AS n, sum(spend) AS total FROM everyone JOIN users USING (email)") == [
        {"n": 3, "total": 1.0}
    ]
    assert await db.query_raw("SELECT email FROM everyone WHERE email = 'x'") == []
    assert (await db.query_first("SELECT email FROM everyone ORDER BY 1 DESC"))["email"] == "2@b"
    assert await db.execute_raw("DROP VIEW everyone") == 0


async def test_values_cannot_smuggle_a_second_statement(db: Any, prisma_client: Any) -> None:
    with pytest.raises(prisma_client.errors.RawQueryError, match="multiple commands"):
        await db.execute_raw("SELECT 1; DROP TABLE users")

    assert await db.user.count() == 0


async def test_an_sql_error_is_a_raw_query_error_with_code_and_message(db: Any, prisma_client: Any) -> None:
    with pytest.raises(prisma_client.errors.RawQueryError, match='relation "nowhere" does not exist') as caught:
        await db.query_raw("SELECT * FROM nowhere")
    assert (caught.value.code, caught.value.meta["code"]) == ("P2010", "42P01")

    with pytest.raises(prisma_client.errors.RawQueryError, match="division by zero") as caught:
        await db.query_raw("SELECT 1 / $1::int", 0)
    assert caught.value.meta["code"] == "22012"


async def test_a_session_in_another_zone_still_reports_utc(db: Any) -> None:
    async with db.tx() as transaction:
        await transaction.execute_raw("SET LOCAL TIME ZONE 'America/New_York'")
        [row] = await transaction.query_raw("SELECT '2026-03-01 00:00:00.000001+00'::timestamptz AS moment")

    assert row["moment"] == "2026-03-01T00:00:00.000001+00:00"

"""Model queries through the real client: every kind of value, relation and aggregate."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest


async def test_a_created_record_is_found_again_by_its_unique_field(db: Any) -> None:
    created = await db.user.create(data={"email": "ada@example.org", "name": "Ada"})

    found = await db.user.find_unique(where={"email": "ada@example.org"})

    assert found == created
    assert (found.name, found.age, found.role) == ("Ada", 0, "READER")


async def test_what_is_not_there_is_none(db: Any) -> None:
    assert await db.user.find_unique(where={"email": "nobody@example.org"}) is None
    assert await db.user.find_first(where={"age": {"gt": 100}}) is None
    assert await db.user.update(where={"email": "nobody@example.org"}, data={"age": 1}) is None
    assert await db.user.delete(where={"email": "nobody@example.org"}) is None


async def test_integers_beyond_53_bits_keep_every_digit(db: Any) -> None:
    largest, smallest = 9223372036854775807, -9223372036854775808

    await db.sample.create(data={"id": 1, "big": largest, "bigs": [largest, smallest, 9007199254740993]})

    assert (await db.sample.find_first(where={"big": largest})).bigs == [largest, smallest, 9007199254740993]
    assert await db.sample.find_first(where={"big": largest - 1}) is None
    assert (await db.sample.find_first(where={"big": {"in": [largest, 5]}})).big == largest
    await db.sample.update(where={"id": 1}, data={"big": {"decrement": 1}})
    assert (await db.sample.find_first(where={"big": {"lt": largest}})).big == largest - 1


async def test_decimals_keep_every_digit(db: Any) -> None:
    exact = Decimal("12345678901234567890.123456789012345678")

    await db.sample.create(data={"id": 1, "exact": exact})

    assert (await db.sample.find_unique(where={"id": 1})).exact == exact
    assert await db.sample.count(where={"exact": {"gt": Decimal("12345678901234567890.1234567890")}}) == 1
    assert await db.sample.count(where={"exact": exact}) == 1


@pytest.mark.parametrize("number", [0.1, 1e-7, 5e-324, 1.797693134862315e308, -2.5, 3.0, 2.220446049250313e-16, 1e16])
async def test_floats_come_back_with_sixteen_digits(db: Any, number: float) -> None:
    await db.sample.create(data={"id": 1, "real": number})

    assert (await db.sample.find_unique(where={"id": 1})).real == number


async def test_an_integer_beyond_53_bits_is_a_value_for_a_float_field(db: Any) -> None:
    await db.sample.create(data={"id": 1, "real": 2**60})

    assert (await db.sample.find_unique(where={"id": 1})).real == 1152921504606846976.0


async def test_moments_are_the_same_instant_whatever_zone_client_and_server_use(db: Any, postgres: Any) -> None:
    india = timezone(timedelta(hours=5, minutes=30))
    moment = datetime(2026, 3, 1, 4, 30, 0, 123000, tzinfo=india)

    await db.sample.create(data={"id": 1, "moment": moment, "zoned": moment, "moments": [moment]})

    found = await db.sample.find_unique(where={"id": 1})
    assert found.moment == found.zoned == found.moments[0] == datetime(2026, 2, 28, 23, 0, 0, 123000, tzinfo=UTC)
    assert postgres.sql("test", 'SELECT moment FROM "Sample"') == "2026-02-28 23:00:00.123"
    assert postgres.sql("test", "SELECT zoned AT TIME ZONE 'UTC' FROM \"Sample\"") == "2026-02-28 23:00:00.123"
    assert await db.sample.count(where={"zoned": {"lte": moment}}) == 1
    assert await db.sample.count(where={"zoned": {"lt": moment}}) == 0


async def test_bytes_of_every_value_survive(db: Any, prisma_client: Any) -> None:
    every_byte = bytes(range(256))

    await db.sample.create(data={"id": 1, "bytes": prisma_client.Base64.encode(every_byte)})

    assert (await db.sample.find_unique(where={"id": 1})).bytes.decode() == every_byte
    assert await db.sample.count(where={"bytes": prisma_client.Base64.encode(every_byte)}) == 1


@pytest.mark.parametrize(
    "document",
    [
        {"nested": {"list": [1, 2.5, None, True, {"deep": "ü"}], "empty": {}}},
        {"$type": "Json", "value": "not a tag"},
        [],
        "text",
        'a "quoted" \\ line\nbreak',
        0,
        12345678901234567890,
        False,
        {"prisma__type": "int", "prisma__value": 1},
    ],
)
async def test_a_json_document_comes_back_as_it_was(db: Any, prisma_client: Any, document: Any) -> None:
    json = prisma_client.Json(document)

    await db.sample.create(data={"id": 1, "document": json, "documents": [json]})

    found = await db.sample.find_unique(where={"id": 1})
    assert found.document == document
    assert found.documents == [document]
    assert await db.sample.count(where={"document": {"equals": json}}) == 1
    assert await db.sample.count(where={"document": {"not": json}}) == 0


async def test_json_null_and_no_json_at_all_are_two_things(db: Any, prisma_client: Any, postgres: Any) -> None:
    await db.sample.create(data={"id": 1, "document": prisma_client.Json(None)})
    await db.sample.create(data={"id": 2})

    assert postgres.sql("test", 'SELECT id, document IS NULL FROM "Sample" ORDER BY id') == "1|f\n2|t"
    assert await db.sample.count(where={"document": {"equals": prisma_client.Json(None)}}) == 1
    assert [row.document for row in await db.sample.find_many(order={"id": "asc"})] == [None, None]


async def test_fields_named_like_operators_are_fields(db: Any, prisma_client: Any) -> None:
    profile = {"data": prisma_client.Json({"set": 1}), "set": "s", "create": "c"}
    user = await db.user.create(data={"email": "a@b", "profile": {"create": profile}}, include={"profile": True})
    assert (user.profile.data, user.profile.set, user.profile.create) == ({"set": 1}, "s", "c")

    changed = {"update": {"data": prisma_client.Json({"x": None}), "create": "d"}}
    user = await db.user.update(where={"email": "a@b"}, data={"profile": changed}, include={"profile": True})
    assert (user.profile.data, user.profile.set, user.profile.create) == ({"x": None}, "s", "d")

    filters = {"data": {"equals": prisma_client.Json({"x": None})}, "set": {"in": ["s"]}}
    assert await db.profile.count(where=filters) == 1


async def test_lists_enums_and_nulls(db: Any, postgres: Any) -> None:
    awkward = ["", "NULL", "null", 'a"b', "c,d", "{e}", "back\\slash", "ünï", "😀"]

    await db.sample.create(data={"id": 1, "texts": awkward, "numbers": [1, -2], "role": "WRITER", "uuid": None})
    await db.user.create(data={"email": "a@b", "roles": ["WRITER", "READER"]})

    sample = await db.sample.find_first(where={"texts": {"has": "NULL"}, "role": "WRITER", "uuid": None})
    assert (sample.texts, sample.numbers, sample.bigs, sample.role) == (awkward, [1, -2], [], "WRITER")
    assert (await db.user.find_first(where={"roles": {"has_every": ["READER"]}})).roles == ["WRITER", "READER"]
    await db.sample.update(where={"id": 1}, data={"texts": {"push": ["more"]}, "role": None, "numbers": {"set": []}})
    changed = await db.sample.find_unique(where={"id": 1})
    assert (changed.texts, changed.role, changed.numbers) == ([*awkward, "more"], None, [])
    assert postgres.sql("test", 'SELECT role IS NULL FROM "Sample"') == "t"


@pytest.mark.parametrize("text", ["", "Zażółć gęślą jaźń", "😀 \U0001f469‍\U0001f680", "\x7f\x01", "\t\r\n", '"'])
async def test_text_of_every_alphabet_is_stored_and_found(db: Any, text: str) -> None:
    await db.sample.create(data={"id": 1, "text": text})

    assert (await db.sample.find_first(where={"text": text})).text == text
    assert await db.sample.count(where={"text": {"contains": text}}) == 1


async def test_a_large_payload_passes_both_ways(db: Any, prisma_client: Any) -> None:
    large = "€" * 1_500_000

    await db.sample.create(data={"id": 1, "text": large, "document": prisma_client.Json({"prompt": large})})

    found = await db.sample.find_unique(where={"id": 1})
    assert found.text == large
    assert found.document == {"prompt": large}


async def test_many_rows_in_one_statement(db: Any) -> None:
    day = {"day": "2026-01-01", "model": "m"}
    days = [day | {"user_id": f"u{i}", "spend": i / 10, "tokens": i} for i in range(12_000)]

    assert await db.dailyspend.create_many(data=days) == 12_000
    assert await db.dailyspend.create_many(data=days[:5], skip_duplicates=True) == 0
    assert await db.dailyspend.count() == 12_000
    rows = await db.dailyspend.find_many(order={"tokens": "desc"}, take=2, skip=1)
    assert [row.user_id for row in rows] == ["u11998", "u11997"]
    assert await db.dailyspend.count(where={"user_id": {"in": [f"u{i}" for i in range(9_000)]}}) == 9_000


async def test_backslashes_are_text_not_escapes(db: Any) -> None:
    await db.sample.create(data={"id": 1, "text": "a\\u0041b\\"})

    assert (await db.sample.find_first(where={"text": "a\\u0041b\\"})).text == "a\\u0041b\\"


async def test_upsert_creates_first_and_updates_then(db: Any) -> None:
    key = {"user_id": "u", "day": "2026-01-01", "model": "m"}
    for _ in range(3):
        row = await db.dailyspend.upsert(
            where={"user_id_day_model": key},
            data={
                "create": {**key, "spend": 0.5, "tokens": 10},
                "update": {"spend": {"increment": 0.5}, "tokens": {"increment": 10}},
            },
        )
    assert (row.spend, row.tokens) == (1.5, 30)
    assert (await db.dailyspend.find_unique(where={"by_day": key})).tokens == 30


async def test_nested_writes_reach_every_record(db: Any) -> None:
    user = await db.user.create(
        data={
            "email": "a@b",
            "team": {"create": {"id": "t", "name": "T"}},
            "posts": {"create": [{"title": "one"}, {"title": "two", "views": 7}]},
        },
        include={"team": True, "posts": {"where": {"views": {"gt": 0}}}},
    )
    assert user.team.name == "T"
    assert [post.title for post in user.posts] == ["two"]

    user = await db.user.update(
        where={"email": "a@b"},
        data={
            "team": {"disconnect": True},
            "posts": {"update": [{"where": {"id": user.posts[0].id}, "data": {"views": {"increment": 1}}}]},
        },
        include={"team": True, "posts": {"order_by": {"title": "desc"}, "take": 1}},
    )
    assert user.team is None
    assert [(post.title, post.views) for post in user.posts] == [("two", 8)]

    assert (await db.user.find_first(where={"posts": {"some": {"title": {"startswith": "tw"}}}})).email == "a@b"
    assert await db.user.find_first(where={"posts": {"every": {"views": {"gt": 0}}}}) is None
    assert await db.post.count(where={"author": {"is": {"email": "a@b"}}}) == 2
    await db.user.delete(where={"email": "a@b"})
    assert await db.post.count() == 0


async def test_filters_combine(db: Any) -> None:
    for i in range(10):
        await db.user.create(data={"email": f"User{i}@example.org", "age": i, "name": None if i % 2 else "even"})

    assert await db.user.count(where={"OR": [{"age": {"lt": 2}}, {"age": {"gte": 8}}], "NOT": [{"name": None}]}) == 2
    assert await db.user.count(where={"email": {"contains": "USER3", "mode": "insensitive"}}) == 1
    assert await db.user.count(where={"age": {"not_in": [1, 2, 3]}}) == 7
    assert await db.user.count(where={"age": {"not": {"gt": 4}}}) == 5
    assert await db.user.count(where={"AND": [{"name": "even"}, {"OR": [{"age": 2}, {"age": 3}]}]}) == 1
    assert await db.user.update_many(where={"age": {"gt": 4}}, data={"spend": {"multiply": 2}, "name": "old"}) == 5
    assert await db.user.delete_many(where={"name": "old"}) == 5
    page = await db.user.find_many(cursor={"email": "User2@example.org"}, take=2, order={"email": "asc"})
    assert [user.age for user in page] == [2, 3]


async def test_counts_sums_and_groups(db: Any) -> None:
    spends = [("a", 1.5, 3), ("a", 2.0, 9007199254740993), ("b", 0.25, 1)]
    for i, (user, spend, tokens) in enumerate(spends):
        await db.dailyspend.create(
            data={"user_id": user, "day": f"d{i}", "model": "m", "spend": spend, "tokens": tokens}
        )

    groups = await db.dailyspend.group_by(
        by=["user_id"],
        sum={"spend": True, "tokens": True},
        avg={"spend": True},
        max={"day": True},
        count=True,
        order={"user_id": "asc"},
    )

    assert groups[0]["user_id"] == "a"
    assert groups[0]["_sum"]["spend"] == 3.5
    assert int(groups[0]["_sum"]["tokens"]) == 9007199254740996
    assert groups[0]["_avg"]["spend"] == 1.75
    assert groups[0]["_max"]["day"] == "d1"
    assert [group["_count"]["_all"] for group in groups] == [2, 1]
    large = await db.dailyspend.group_by(by=["user_id"], having={"spend": {"_sum": {"gt": 1}}}, sum={"spend": True})
    assert [group["user_id"] for group in large] == ["a"]
    assert await db.dailyspend.count(select={"_all": True, "user_id": True}) == {"_all": 3, "user_id": 3}

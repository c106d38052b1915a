"""The module that applies access, against a loopback gateway that answers what a real LiteLLM answered, or worse."""

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.fakes.ansible_module import run_module
from tests.fakes.replay import Asked, Reply, replaying

MASTER_KEY = "sk-the-master-key"
VALUE = "sk-a-value-that-nobody-may-see"
ACCESS = {"keys": [{"alias": "prod", "models": ["alpha"], "budget": 10.0}]}
MARK = {"appliance": {"declared": True, "tags": []}}


def hash_of(value: str) -> str:
    return hashlib.sha256(value.encode()).hexdigest()


def row(value: str = VALUE, **more: Any) -> dict[str, Any]:
    """A key as /key/list of LiteLLM 1.109.1 shows it, without the fields that do not matter here."""
    fields = {"token": hash_of(value), "key_alias": "prod", "models": ["alpha"], "max_budget": 10.0, "metadata": MARK}
    return {**fields, "spend": 2.5, "blocked": False, "expires": None, "litellm_budget_table": None, **more}


class Gateway:
    """Answers the three lists; what is posted succeeds unless `refuse` names its path."""

    def __init__(
        self,
        *keys: dict[str, Any],
        users: tuple[dict[str, Any], ...] = (),
        pages: int = 1,
        refuse: str = "",
        reply: Reply | None = None,
    ) -> None:
        self.keys, self.users, self.pages, self.refuse = keys, users, pages, refuse
        self.reply = reply or Reply(status=500, content={"error": {"message": "out of order"}})

    def __call__(self, asked: Asked) -> Reply:
        path = asked.path.split("?")[0]
        if path == self.refuse:
            return self.reply
        if asked.key != MASTER_KEY:
            return Reply(status=401, content={"error": {"message": "Invalid proxy server token"}})
        if path == "/key/list":
            page = int(asked.path.split("page=")[1].split("&")[0])
            size = -(-len(self.keys) // self.pages)
            return Reply(content={"keys": self.keys[(page - 1) * size : page * size], "total_pages": self.pages})
        if path == "/user/list":
            return Reply(content={"users": self.users, "total_pages": 1})
        return Reply(content=[] if path == "/team/list" else {})


def apply(gateway: Gateway, access: dict[str, Any], **more: Any) -> tuple[dict[str, Any], list[Asked]]:
    """The module's answer and what it changed."""
    given = {"master_key": MASTER_KEY, "access": access, "key_values": {"prod": VALUE}, **more}
    with replaying(gateway) as server:
        answer = run_module("gateway_access", url=server.url, **given)
        return answer, [asked for asked in server.asked if asked.method == "POST"]


def test_a_new_key_is_made_with_the_value_of_the_vault() -> None:
    answer, posted = apply(Gateway(), ACCESS)

    assert ["create key prod"] == answer["steps"]
    assert ["/key/generate"] == [asked.path for asked in posted]
    assert {"key": VALUE, "key_alias": "prod", "max_budget": 10.0, "models": ["alpha"]}.items() <= posted[
        0
    ].body.items()


def test_what_is_there_already_is_no_change() -> None:
    answer, posted = apply(Gateway(row()), ACCESS)

    assert (False, []) == (answer["changed"], answer["steps"])
    assert [] == posted


def test_only_what_differs_is_sent() -> None:
    answer, posted = apply(Gateway(row(max_budget=9.0, rpm_limit=7)), ACCESS)

    assert ["change key prod (max_budget, rpm_limit)"] == answer["steps"]
    assert {"key": hash_of(VALUE), "max_budget": 10.0, "rpm_limit": None} == posted[0].body


def test_check_mode_says_what_would_change_and_changes_nothing() -> None:
    answer, posted = apply(Gateway(), ACCESS, key_values={}, _ansible_check_mode=True)

    assert (True, ["create key prod"]) == (answer["changed"], answer["steps"])
    assert [] == posted


def test_no_value_of_a_key_leaves_the_module() -> None:
    echo = Reply(status=422, content={"detail": f"value {VALUE} is not allowed, {MASTER_KEY}"})

    made, _ = apply(Gateway(), ACCESS, _ansible_diff=True)
    refused, _ = apply(Gateway(refuse="/key/generate", reply=echo), ACCESS)

    assert refused["failed"]
    assert "is not allowed" in refused["msg"]
    for answer in (made, refused):
        assert VALUE not in str(answer)
        assert MASTER_KEY not in str(answer)


def test_a_diff_shows_a_rotation_by_eight_digits_of_the_hash() -> None:
    answer, _ = apply(Gateway(row("sk-the-old-value-of-it")), ACCESS)

    assert hash_of("sk-the-old-value-of-it")[:8] == answer["diff"]["before"]["keys"]["prod"]["value_sha256"]
    assert hash_of(VALUE)[:8] == answer["diff"]["after"]["keys"]["prod"]["value_sha256"]


def test_a_rotated_key_keeps_its_spend_and_the_old_value_ends_at_once() -> None:
    old = hash_of("sk-the-old-value-of-it")

    answer, posted = apply(Gateway(row("sk-the-old-value-of-it")), ACCESS)

    assert ["rotate key prod"] == answer["steps"]
    assert ["/key/update", "/key/generate", "/key/delete"] == [asked.path for asked in posted]
    assert (f"prod.retired-{old[:8]}", True) == (posted[0].body["key_alias"], posted[0].body["blocked"])
    assert 2.5 == posted[1].body["spend"]
    assert {"keys": [old]} == posted[2].body


def test_a_rotation_that_was_interrupted_goes_on_with_what_was_spent() -> None:
    mark = {"appliance": {"declared": True, "retired": "prod"}}
    old = row("sk-the-old-value-of-it", key_alias="prod.retired-1", metadata=mark, blocked=True,
              expires="2020-01-01T00:00:00Z")  # fmt: skip

    answer, posted = apply(Gateway(old), ACCESS)

    assert ["remove old value of key prod", "create key prod"] == answer["steps"]
    assert ("/key/generate", 2.5) == (posted[1].path, posted[1].body["spend"])


def test_with_a_grace_the_old_value_lives_on_but_never_longer_than_it_would_have() -> None:
    soon = (datetime.now(UTC) + timedelta(seconds=600)).isoformat()

    _, unlimited = apply(Gateway(row("sk-the-old-value-of-it")), {**ACCESS, "rotation_grace": "24h"})
    _, limited = apply(Gateway(row("sk-the-old-value-of-it", expires=soon)), {**ACCESS, "rotation_grace": "24h"})

    assert ["/key/update", "/key/generate"] == [asked.path for asked in unlimited]
    assert "86400s" == unlimited[0].body["duration"]
    assert 590 <= int(limited[0].body["duration"].removesuffix("s")) <= 600


def test_a_revoked_key_gets_no_grace() -> None:
    _, posted = apply(Gateway(row("sk-the-old-value-of-it", blocked=True)), {**ACCESS, "rotation_grace": "24h"})

    assert "/key/delete" == posted[-1].path


def test_a_retired_value_goes_when_its_grace_is_over_or_its_key_is_gone() -> None:
    mark = {"appliance": {"declared": True, "retired": "prod"}}
    over = row("sk-long-ago", key_alias="prod.retired-1", metadata=mark, expires="2020-01-01T00:00:00Z")
    still = row("sk-just-now", key_alias="prod.retired-2", metadata=mark, expires="2999-01-01T00:00:00Z")

    answer, posted = apply(Gateway(row(), over, still), ACCESS)
    all_gone, _ = apply(Gateway(row(), over, still), {"keys": []})

    assert ["remove old value of key prod"] == answer["steps"]
    assert {"keys": [hash_of("sk-long-ago")]} == posted[0].body
    assert 3 == len(all_gone["steps"])


def test_an_undeclared_key_of_ours_is_removed_and_that_of_others_is_left_alone() -> None:
    ours, theirs = row("sk-ours-and-forgotten", key_alias="old"), row("sk-theirs", key_alias="demo", metadata={})

    answer, posted = apply(Gateway(row(), ours, theirs), ACCESS)

    assert ["remove key old"] == answer["steps"]
    assert {"keys": [hash_of("sk-ours-and-forgotten")]} == posted[0].body


def test_an_alias_that_others_use_is_refused() -> None:
    answer, posted = apply(Gateway(row(metadata={})), ACCESS)

    assert "key prod exists in the gateway and was not made from access.yml" in answer["msg"]
    assert [] == posted


def test_every_page_of_a_long_list_is_read() -> None:
    keys = [row(f"sk-number-{number}", key_alias=f"k{number}") for number in range(4)]

    answer, _ = apply(Gateway(*keys, pages=2), {"keys": []})

    assert ["remove key k0", "remove key k1", "remove key k2", "remove key k3"] == answer["steps"]


def test_an_expired_key_is_neither_made_nor_renewed() -> None:
    past = {"keys": [{"alias": "prod", "models": ["alpha"], "budget": 10.0, "expires": "2020-01-01"}]}

    absent, _ = apply(Gateway(), past)
    there, _ = apply(Gateway(row(expires="2019-01-01T00:00:00Z")), past)

    assert not absent["changed"]
    assert not there["changed"]


def test_a_day_lasts_until_it_ends_and_a_minute_of_clock_drift_is_no_change() -> None:
    access = {"keys": [{"alias": "prod", "models": ["alpha"], "budget": 10.0, "expires": "2999-12-30"}]}

    same, _ = apply(Gateway(row(expires="2999-12-31T00:00:59Z")), access)
    other, _ = apply(Gateway(row(expires="2999-12-30T00:00:00Z")), access)

    assert not same["changed"]
    assert ["change key prod (expires)"] == other["steps"]


def test_a_failure_in_the_middle_says_what_was_done_before_it() -> None:
    access = {**ACCESS, "users": [{"name": "jiwoo"}]}

    answer, _ = apply(Gateway(refuse="/key/generate"), access)

    assert "cannot create key prod" in answer["msg"]
    assert "answered 500: out of order (done before: create user jiwoo)" in answer["msg"]


def test_an_address_that_litellm_does_not_let_go_of_is_no_change() -> None:
    row_of_user = {
        "user_id": "jiwoo",
        "user_email": "Jiwoo@example.com",
        "user_role": "internal_user",
        "metadata": MARK,
    }

    without, _ = apply(Gateway(users=(row_of_user,)), {"users": [{"name": "jiwoo"}]})
    same, _ = apply(Gateway(users=(row_of_user,)), {"users": [{"name": "jiwoo", "email": "JIWOO@example.com"}]})
    other, _ = apply(Gateway(users=(row_of_user,)), {"users": [{"name": "jiwoo", "email": "j@example.com"}]})

    assert (False, False) == (without["changed"], same["changed"])
    assert ["change user jiwoo (user_email)"] == other["steps"]


def test_nothing_is_decided_on_half_a_list() -> None:
    for refused in ("/user/list", "/team/list", "/key/list"):
        answer, posted = apply(Gateway(refuse=refused), ACCESS)

        assert "cannot read what is there" in answer["msg"]
        assert [] == posted


def test_a_list_that_is_no_list_changes_nothing() -> None:
    for broken in ("/user/list", "/team/list", "/key/list"):
        answer, posted = apply(Gateway(refuse=broken, reply=Reply(text="<html>")), {"keys": []})

        assert "cannot read what is there" in answer["msg"]
        assert [] == posted


def test_a_gateway_that_is_away_is_one_line_and_in_check_mode_an_empty_one() -> None:
    away = {"url": "http://127.0.0.1:1", "master_key": MASTER_KEY, "access": ACCESS, "key_values": {"prod": VALUE}}

    answer = run_module("gateway_access", **away)
    dry = run_module("gateway_access", **away, _ansible_check_mode=True)

    assert "http://127.0.0.1:1 does not answer: " in answer["msg"]
    assert ["create key prod"] == dry["steps"]


def test_a_key_without_a_value_is_refused() -> None:
    answer, posted = apply(Gateway(), ACCESS, key_values={})

    assert "key prod has no value in vault_access_keys" in answer["msg"]
    assert [] == posted

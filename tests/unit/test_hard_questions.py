"""What real engines are asked besides, and how two answers to it are compared."""

from typing import Any

from benchmarks.failover.hard_questions import KINDS, mixed
from benchmarks.told import ends_of, text_of


def delta(index: int, finish: str | None = None, **said: Any) -> dict[str, Any]:
    return {"choices": [{"index": index, "delta": said, "finish_reason": finish}]}


def call(number: int, name: str = "", arguments: str = "", identity: str = "") -> dict[str, Any]:
    head = {"id": identity, "function": {"name": name, "arguments": arguments}}
    return {"index": number} | (head if identity else {"function": {"arguments": arguments}})


def test_every_second_request_is_a_hard_one_and_every_kind_is_among_them() -> None:
    asked = mixed(2 * len(KINDS) + 2, model="m", tokens=40, unreadable=[[400, 401]])

    assert 2 * len(KINDS) + 2 == len(asked)
    assert {kind.name for kind in KINDS} <= {one.family.partition(", ")[2] for one in asked}
    assert not any("response_format" in one.body and "ignore_eos" in one.body for one in asked)
    assert {True, False} == {bool(one.body.get("stream")) for one in asked}


def test_pieces_of_two_choices_are_told_apart_in_whatever_order_they_come() -> None:
    one_way = [delta(0, content="a"), delta(1, content="x"), delta(0, content="b"), delta(1, "stop", content="y")]
    another = [delta(1, content="xy"), delta(0, content="ab"), delta(1, "stop")]

    assert "0 content: ab\n1 content: xy" == text_of(one_way) == text_of(another)
    assert [(1, "stop", None)] == ends_of(one_way)


def test_the_ids_of_tool_calls_are_chance_but_each_call_has_one() -> None:
    begun = delta(0, tool_calls=[call(0, name="look", identity="call-1")])
    rest = delta(0, tool_calls=[call(0, arguments='{"a":1}')])
    another_id = delta(0, tool_calls=[call(0, name="look", arguments='{"a":1}', identity="call-2")])
    doubled = delta(0, tool_calls=[call(0, name="look", identity="call-3")])

    assert text_of([begun, rest]) == text_of([another_id])
    assert text_of([begun, rest]) != text_of([begun, doubled, rest])


def test_a_thought_and_the_answer_are_told_apart() -> None:
    assert "0 content: yes\n0 reasoning: so" == text_of([delta(0, reasoning="so"), delta(0, content="yes")])
    assert "yes" == text_of([delta(0, content="yes")])

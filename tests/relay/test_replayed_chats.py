"""A replayed chat is asked for with token ids and its thoughts, so that every token is heard of, and told without."""

import json
from typing import Any

from relay.asking import asked_of
from relay.replay import Replay

TOOLS = [{"type": "function", "function": {"name": "look"}}]


def begun(**more: Any) -> tuple[dict[str, Any], Replay, list[dict[str, Any]]]:
    out: list[dict[str, Any]] = []

    def write(data: bytes) -> None:
        out.append(json.loads(data[6:]))

    body = {"messages": [{"role": "user", "content": "?"}], "stream": True, "temperature": 0}
    answer = Replay(asked_of(body | more, chat=True), write=write)
    wanted = answer.next_request()
    assert wanted is not None
    return wanted[1], answer, out


def event(delta: dict[str, Any], ids: list[int] | None, *, finish: str | None = None, **more: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish, "token_ids": ids}
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return b"data: " + json.dumps(head | {"choices": [choice]} | more).encode()


def test_what_a_parser_says_nothing_of_is_heard_and_not_told() -> None:
    body, answer, out = begun(tools=TOOLS)

    for one in (
        event({"role": "assistant", "content": ""}, None, prompt_token_ids=[1, 2]),
        event({}, [11]),
        event({}, [12, 13]),
        event({"tool_calls": [{"index": 0, "id": "c", "type": "function", "function": {"name": "look"}}]}, [14]),
        event({}, [15], finish="tool_calls"),
    ):
        assert answer.feed(one) is None

    assert body["return_token_ids"] is True
    assert 3 == len(out)
    assert [None] == [one["prompt_token_ids"] for one in out if "prompt_token_ids" in one]
    assert {None} == {one["choices"][0]["token_ids"] for one in out}


def test_ids_that_the_client_asked_for_are_told_once_each_also_where_another_leg_cuts_them_otherwise() -> None:
    body, answer, out = begun(tools=TOOLS, return_token_ids=True)
    for one in (event({"role": "assistant", "content": ""}, None), event({}, [11]), event({"content": "ab"}, [12, 13])):
        assert answer.feed(one) is None
    answer.next_request()
    for one in (event({"role": "assistant", "content": ""}, None), event({"content": "abc"}, [11, 12, 13, 14])):
        assert answer.feed(one) is None

    assert body["return_token_ids"] is True
    assert [11, 12, 13, 14] == [token for one in out for token in one["choices"][0]["token_ids"] or ()]
    assert "abc" == "".join(one["choices"][0]["delta"].get("content") or "" for one in out)


def test_a_hidden_thought_is_asked_for_and_not_told() -> None:
    body, answer, out = begun(include_reasoning=False)
    for one in (
        event({"role": "assistant", "content": ""}, None),
        event({"reasoning": "so"}, [11]),
        event({"reasoning": " far", "content": "yes"}, [12, 13]),
    ):
        assert answer.feed(one) is None

    assert body["include_reasoning"] is True
    assert [{"role": "assistant", "content": ""}, {"content": "yes"}] == [one["choices"][0]["delta"] for one in out]


def test_whoever_hides_thoughts_and_asks_for_ids_gets_both_as_the_engine_gives_them() -> None:
    body, _, _ = begun(include_reasoning=False, return_token_ids=True)

    assert body["include_reasoning"] is False

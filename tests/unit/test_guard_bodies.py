"""Every text of a request is visited, whatever the API and wherever it stands; what cannot be looked at is said."""

from typing import Any

import pytest

from guard.body import Unreadable, answer_slots, client_fields, fill_slot, slot_texts, texts_of, with_texts

CHAT: dict[str, Any] = {
    "model": "qwen",
    "temperature": 0.5,
    "user": "someone",
    "messages": [
        {"role": "system", "content": "be kind"},
        {"role": "user", "content": [{"type": "text", "text": "hello"}], "name": "kim"},
        {
            "role": "assistant",
            "tool_calls": [
                {
                    "id": "c1",
                    "type": "function",
                    "function": {"name": "f", "arguments": '{"to": "x", "n": 4111111111111111}'},
                }
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "done"},
    ],
}


def changed(fields: dict[str, Any]) -> dict[str, Any]:
    texts = texts_of(fields, refuses_unreadable=True)
    return with_texts(fields, [text.upper() for _, text in texts])


def test_every_text_of_a_chat_is_visited_with_who_says_it() -> None:
    fields = client_fields(CHAT, CHAT)

    assert [
        ("user", "someone"),
        ("system", "be kind"),
        ("user", "hello"),
        ("user", "kim"),
        ("assistant", "c1"),
        ("assistant", "f"),
        ("assistant", "to"),
        ("assistant", "x"),
        ("assistant", "n"),
        ("assistant", "4111111111111111"),
        ("tool", "c1"),
        ("tool", "done"),
    ] == texts_of(fields, refuses_unreadable=True)
    assert "model" not in fields


def test_other_texts_stand_where_the_first_ones_stood_and_nothing_else_changes() -> None:
    fields = client_fields(CHAT, CHAT)
    after = changed(fields)

    assert 0.5 == after["temperature"]
    assert [{"type": "text", "text": "HELLO"}] == after["messages"][1]["content"]
    assert '{"TO": "X", "N": 4111111111111111}' == after["messages"][2]["tool_calls"][0]["function"]["arguments"]
    assert "function" == after["messages"][2]["tool_calls"][0]["type"]
    assert fields == with_texts(fields, [text for _, text in texts_of(fields, refuses_unreadable=True)])


def test_a_number_in_the_arguments_of_a_tool_may_be_masked() -> None:
    fields = {"messages": [{"role": "assistant", "arguments": '{"card": 4111111111111111}'}]}

    after = with_texts(fields, ["card", "<CARD>"])

    assert '{"card": "<CARD>"}' == after["messages"][0]["arguments"]


@pytest.mark.parametrize(
    ("fields", "texts"),
    [
        ({"prompt": "one"}, ["one"]),
        ({"prompt": ["one", "two"], "suffix": "end"}, ["one", "two", "end"]),
        ({"input": ["one", "two"]}, ["one", "two"]),
        (
            {"input": [{"role": "user", "content": [{"type": "input_text", "text": "one"}]}], "instructions": "be"},
            ["one", "be"],
        ),
        ({"system": [{"type": "text", "text": "be"}], "messages": [{"role": "user", "content": "one"}]}, ["be", "one"]),
        ({"input": [{"type": "function_call_output", "call_id": "c", "output": "one"}]}, ["c", "one"]),
        ({"extra_body": {"documents": [{"text": "one"}]}}, ["one"]),
        (
            {
                "tools": [
                    {"function": {"description": "one", "parameters": {"properties": {"010-1": {"enum": ["two"]}}}}}
                ]
            },
            ["one", "010-1", "two"],
        ),
    ],
)
def test_the_texts_of_every_api_are_visited(fields: dict[str, Any], texts: list[str]) -> None:
    assert texts == [text for _, text in texts_of(fields, refuses_unreadable=True)]


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://a"}}]}]},
            "image_url",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "UklG"}}]}]},
            "input_audio",
        ),
        ({"prompt": [1, 2, 3]}, "token ids"),
        ({"prompt": [[1, 2], [3]]}, "token ids"),
        ({"input": [1, 2]}, "token ids"),
        ({"messages": [{"role": "user", "content": "data:image/png;base64,AAAA"}]}, "base64"),
    ],
)
def test_what_cannot_be_looked_at_is_named_or_passes(fields: dict[str, Any], what: str) -> None:
    with pytest.raises(Unreadable, match=what):
        texts_of(fields, refuses_unreadable=True)
    texts = texts_of(fields, refuses_unreadable=False)
    assert fields == with_texts(fields, [text for _, text in texts])


def test_the_texts_of_an_answer_are_found_and_filled() -> None:
    answer = {
        "id": "msg_1",
        "model": "qwen",
        "content": [
            {"type": "thinking", "thinking": "hm"},
            {"type": "text", "text": "yes"},
            {"type": "tool_use", "name": "f", "input": {"a": "b"}},
        ],
    }

    slots = answer_slots(answer)
    assert ["hm", "yes", '{"a": "b"}'] == [slot_texts(slot) for slot in slots]
    for slot in slots:
        fill_slot(slot, slot_texts(slot).upper())
    assert [{"A": "B"}, "YES", "HM"] == [
        answer["content"][2]["input"],
        answer["content"][1]["text"],
        answer["content"][0]["thinking"],
    ]

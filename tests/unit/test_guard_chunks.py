"""Chunks of a stream: each text masked as one, whatever choice, field or tool call it belongs to."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from types import SimpleNamespace
from typing import Any

from guard.chunks import masked_chunks
from guard.personal import FINDERS, plain
from guard.spans import Span, without_overlaps
from guard.stream import StreamMask
from guard.tail import Hold


def delta(index: int = 0, finish: str | None = None, **fields: Any) -> Any:
    empty = {"role": None, "content": None, "reasoning_content": None, "tool_calls": None}
    return SimpleNamespace(index=index, finish_reason=finish, delta=SimpleNamespace(**{**empty, **fields}))


def chunk(*choices: Any, usage: Any = None) -> Any:
    return SimpleNamespace(choices=list(choices), usage=usage)


def call(index: int, arguments: str, name: str | None = None) -> Any:
    return SimpleNamespace(index=index, id="c", function=SimpleNamespace(name=name, arguments=arguments))


async def personal(text: str) -> Sequence[Span]:
    return without_overlaps(span for find in FINDERS.values() for span in find(plain(text)))


def through(*chunks: Any) -> list[Any]:
    async def source() -> AsyncIterator[Any]:
        for one in chunks:
            yield one

    async def run() -> list[Any]:
        return [one async for one in masked_chunks(source(), lambda: [StreamMask(personal, Hold(numbers=True))])]

    return asyncio.run(run())


def told(chunks: list[Any], field: str, index: int = 0) -> str:
    places = [choice.delta for one in chunks for choice in one.choices if choice.index == index]
    return "".join(getattr(place, field) or "" for place in places)


def test_a_number_over_several_chunks_is_masked_and_silent_chunks_are_left_out() -> None:
    out = through(
        chunk(delta(role="assistant", content="")), chunk(delta(content="call 010-")), chunk(delta(content="1234-")),
        chunk(delta(content="5678")), chunk(delta(finish="stop")), chunk(usage="counted"),
    )  # fmt: skip

    assert "call <PHONE>" == told(out, "content")
    assert [False, False, True, True] == [bool(one.usage) or one.choices[0].finish_reason == "stop" for one in out]


def test_what_was_held_of_the_reasoning_comes_before_the_answer() -> None:
    out = through(
        chunk(delta(reasoning_content="it is 010-1234-5678")), chunk(delta(content="the num")),
        chunk(delta(content="ber", finish="stop")),
    )  # fmt: skip

    assert ("it is <PHONE>", "the number") == (told(out, "reasoning_content"), told(out, "content"))
    assert "<PHONE>" in [
        one.choices[0].delta.reasoning_content for one in out if one.choices[0].delta.content == "the "
    ]


def test_choices_are_texts_of_their_own() -> None:
    out = through(
        chunk(delta(0, content="010-1234-"), delta(1, content="no ")), chunk(delta(1, content="5678 ")),
        chunk(delta(0, content="5678")), chunk(delta(0, finish="stop"), delta(1, finish="stop")),
    )  # fmt: skip

    assert ("<PHONE>", "no 5678 ") == (told(out, "content", 0), told(out, "content", 1))


def test_the_arguments_of_each_tool_call_are_masked() -> None:
    out = through(
        chunk(delta(tool_calls=[call(0, "", name="dial")])), chunk(delta(tool_calls=[call(0, '{"to": "010-1234')])),
        chunk(delta(tool_calls=[call(0, '-5678"}')])), chunk(delta(tool_calls=[call(1, "a@b", name="mail")])),
        chunk(delta(tool_calls=[call(1, ".kr")])), chunk(delta(finish="tool_calls")),
    )  # fmt: skip

    calls = [one for made in out for choice in made.choices for one in choice.delta.tool_calls or ()]
    arguments = {index: "".join(one.function.arguments for one in calls if one.index == index) for index in (0, 1)}
    assert {0: '{"to": "<PHONE>"}', 1: "<EMAIL>"} == arguments
    assert ["dial", "mail"] == [one.function.name for one in calls if one.function.name]


def test_copies_of_the_text_in_other_fields_do_not_leave() -> None:
    said = delta(content="010-1234-5678", finish="stop", thinking_blocks=[{"thinking": "010-1234-5678"}])
    said.logprobs = {"content": [{"token": "010-1234-5678"}]}

    (out,) = through(chunk(said))

    assert (None, None) == (out.choices[0].delta.thinking_blocks, out.choices[0].logprobs)


def test_a_stream_that_ends_without_saying_so_loses_nothing() -> None:
    assert "mail <EMAIL>" == told(through(chunk(delta(content="mail a@b")), chunk(delta(content=".kr"))), "content")


def test_chunks_of_completions_have_their_text_elsewhere() -> None:
    pieces = [
        SimpleNamespace(index=0, finish_reason=finish, text=text)
        for text, finish in (("010-1234", None), ("-5678", "stop"))
    ]

    out = through(*[chunk(piece) for piece in pieces])

    assert "<PHONE>" == "".join(one.choices[0].text for one in out)

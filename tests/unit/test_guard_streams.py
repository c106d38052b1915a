"""A text in pieces is masked as the whole text is, wherever it is cut, and ordinary words are not held back."""

import asyncio
import itertools
from collections.abc import Iterable, Sequence

import pytest

from guard.personal import FINDERS, plain
from guard.spans import Span, without_overlaps
from guard.stream import StreamMask
from guard.tail import HELD_MAXIMUM, Hold

TEXT = (
    "홍길동(900101-1234568)의 계좌는 110-123-456789 신한은행, 전화 010-1234-5678 또는 +1 415 555 2671.\n"
    "Card 4111 1111 1111 1111; mail kim.hong@corp.co.kr! 2026-11-21, v1.2.3, 1,234.50원. 02-312-4567"
)
MASKED = (
    "홍길동(<KR_RRN>)의 계좌는 <BANK_ACCOUNT> 신한은행, 전화 <PHONE> 또는 <PHONE>.\n"
    "Card <CARD>; mail <EMAIL>! 2026-11-21, v1.2.3, 1,234.50원. <PHONE>"
)
NUMBERS = Hold(numbers=True)


async def personal(text: str) -> Sequence[Span]:
    return without_overlaps(span for find in FINDERS.values() for span in find(plain(text)))


async def nothing(_: str) -> Sequence[Span]:
    return ()


def through(pieces: Iterable[str], hold: Hold = NUMBERS) -> str:
    async def run() -> str:
        mask = StreamMask(personal, hold)
        out = [await mask.feed(piece) for piece in pieces]
        return "".join([*out, await mask.finish()])

    return asyncio.run(run())


@pytest.mark.parametrize("hold", [NUMBERS, Hold(numbers=True, characters=64)])
def test_wherever_a_text_is_cut_in_two_it_is_masked_as_if_whole(hold: Hold) -> None:
    assert {MASKED} == {through([TEXT[:place], TEXT[place:]], hold) for place in range(len(TEXT) + 1)}


def test_wherever_a_text_is_cut_in_three_it_is_masked_as_if_whole() -> None:
    short = "계좌 110-123-456789, a.b@c.kr 010-1234-5678!"
    places = itertools.combinations(range(len(short) + 1), 2)

    assert {"계좌 <BANK_ACCOUNT>, <EMAIL> <PHONE>!"} == {
        through([short[:one], short[one:two], short[two:]]) for one, two in places
    }


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 13])
def test_a_text_in_pieces_of_one_size_is_masked_as_if_whole(size: int) -> None:
    assert MASKED == through(TEXT[at : at + size] for at in range(0, len(TEXT), size))


def test_a_word_behind_a_number_tells_what_it_is_in_a_stream_as_well() -> None:
    assert "<BANK_ACCOUNT> (국민)으로" == through("110-123-456789 (국민)으로")


def test_of_ordinary_text_only_the_last_word_waits() -> None:
    async def run() -> list[str]:
        mask = StreamMask(nothing, NUMBERS)
        return [await mask.feed(piece) for piece in ("Hello ", "wor", "ld, 안녕", "하세요", " 3")]

    assert ["Hello ", "", "world, 안녕", "하세요", " "] == asyncio.run(run())


def test_what_waits_is_bounded_whatever_comes() -> None:
    async def run() -> int:
        mask, sent, most = StreamMask(nothing, NUMBERS), 0, 0
        for came in range(1, 2001):
            sent += len(await mask.feed("7"))
            most = max(most, came - sent)
        return most

    assert asyncio.run(run()) <= HELD_MAXIMUM + 1


def test_nobody_is_asked_about_text_without_a_digit_or_an_at_sign() -> None:
    asked: list[str] = []

    async def find(text: str) -> Sequence[Span]:
        asked.append(text)
        return ()

    async def run() -> None:
        mask = StreamMask(find, NUMBERS)
        for piece in ("No number ", "is here, ", "여기에는 ", "없다. "):
            await mask.feed(piece)
        await mask.finish()

    asyncio.run(run())
    assert [] == asked

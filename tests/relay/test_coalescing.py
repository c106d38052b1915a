"""Pieces in quick succession leave as one chunk, in order, none lost."""

import asyncio
from collections.abc import Callable

from relay.coalescing import Coalescing
from relay.pace import Pace


def written(steps: Callable[[Coalescing], None], *, seconds: float, wait: float = 0.0) -> list[bytes]:
    out: list[bytes] = []

    async def run() -> None:
        coalescing = Coalescing(out.append, pause=lambda: seconds)
        steps(coalescing)
        await asyncio.sleep(wait)
        coalescing.close()

    asyncio.run(run())
    return out


def test_without_a_pause_every_piece_leaves_by_itself() -> None:
    def steps(out: Coalescing) -> None:
        for piece in (b"a", b"b", b"c"):
            out.text(b"<", piece, b">")

    assert [b"<a>", b"<b>", b"<c>"] == written(steps, seconds=0)


def test_the_first_piece_leaves_at_once_and_the_rest_together_after_the_pause() -> None:
    def steps(out: Coalescing) -> None:
        for piece in (b"a", b"b", b"c"):
            out.text(b"<", piece, b">")

    assert [b"<a>"] == written(steps, seconds=0.05)
    assert [b"<a>", b"<bc>"] == written(steps, seconds=0.05, wait=0.5)


def test_what_is_no_text_pushes_the_text_out_before_itself() -> None:
    def steps(out: Coalescing) -> None:
        for piece in (b"a", b"b", b"c"):
            out.text(b"<", piece, b">")
        out.write(b"end")

    assert [b"<a>", b"<bc>", b"end"] == written(steps, seconds=0.5)


def test_texts_of_two_kinds_stay_apart() -> None:
    def steps(out: Coalescing) -> None:
        out.text(b"<thought:", b"a", b">")
        out.text(b"<thought:", b"b", b">")
        out.text(b"<answer:", b"c", b">")
        out.flush()

    assert [b"<thought:a>", b"<thought:b>", b"<answer:c>"] == written(steps, seconds=0.5)


def test_after_the_client_left_nothing_is_written() -> None:
    def steps(out: Coalescing) -> None:
        out.text(b"<", b"a", b">")
        out.text(b"<", b"b", b">")
        out.close()

    assert [b"<a>"] == written(steps, seconds=0.01, wait=0.1)


def test_few_answers_hardly_wait_and_many_share_the_chunks_of_a_second() -> None:
    pace = Pace(longest_seconds=0.05, chunks_per_second=500)
    waits = []

    for pace.streams_count in (0, 1, 10, 25, 1000):
        waits.append(pace.seconds())

    assert [0.0, 0.002, 0.02, 0.05, 0.05] == waits


def test_without_a_limit_of_chunks_text_always_waits_and_without_a_pause_never() -> None:
    always, never = (Pace(longest_seconds=longest, chunks_per_second=limit) for longest, limit in ((0.05, 0), (0, 500)))
    always.streams_count = never.streams_count = 40

    assert (0.05, 0.0) == (always.seconds(), never.seconds())

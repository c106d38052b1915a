"""Pieces in quick succession leave as one chunk, in order, none lost."""

import asyncio
from collections.abc import Callable

from relay.coalescing import Coalescing


def written(steps: Callable[[Coalescing], None], *, seconds: float, wait: float = 0.0) -> list[bytes]:
    out: list[bytes] = []

    async def run() -> None:
        coalescing = Coalescing(out.append, seconds=seconds)
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

"""The service itself, with guardrails that really break, hang and die; without Presidio, so everywhere."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from guard.errors import GuardUnavailable
from guard.spans import Span
from guard.wire import ask
from tests.guardrails.guard_service import ROOT, LivingGuard, running_guard, write_rules

OWN = """
import os, re

def find(text, role):
    if text == "break":
        raise ValueError("a secret")
    if text == "die":
        os._exit(9)
    if text == "hang":
        re.match(r"(a+)+$", "a" * 64 + "b")  # for years, and Python's lock is held all the time
    return [(0, 2, "TWO")] if text else []
"""
PATIENCE = 30.0
SHORT = 0.5


@pytest.fixture(scope="module")
def guard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LivingGuard]:
    directory = tmp_path_factory.mktemp("guard")
    (directory / "own.py").write_text(OWN)
    rules = [
        {"name": "own", "kind": "custom", "file": str(directory / "own.py")},
        {"name": "w", "kind": "words", "words": ["x"]},
    ]
    with running_guard(directory, rules, python=Path(sys.executable)) as living:
        yield living


def asked(guard: LivingGuard, *texts: str, seconds: float = PATIENCE, rule: str = "own") -> list[tuple[Span, ...]]:
    question = ask(guard.socket, rule=rule, texts=[("user", text) for text in texts], seconds=seconds)
    return asyncio.run(question)


def labels(found: Sequence[Sequence[Span]]) -> list[list[str]]:
    return [[span.label for span in spans] for spans in found]


def test_every_text_of_a_question_is_answered_in_order(guard: LivingGuard) -> None:
    assert [["TWO"], [], ["TWO"]] == labels(asked(guard, "one", "", "왜가리"))
    assert [["w"]] == labels(asked(guard, "an X", rule="w"))


@pytest.mark.parametrize(
    ("text", "seconds", "reason"),
    [
        ("break", PATIENCE, "it failed with ValueError"),
        ("die", PATIENCE, "the process that looked ended"),
        ("hang", SHORT, "no answer within 0.5 s|the process that looked ended"),
    ],
)
def test_a_guardrail_that_fails_is_told_and_the_next_question_is_answered(
    guard: LivingGuard, text: str, seconds: float, reason: str
) -> None:
    for _ in range(3):  # more often than there are processes
        with pytest.raises(GuardUnavailable, match=reason):
            asked(guard, text, seconds=seconds)

    assert [["TWO"]] == labels(asked(guard, "one"))
    assert "a secret" not in guard.log.read_text()


def test_one_that_hangs_keeps_nobody_else_waiting(guard: LivingGuard) -> None:
    async def both() -> list[tuple[Span, ...]]:
        hanging = asyncio.create_task(ask(guard.socket, rule="own", texts=[("user", "hang")], seconds=PATIENCE))
        await asyncio.sleep(0.1)
        found = await ask(guard.socket, rule="own", texts=[("user", "one")], seconds=PATIENCE / 2)
        assert not hanging.done()
        hanging.cancel()
        await asyncio.gather(hanging, return_exceptions=True)
        return found

    assert [["TWO"]] == labels(asyncio.run(both()))


def test_without_the_service_every_question_fails_at_once(tmp_path: Path) -> None:
    with pytest.raises(GuardUnavailable, match="the service is not there"):
        asyncio.run(ask(tmp_path / "none", rule="own", texts=[("user", "one")], seconds=PATIENCE))


def test_its_processes_end_with_it_however_it_ends(tmp_path: Path) -> None:
    rules = [{"name": "w", "kind": "words", "words": ["x"]}]
    with running_guard(tmp_path, rules, python=Path(sys.executable)) as guard:
        parent = guard.process.pid
        deadline = time.monotonic() + PATIENCE
        while len(children := children_of(parent)) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        os.kill(parent, signal.SIGKILL)
        while any(Path(f"/proc/{child}").exists() for child in children):
            assert time.monotonic() < deadline, "a process outlived the service"
            time.sleep(0.05)


def children_of(process: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def test_rules_that_cannot_be_used_are_refused_in_one_line(tmp_path: Path) -> None:
    config = write_rules(tmp_path, [{"name": "own", "kind": "custom", "file": str(tmp_path / "none.py")}])

    checked = subprocess.run(
        [sys.executable, "-m", "guard", "check", "--config", str(config)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert (2, f"guard: guardrail own: there is no Python file {tmp_path / 'none.py'}\n") == (
        checked.returncode,
        checked.stderr,
    )

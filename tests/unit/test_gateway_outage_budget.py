"""The last known spend: holds while nobody can vouch for a better one, and gives way to the database."""

import asyncio
import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

FILE = Path(__file__).resolve().parents[2] / "roles" / "gateway" / "files" / "outage_budget.py"


@pytest.fixture(scope="module")
def outage_budget() -> Any:
    spec = importlib.util.spec_from_file_location("outage_budget", FILE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["outage_budget"] = module
    spec.loader.exec_module(module)
    return module


class Elsewhere:
    """Redis' copies and the database's sums; None = does not answer."""

    def __init__(self) -> None:
        self.copies: dict[str, float] = {}
        self.database: dict[str, float] | None = {}
        self.raised: list[float] = []

    async def shared(self, counter: str) -> float | None:
        return self.copies.get(counter)

    async def share(self, counter: str, spend: float) -> None:
        self.copies[counter] = spend

    async def recorded(self, counter: str) -> float | None:
        return None if self.database is None else self.database.get(counter)

    async def raise_counter(self, counter: str, spend: float) -> None:  # noqa: ARG002
        self.raised.append(spend)


def judged(module: Any, elsewhere: Elsewhere, *readings: tuple[float, bool]) -> list[tuple[float, bool]]:
    async def all_of_them() -> list[tuple[float, bool]]:
        known = module.LastKnownSpend(elsewhere)
        answers = []
        for read, verified in readings:
            answers.append(await known.judge("spend:key:k", read=read, verified=verified))
            await asyncio.sleep(0)
        return answers

    return asyncio.run(all_of_them())


def test_what_counters_say_is_taken_while_they_rise(outage_budget: Any) -> None:
    answers = judged(outage_budget, Elsewhere(), (1.0, True), (2.0, True))

    assert [(1.0, True), (2.0, True)] == answers


def test_an_expired_counter_does_not_let_a_spent_key_in_while_the_database_is_away(outage_budget: Any) -> None:
    elsewhere = Elsewhere()
    elsewhere.database = None

    answers = judged(outage_budget, elsewhere, (5.0, True), (0.0, False), (0.25, True))

    assert [(5.0, True), (5.0, False), (5.0, False)] == answers
    assert [5.0, 5.0] == elsewhere.raised


def test_a_worker_that_never_saw_the_key_takes_what_another_knew(outage_budget: Any) -> None:
    elsewhere = Elsewhere()
    elsewhere.database, elsewhere.copies = None, {"spend:key:k": 5.0}

    assert [(5.0, False)] == judged(outage_budget, elsewhere, (0.0, False))


def test_a_budget_that_was_reset_is_believed_when_the_database_says_so(outage_budget: Any) -> None:
    elsewhere = Elsewhere()
    elsewhere.database = {"spend:key:k": 0.0}

    answers = judged(outage_budget, elsewhere, (5.0, True), (0.5, True), (0.75, True))

    assert [(5.0, True), (0.5, True), (0.75, True)] == answers
    assert [] == elsewhere.raised


def test_a_key_nobody_knows_keeps_what_was_read(outage_budget: Any) -> None:
    elsewhere = Elsewhere()
    elsewhere.database = None

    assert [(0.0, False)] == judged(outage_budget, elsewhere, (0.0, False))

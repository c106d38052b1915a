"""docs/governance.md names a test for every feature, and what the feature costs; both have to be there."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "governance.md"


def rows() -> Iterator[list[str]]:
    """Cells of every row of every table."""
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("|") and not line.startswith(("|---", "| feature", "| refused")):
            yield [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


ROWS = list(rows())


@pytest.mark.parametrize("row", ROWS, ids=[row[0][:60] for row in ROWS])
def test_every_feature_names_tests_that_are_there(row: list[str]) -> None:
    named = re.findall(r"`([^`]+)`", row[2])

    assert named
    for name in named:
        path, _, test = name.partition("::")
        assert (ROOT / path).is_file(), f"{path} is not there"
        assert not test or re.search(rf"^(async )?def {test}\(", (ROOT / path).read_text(encoding="utf-8"), re.M), name


@pytest.mark.parametrize("row", [row for row in ROWS if len(row) > 3], ids=lambda row: row[0][:60])
def test_every_feature_says_in_milliseconds_what_it_costs_or_that_it_costs_nothing(row: list[str]) -> None:
    assert re.search(r"\d ms\b|\bnone\b", row[3]), row[3]


def test_the_page_has_all_that_the_gateway_can_do() -> None:
    assert len(ROWS) > 60

"""The published errors are those of today: docs/accuracy.md is made from the tables, and is not stale."""

from tools.make_accuracy_page import PAGE, accuracy_page


def test_the_accuracy_page_is_what_the_tool_would_write_today() -> None:
    assert PAGE.read_text(encoding="utf-8") == accuracy_page(), "run `python -m tools.make_accuracy_page`"


def test_the_accuracy_page_holds_no_row_that_differs() -> None:
    assert "**no**" not in accuracy_page()

"""The published errors are those of today: docs/accuracy.md is made from the tables, and is not stale."""

from tools.accuracy_kv import kv_section
from tools.accuracy_weights import weights_section
from tools.make_accuracy_page import PAGE, accuracy_page


def test_the_accuracy_page_is_what_the_tool_would_write_today() -> None:
    assert PAGE.read_text(encoding="utf-8") == accuracy_page(), "run `python -m tools.make_accuracy_page`"


def test_no_row_that_must_be_exact_differs() -> None:
    assert "**no**" not in kv_section().text + weights_section().text


def test_bytes_against_published_logs_stay_within_the_promise() -> None:
    ledgers = accuracy_page().split("## KV pool in bytes")[1]

    assert ledgers.count("**no**") <= ledgers.count("| yes |") / 9

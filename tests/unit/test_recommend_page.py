"""The page of a recommendation: self-contained, with bars, curve, alternatives and the error table of the version."""

import re
from pathlib import Path

import pytest

from sizing.accuracy import error_rows
from sizing.candidates import candidates_for
from sizing.device import find_gpu
from sizing.engine_defaults import DEFAULT_VLLM_VERSION
from sizing.islands import pool_of_catalogue
from sizing.model_facts import load_model_facts
from sizing.page_figures import curve_figure
from sizing.wish import Wish
from tests.command_line import llm_size
from tools.make_accuracy_data import DATA, PAGE, accuracy_data

H100 = "NVIDIA H100 80GB HBM3"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("page") / "report.html"
    answer = llm_size(
        *("recommend", "--model", "Qwen/Qwen3-8B", "--model", "Qwen/Qwen3-32B", "--gpu", f"{H100}:4"),
        *("--context", "32K", "--users", "4", "--html", str(path)),
    )
    assert 0 == answer.returncode, answer.stderr
    return path.read_text(encoding="utf-8")


def test_nothing_on_the_page_comes_from_elsewhere(page: str) -> None:
    assert not re.search(r"https?:|<script|<img|<link|@import|url\(", page)
    assert 'name="viewport"' in page
    assert "prefers-color-scheme: dark" in page
    assert "@media print" in page


def test_there_is_a_row_for_each_gpu_and_a_curve_for_each_model(page: str) -> None:
    assert ["GPU 0", "GPU 1", "GPU 2", "GPU 3"] == re.findall(r"<li>(GPU \d)<span>", page)
    assert 2 == page.count("How long, and how many at once")
    assert 2 == page.count("wished: 4 requests of 32,768 tokens")


def test_each_choice_has_its_reason_and_each_alternative_its_own(page: str) -> None:
    assert "the checkpoint that was asked for" in page
    assert "Weighed and not taken" in page
    assert "must be divisible by tensor parallel size (3)" in page


def test_the_error_table_of_the_version_is_on_the_page(page: str) -> None:
    rows = error_rows(DEFAULT_VLLM_VERSION)

    assert all(row.quantity in page for row in rows)
    assert "How far off these numbers may be" in page


def test_the_error_table_says_what_the_accuracy_page_says() -> None:
    if not PAGE.is_file():
        pytest.skip("docs/accuracy.md is not made")

    assert accuracy_data(PAGE.read_text(encoding="utf-8")) == DATA.read_text(encoding="utf-8"), (
        "run `python -m tools.make_accuracy_data`"
    )


def test_an_unmet_wish_makes_a_page_too_with_the_changes(tmp_path: Path) -> None:
    path = tmp_path / "report.html"

    answer = llm_size(
        *("recommend", "--model", "Qwen/Qwen3-32B", "--gpu", "NVIDIA L4", "--context", "32K", "--html", str(path))
    )

    text = path.read_text(encoding="utf-8")
    assert 3 == answer.returncode
    assert "The wish cannot be met" in text
    assert "the weights alone need 61.02 GiB" in text
    assert "Would meet the wish: " in text


def test_twice_the_length_is_half_the_requests_of_a_model_without_windows() -> None:
    facts = load_model_facts("Qwen/Qwen3-32B")
    pool = pool_of_catalogue(find_gpu(H100).as_gpu(), 2)
    best = candidates_for(facts, pool, wish=Wish(context_tokens=32768, users_count=4))[0]

    figure = curve_figure([("best", best)], wish=(32768, 4))

    assert figure is not None
    (curve,) = figure.curves
    first, *_, last = [tuple(map(float, point.split())) for point in curve.path[1:].split(" L")]
    length_step = figure.lengths[1].at - figure.lengths[0].at
    count_step = figure.counts[0].at - figure.counts[1].at
    assert pytest.approx((last[0] - first[0]) / length_step, rel=0.02) == (last[1] - first[1]) / count_step

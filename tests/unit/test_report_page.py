"""The report page: complete, self-contained, failures first, and safe with whatever a host said."""

import copy
import re
from html.parser import HTMLParser
from typing import Any

from rich.console import Console

from sizing.judge import judge
from sizing.observation import Observation
from sizing.plan import Plan
from sizing.report import Report
from sizing.report_page import render_page
from sizing.report_summary import summary, verdict_line
from tests.fakes.lab_site import GEMMA, observation_content, plan_content

PLAN = Plan.parse(plan_content(), origin="plan")


def report_of(seen: dict[str, Any]) -> Report:
    return judge(PLAN, Observation.parse(seen, origin="observation"))


def small_gemma() -> Report:
    seen = copy.deepcopy(observation_content())
    seen["engines"]["h3"][1].update(max_model_len=512)
    return report_of(seen)


class Elements(HTMLParser):
    """Every element of a page with its attributes, and whether each was closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in {"meta", "br", "link", "img", "input"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_needs_nothing_from_outside() -> None:
    page = render_page(PLAN, report_of(observation_content()))

    elements = Elements(page)
    assert not elements.open
    assert not {"script", "link", "img", "iframe", "object", "embed"} & {tag for tag, _ in elements.found}
    assert not [attributes for _, attributes in elements.found if {"src", "href", "onload"} & attributes.keys()]
    assert not re.search(r"url\(|@import", page)


def test_a_good_page_says_so_and_shows_every_check() -> None:
    report = report_of(observation_content())

    page = render_page(PLAN, report)

    assert "lab is what its plan says" in page
    assert "49 / 49" in page
    assert "118,596" in page
    assert "What does not hold" not in page
    assert page.count('class="mark tick"') == len(report.checks)


def test_failures_stand_first_with_expected_seen_and_what_to_do() -> None:
    page = render_page(PLAN, small_gemma())

    assert "2 of 49 checks do not hold at lab" in page
    failures = page.index("What does not hold")
    assert failures < page.index("The site</h2>")
    first = page[failures : page.index("The site</h2>")]
    for words in (
        f"h3/{GEMMA}: the engine&#39;s window is the plan&#39;s",
        "1,024 tokens",
        "512 tokens",
        "run site.yml",
    ):
        assert words in first


def test_words_of_a_host_cannot_become_markup() -> None:
    seen = copy.deepcopy(observation_content())
    seen["unanswered"]["h3"] = "<script>alert(1)</script>"

    page = render_page(PLAN, report_of(seen))

    assert "<script>" not in page
    assert "&lt;script&gt;alert(1)" in page


def test_memory_bars_add_up_to_what_the_engine_requests() -> None:
    page = render_page(PLAN, report_of(observation_content()))

    bars = re.findall(r'aria-label="Memory of [^"]*">(.*?)</svg>', page, re.DOTALL)
    assert 3 == len(bars)
    # 1600 MiB requested of a scale of 2000 MiB; weights of 2 MiB are drawn 4 wide instead of 1
    widths = [float(width) for width in re.findall(r' width="([0-9.]+)"', bars[0])]
    assert [4.0, 32.0, 67.0, 700.0] == widths


def test_the_terminal_summary_names_what_failed_and_what_to_do() -> None:
    console = Console(width=100, record=True, file=None, color_system=None, quiet=False)
    with console.capture() as captured:
        console.print(summary(small_gemma()))

    text = captured.get()
    assert "✘  20/21  engines run as planned" in text
    assert f"✘ h3/{GEMMA}: the engine's window is the plan's" in text
    assert "  seen      512 tokens" in text
    assert text.rstrip().endswith("lab: 2 of 49 checks do not hold")


def test_the_verdict_of_a_good_site_is_one_line() -> None:
    assert "lab: verified, all 49 checks hold" == verdict_line(report_of(observation_content()))

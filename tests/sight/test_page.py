"""The operators' page is one file that asks nobody else, and Prometheus does not take it for a template."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tools.ask_monitoring import PAGE, page_questions


def test_every_line_of_the_pages_questions_is_read() -> None:
    block = re.search(r"^const QUERIES = \{$(.*?)^\};$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)

    assert block is not None
    assert len(block[1].strip().splitlines()) == len(page_questions())


def test_it_needs_nothing_from_anywhere() -> None:
    page = PAGE.read_text(encoding="utf-8")

    assert [] == re.findall(r"""(?:src|href)=["'](?!/)[^"']*""", page)
    assert [] == re.findall(r"@import|url\(", page)
    assert {"http://www.w3.org/2000/svg"} == set(re.findall(r"https?://[^\s\"'`]+", page))


def test_prometheus_serves_it_as_it_is() -> None:
    # Console files are Go templates, which also take comments away.
    page = PAGE.read_text(encoding="utf-8")

    assert "{{" not in page
    assert [] == re.findall(r"<!--|^\s*//|/\*", page, re.MULTILINE)


def test_what_the_site_says_is_text_and_never_markup() -> None:
    assert [] == re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", PAGE.read_text("utf-8"))


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool (Debian: prometheus) is not installed")
def test_every_question_is_one_that_prometheus_understands(tmp_path: Path) -> None:
    rules = [{"record": f"q:{name}", "expr": expression} for name, expression in page_questions().items()]
    path = tmp_path / "questions.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "page", "rules": rules}]}), encoding="utf-8")

    checked = subprocess.run(["promtool", "check", "rules", str(path)], capture_output=True, text=True, check=False)

    assert 0 == checked.returncode, checked.stdout + checked.stderr

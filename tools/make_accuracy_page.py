#!/usr/bin/env python3
"""Make docs/accuracy.md: how far sizing agrees with vLLM itself, section by section, with every row.

A section is a function that returns a `Section`; add one to SECTIONS and it is on the page. `--check` writes nothing
and exits 1 where the page is not what it would write.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from tools.accuracy_kv import kv_section
from tools.accuracy_memory import memory_section
from tools.accuracy_sections import Section
from tools.accuracy_speed import speed_section
from tools.accuracy_weights import weights_section

PAGE = Path(__file__).resolve().parents[1] / "docs" / "accuracy.md"
SECTIONS: tuple[Callable[[], Section], ...] = (
    kv_section,
    weights_section,
    memory_section,
    speed_section,
)
HEAD = """\
<!-- Made by tools/make_accuracy_page.py. Do not edit: a test fails when it is stale. -->
# Accuracy

What `llm-size` answers, beside what vLLM itself says. Nothing is left out.
"""


def accuracy_page() -> str:
    """The whole page."""
    sections = [section() for section in SECTIONS]
    summary = "\n".join(f"- **{section.title}**: {section.summary}." for section in sections)
    body = "\n\n".join(f"## {section.title}\n\n{section.text}" for section in sections)
    return f"{HEAD}\n{summary}\n\n{body}\n"


def main() -> int:
    """Write the page, or check it."""
    parser = argparse.ArgumentParser(description="Make docs/accuracy.md from the recorded tables.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where the page is stale")
    arguments = parser.parse_args()
    text = accuracy_page()
    if arguments.check:
        return int(not PAGE.is_file() or PAGE.read_text(encoding="utf-8") != text)
    PAGE.write_text(text, encoding="utf-8")
    print(f"{PAGE}: {len(text.splitlines())} lines", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())

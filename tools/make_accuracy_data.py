#!/usr/bin/env python3
"""Make sizing/catalogue/accuracy.yaml, which every recommendation page shows, from the summary of docs/accuracy.md.

`--check` writes nothing and exits 1 where the file is not what it would write.
"""

import argparse
import re
import sys
from pathlib import Path

import yaml

from sizing.engine_defaults import DEFAULT_VLLM_VERSION

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "accuracy.md"
DATA = ROOT / "sizing" / "catalogue" / "accuracy.yaml"
HEAD = "# Made by tools/make_accuracy_data.py from docs/accuracy.md. Do not edit: a test fails when it is stale.\n"

_SUMMARY_LINE = re.compile(r"^- \*\*(.+?)\*\*: (.+)\.$", re.MULTILINE)


def accuracy_data(page: str) -> str:
    """The summary at the top of the page, as the rows of an error table."""
    summary = page.partition("\n## ")[0]
    rows = [{"quantity": quantity, "error": error} for quantity, error in _SUMMARY_LINE.findall(summary)]
    content = {"vllm_version": DEFAULT_VLLM_VERSION, "rows": rows}
    return HEAD + yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)


def main() -> int:
    """Write the file, or check it."""
    parser = argparse.ArgumentParser(description="Make sizing/catalogue/accuracy.yaml.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where the file is stale")
    arguments = parser.parse_args()
    text = accuracy_data(PAGE.read_text(encoding="utf-8"))
    if DATA.is_file() and DATA.read_text(encoding="utf-8") == text:
        return 0
    if not arguments.check:
        DATA.write_text(text, encoding="utf-8")
        print(f"wrote {DATA.relative_to(ROOT)}", file=sys.stderr)
    return int(arguments.check)


if __name__ == "__main__":
    sys.exit(main())

"""Commands in the pages are commands that exist: every verb and option in them is one of `--help`."""

import re
import shlex
from pathlib import Path

import pytest

from tests.command_line import llm_size

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = [REPOSITORY / "README.md", *(REPOSITORY / "docs" / f"{name}.md" for name in ("cli", "capacity", "acceptance"))]


def _commands(page: Path) -> list[str]:
    text = page.read_text(encoding="utf-8")
    blocks = [block.replace("\\\n", " ") for block in re.findall(r"```\n(.*?)```", text, re.DOTALL)]
    in_blocks = [line for block in blocks for line in block.splitlines()]
    inline = re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    lines = [line.removeprefix("$ ").removeprefix(".venv/bin/") for line in [*in_blocks, *inline]]
    return [line for line in lines if line.startswith("llm-size ") and "VERB" not in line]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_of_a_page_exists(page: Path) -> None:
    commands = _commands(page)
    assert commands

    for command in commands:
        _, verb, *arguments = shlex.split(command, comments=True)
        known = llm_size(verb, "--help")
        assert 0 == known.returncode, command
        for option in (one for one in arguments if one.startswith("--")):
            assert re.search(rf"^  {option}\b", known.stdout, re.MULTILINE), f"{option} in: {command}"

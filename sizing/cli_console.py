"""Console: the answer on stdout, the talk on stderr, colour only where a terminal reads and NO_COLOR is unset."""

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

PROGRAM = "llm-size"


def answer(text: str) -> None:
    """Writes what a program may read: nothing is wrapped, coloured or added."""
    sys.stdout.write(text if text.endswith("\n") else text + "\n")


def say(line: str) -> None:
    """One line for the person who reads along."""
    sys.stderr.write(f"{PROGRAM}: {line}\n")


def complain(error: Exception | str) -> None:
    """One line, whatever the message holds."""
    say(" ".join(str(error).split()) or "failed without a word")


def human_console() -> "Console":
    """Where tables and bars for people go: stdout, as wide as the terminal, at least 80 columns."""
    from rich.console import Console  # noqa: PLC0415 - a program that reads JSON need not wait for it

    console = Console(highlight=False, soft_wrap=False)
    if not console.is_terminal:
        console = Console(highlight=False, soft_wrap=False, width=100)
    return console

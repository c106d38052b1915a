"""The command line in the test's own process: fast, and what it printed is at hand."""

import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from unittest.mock import patch

from sizing.cli import run


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a shell would have seen."""

    returncode: int
    stdout: str
    stderr: str

    @property
    def error(self) -> str:
        """The one line of an error; more than one line fails the test that asks."""
        assert self.stderr.count("\n") == 1, self.stderr
        assert self.stdout == "", self.stdout
        return self.stderr.strip()


def llm_size(*arguments: str, stdin: str = "") -> Answer:
    """Runs `llm-size` with these arguments."""
    stdout, stderr = StringIO(), StringIO()
    with redirect_stdout(stdout), redirect_stderr(stderr), patch.object(sys, "stdin", StringIO(stdin)):
        returncode = run(arguments)
    return Answer(returncode=returncode, stdout=stdout.getvalue(), stderr=stderr.getvalue())

"""The command line `llm-size`: parse, call, print, exit. What each verb does lives in its `cli_*` module.

Exit codes: 0 yes, 1 the site differs from its plan (verify) or is not accepted (accept), 2 usage or bad input,
3 does not fit or refused, 4 no GPU driver, 5 driver not loaded, 6 no GPU, 7 invalid run (accept).
"""

import contextlib
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated

import typer

from sizing.cli_console import PROGRAM, answer, complain
from sizing.errors import SizingError

USAGE_EXIT_CODE = 2

_USAGE_ERROR: type[Exception] = typer.BadParameter.__mro__[1]
"""Typer carries its own copy of click in newer versions; the class is the same by another road."""

VERBS = {
    "probe": "cli_documents",
    "schema": "cli_documents",
    "estimate": "cli_estimate",
    "recommend": "cli_recommend",
    "cost": "cli_cost",
    "calibrate": "cli_calibrate",
    "check": "cli_site",
    "explain": "cli_site",
    "routing": "cli_routing",
    "guardrails": "cli_guardrails",
    "verify": "cli_verify",
    "accept": "cli_accept",
    "fetch": "cli_fetch",
}
"""Which module holds a verb: only the one that is called is imported, which halves the time of an answer."""


def _print_version(wanted: bool) -> None:
    if wanted:
        try:
            answer(f"{PROGRAM} {version('llm-appliance')}")
        except PackageNotFoundError:
            answer(f"{PROGRAM} (not installed)")
        raise typer.Exit


def _root(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Options before the verb."""


def _app(arguments: Sequence[str]) -> typer.Typer:
    """The program with the verb that is called, or with all of them where none is (for `--help` and for typos)."""
    app = typer.Typer(
        name=PROGRAM,
        help="Size LLM serving before you boot it: what fits, what to run, and whether the living site agrees.",
        epilog="Exit codes: 0 yes, 1 site differs, 2 bad input, 3 does not fit or refused, "
        "4 no GPU driver, 5 driver not loaded, 6 no GPU, 7 invalid run.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        add_completion=False,
        rich_markup_mode=None,
    )
    app.callback()(_root)
    wanted = VERBS.get(arguments[0]) if arguments else None
    for name in [wanted] if wanted else dict.fromkeys(VERBS.values()):
        import_module(f"sizing.{name}").register(app)
    return app


def run(arguments: Sequence[str]) -> int:
    """Runs one command line and returns its exit code; what the user can act on is one line on stderr."""
    try:
        outcome = _app(arguments)(args=list(arguments), prog_name=PROGRAM, standalone_mode=False)
        sys.stdout.flush()
    except SizingError as error:
        complain(error)
        return error.exit_code
    except _USAGE_ERROR as error:
        return _usage(error)
    except typer.Abort:
        return 130
    except BrokenPipeError:
        return _reader_left()
    except OSError as error:
        if error.filename is None:
            raise
        complain(f"{error.filename}: {error.strerror}")
        return USAGE_EXIT_CODE
    return outcome if isinstance(outcome, int) else 0


def _usage(error: Exception) -> int:
    context = getattr(error, "ctx", None)
    message = error.format_message() if hasattr(error, "format_message") else str(error)
    if type(error).__name__ == "NoArgsIsHelpError":
        sys.stderr.write(message.rstrip() + "\n")
    else:
        path = context.command_path if context is not None else PROGRAM
        complain(f"{message.replace('Value error, ', '').rstrip('.')} (see `{path} --help`)")
    return USAGE_EXIT_CODE


def _reader_left() -> int:
    """`llm-size ... | head` closed the pipe: nothing to complain about, and nothing left to flush."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def main() -> None:
    """Entry point of the console script."""
    sys.exit(run(sys.argv[1:]))

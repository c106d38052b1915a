"""Command line of the benchmarks: parse, call, print, exit. `llm-size accept` calls it as a subprocess.

Locust, SciPy and matplotlib take seconds to import, so a command's module is imported when the command is called; the
list of commands is a table.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module

import typer

from benchmarks.leaving import leave_when_told
from sizing.errors import SizingError


@dataclass(frozen=True, kw_only=True)
class Command:
    """Where a command, or a Typer application of commands, is defined, and what the list of commands says about it."""

    module: str
    attribute: str
    summary: str


HISTORIES = "benchmarks.cli_histories"
COMMANDS = {
    "calibrate": Command(
        module=HISTORIES,
        attribute="calibrate_command",
        summary="How many streams and chunks per second one process here can hold.",
    ),
    "summarize": Command(
        module=HISTORIES,
        attribute="summarize_command",
        summary="What a recorded run says; exit 7 if it says nothing because the client was overloaded.",
    ),
    "check-history": Command(
        module=HISTORIES,
        attribute="check_history_command",
        summary="What no stream may ever do; exit 1 if one did.",
    ),
    "accept": Command(
        module="benchmarks.accept.command",
        attribute="accept_command",
        summary="Accept a living site, or check a bundle. Exit 0 accepted, 1 not, 2 bad input, 7 invalid run.",
    ),
    "audit": Command(
        module="benchmarks.audit",
        attribute="audit_command",
        summary="The operator's questions to an audit of ten million rows, in a PostgreSQL of its own.",
    ),
    "guardrails": Command(
        module="benchmarks.guardrails",
        attribute="guardrails_command",
        summary="What each guardrail costs a request and an answer, in milliseconds, by length; memory and start.",
    ),
    "suite": Command(
        module="benchmarks.cli_suites",
        attribute="suites",
        summary="One question each, in numbers: smoke, throughput, gateway_overhead, context, soak, failover, crowd.",
    ),
}


def application(words: Sequence[str]) -> typer.Typer:
    """The command line for these words: the command among them is imported, the others are only listed."""
    app = typer.Typer(
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,  # a traceback with variables would show keys
        help="Load, latency and truth of a site.",
    )
    called = next((word for word in words if word in COMMANDS), None)
    for name, command in COMMANDS.items():
        found = getattr(import_module(command.module), command.attribute) if name == called else _listed
        if isinstance(found, typer.Typer):
            app.add_typer(found, name=name)
        else:
            app.command(name, short_help=command.summary)(found)
    return app


def _listed() -> None:
    """Stands in the list of commands for one that was not called."""


def main() -> None:
    """Entry point: an error that the user can act on prints one line; told to end, it leaves nothing running."""
    leave_when_told()
    try:
        application(sys.argv[1:])()
    except SizingError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)

"""The verb that accepts a living site: accept. The load and the judging are `benchmarks`' affair, run as a program."""

import os
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from sizing.errors import SizingError

ACCEPT_EXAMPLES = """\b
Examples:
  llm-size accept inventories/mysite --key ~/.ssh/id_ed25519
  llm-size accept inventories/mysite --disturb --key ~/.ssh/id_ed25519
  llm-size accept inventories/mysite --quick
  llm-size accept --check acceptance/mysite-20261121T090000Z --allowed-signers allowed_signers
"""


def register(app: typer.Typer) -> None:
    """Adds the verb of this module."""
    app.command("accept", epilog=ACCEPT_EXAMPLES, short_help="Does the living site do what was agreed?")(accept_command)


def accept_command(
    *,
    site: Annotated[Path | None, typer.Argument(metavar="[SITE]", help="An inventory directory.")] = None,
    check: Annotated[
        Path | None, typer.Option(metavar="BUNDLE", help="Only check a signed bundle: whole, and who signed it.")
    ] = None,
    suite: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Only this agreed suite; may be repeated.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Minutes, shorter than agreed: accepts nothing.")] = False,
    disturb: Annotated[
        bool, typer.Option("--disturb", help="Also stop the engines of models with a declared fallback, under load.")
    ] = False,
    gateway: Annotated[
        str | None, typer.Option(metavar="URL", help="Where the gateway is for this machine. Default: as planned.")
    ] = None,
    engine: Annotated[
        str | None, typer.Option(metavar="URL", help="The engine that the gateway is compared with.")
    ] = None,
    processes: Annotated[int, typer.Option(metavar="N", min=1, help="Processes that send the load.")] = 1,
    output: Annotated[Path | None, typer.Option(metavar="DIRECTORY", help="Default: acceptance/<site>-<time>.")] = None,
    key: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="SSH key to sign with. Default: LLM_APPLIANCE_SIGNING_KEY; none: unsigned."),
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="What `llm-size calibrate` learned: speed is predicted from it."),
    ] = None,
    allowed_signers: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Who may sign. Default: LLM_APPLIANCE_ALLOWED_SIGNERS."),
    ] = None,
) -> int:
    """Does the living site do what was agreed? Writes a signed bundle with report.html, report.json and all raw data.

    Exit code 0: accepted and signed (or the checked bundle holds). 1: not. 7: the run says nothing, because the machine
    that sent the load was overloaded.
    """
    if find_spec("locust") is None or find_spec("benchmarks") is None:
        raise SizingError("accept sends load; install llm-appliance with its `benchmarks` and `deploy` extras")
    named = {
        "--check": check,
        "--gateway": gateway,
        "--engine": engine,
        "--processes": processes,
        "--output": output,
        "--key": key,
        "--calibration": calibration,
        "--allowed-signers": allowed_signers,
    }
    arguments = [str(site)] if site is not None else []
    arguments += [word for name, value in named.items() if value is not None for word in (name, str(value))]
    arguments += [word for name in suite or () for word in ("--suite", name)]
    arguments += ["--quick"] * quick + ["--disturb"] * disturb
    return _run([sys.executable, "-m", "benchmarks", "accept", *arguments])


def _run(command: list[str]) -> int:
    """Waits for the program, and hands on the signal to end: it has keys to delete on its way out."""
    with subprocess.Popen(command, env={**os.environ, "PYTHONUNBUFFERED": "1"}) as process:
        before = signal.signal(signal.SIGTERM, lambda *_: process.terminate())
        try:
            while True:
                try:
                    return process.wait()
                except KeyboardInterrupt:
                    continue  # it got the same signal, and answers to it
        finally:
            signal.signal(signal.SIGTERM, before)

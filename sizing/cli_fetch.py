"""The verb that fills the model store: fetch."""

import sys
import time
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Annotated, Self

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from sizing.cli_console import answer, say
from sizing.units import gib_text

SECONDS_BETWEEN_LINES = 10
"""Where no terminal reads, a line this often instead of a bar."""

FETCH_EXAMPLES = """\b
Examples:
  llm-size fetch Qwen/Qwen3-32B --store /srv/models
  llm-size fetch google/gemma-3-27b-it --revision 005ad34 --endpoint http://mirror.example:8080
  llm-size fetch --from-directory ./my-fine-tune my-fine-tune --store /srv/models
"""


def register(app: typer.Typer) -> None:
    """Adds the verb of this module."""
    app.command("fetch", epilog=FETCH_EXAMPLES, short_help="Put a model into the model store, pinned and checksummed.")(
        fetch_command
    )


def fetch_command(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="owner/name on the hub, or the name to adopt it under.")
    ],
    revision: Annotated[
        str | None, typer.Option(metavar="COMMIT|TAG|BRANCH", help="Default: the newest commit, which is then pinned.")
    ] = None,
    store: Annotated[Path, typer.Option(metavar="DIRECTORY", help="The site's model_store.")] = Path("models"),
    endpoint: Annotated[str | None, typer.Option(metavar="URL", help="A mirror instead of the public hub.")] = None,
    from_directory: Annotated[
        Path | None, typer.Option(metavar="DIRECTORY", help="Copy a model that is already here; nothing is fetched.")
    ] = None,
) -> None:
    """Put a model into the model store: pinned to a commit, resumable, checksummed.

    Prints the directory. Running again continues what was interrupted and changes nothing when it is complete.
    The token for a private or gated model comes from HF_TOKEN.
    """
    from sizing.fetch import adopt, fetch  # noqa: PLC0415  the hub's library takes a second that no other verb needs
    from sizing.hub import Hub  # noqa: PLC0415

    if from_directory is not None and (revision is not None or endpoint is not None):
        raise typer.BadParameter("--from-directory takes neither --revision nor --endpoint")
    try:
        with _Talk() as talk:
            if from_directory is not None:
                fetched = adopt(from_directory, model, store=store, listener=talk)
            else:
                fetched = fetch(model, revision=revision, store=store, hub=Hub(endpoint=endpoint), listener=talk)
    except KeyboardInterrupt:
        say("interrupted; the same command continues where it stopped")
        raise typer.Exit(130) from None
    what = "complete" if fetched.changed else "unchanged"
    commit = f" at commit {fetched.revision}" if fetched.revision else ""
    say(f"{what}: {model}{commit}, {gib_text(fetched.length_bytes)}")
    answer(str(fetched.directory))


class _Talk(AbstractContextManager["_Talk"]):
    """A bar on a terminal, a line now and then elsewhere; both on stderr."""

    def __init__(self) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(binary_units=True),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            disable=not sys.stderr.isatty(),
        )
        self._task = self._progress.add_task("", total=None)
        self._total_bytes = self._present_bytes = self._file_count = self._finished_count = 0
        self._told_at_seconds = time.monotonic()

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def begin(self, total_bytes: int, file_count: int) -> None:
        self._total_bytes, self._file_count = total_bytes, file_count
        say(f"{file_count} files, {gib_text(total_bytes)}")
        self._progress.update(self._task, total=total_bytes, description=f"0/{file_count} files")

    def advance(self, count_bytes: int) -> None:
        self._present_bytes += count_bytes
        self._progress.advance(self._task, count_bytes)
        now_seconds = time.monotonic()
        if self._progress.disable and now_seconds - self._told_at_seconds > SECONDS_BETWEEN_LINES:
            self._told_at_seconds = now_seconds
            say(f"{gib_text(self._present_bytes)} of {gib_text(self._total_bytes)}")

    def finished(self, path: str, length_bytes: int) -> None:
        self._finished_count += 1
        self._progress.update(self._task, description=f"{self._finished_count}/{self._file_count} files")
        if self._progress.disable:
            say(f"{self._finished_count} of {self._file_count}: {path}, {gib_text(length_bytes)}")

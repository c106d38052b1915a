"""The verb that compares the living site with its plan: verify."""

from pathlib import Path
from typing import Annotated

import typer

from sizing.cli_console import answer, human_console, say
from sizing.errors import SiteDiffers
from sizing.report_summary import summary
from sizing.verify import run

VERIFY_EXAMPLES = """\b
Examples:
  llm-size verify --site inventories/lab
  llm-size verify --site inventories/lab --report-dir /tmp/report --json
"""


def register(app: typer.Typer) -> None:
    """Adds the verb of this module."""
    app.command("verify", epilog=VERIFY_EXAMPLES, short_help="Is the living site what the plan says?")(verify_command)


def verify_command(
    site: Annotated[Path, typer.Option("--site", metavar="DIRECTORY", help="An inventory directory.")],
    observation: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Judge what was observed before, instead of observing now.")
    ] = None,
    report_dir: Annotated[
        Path | None,
        typer.Option(metavar="DIRECTORY", help="Default: <site>/reports/<time>, or beside the observation."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The report as JSON on stdout.")] = False,
) -> int:
    """Is the living site what the plan says? Writes report.json and report.html.

    Exit code 0: every check holds. 1: the site differs; each failure says what was expected, seen, and what to do.
    """
    report = run(site, observation=observation, report_directory=report_dir)
    if as_json:
        answer(report.to_json())
    else:
        human_console().print(summary(report))
    say(f"report: {_page(site, observation, report_dir)}")
    return SiteDiffers.exit_code if report.failed else 0


def _page(site: Path, observation: Path | None, report_dir: Path | None) -> Path:
    if report_dir is not None:
        return report_dir / "report.html"
    if observation is not None:
        return observation.parent / "report.html"
    dated = (page for page in (site / "reports").glob("*/report.html") if not page.parent.is_symlink())
    return max(dated, key=lambda page: page.stat().st_mtime)

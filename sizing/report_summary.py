"""Report summary: the report as a person reads it on a terminal. Failures first, each with what to do."""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from sizing.report import Check, Report

GROUPS = {
    "host": "hosts answer",
    "engine": "engines run as planned",
    "relay": "relays stand before all engines",
    "gateway": "gateway is up and locked",
    "model": "models answer, and refuse what cannot fit",
    "journal": "journals prove it",
    "spend": "spend is booked",
}
"""The groups of checks, in reading order."""


def summary(report: Report) -> RenderableType:
    """Verdict, failed checks, and one line for each group."""
    parts: list[RenderableType] = [_groups(report)]
    parts.extend(_failure(check) for check in report.failed)
    parts.append("")
    parts.append(Text(verdict_line(report), style="bold red" if report.failed else "bold green"))
    return Group(*parts)


def verdict_line(report: Report) -> str:
    """The whole report in one line."""
    all_count = len(report.checks)
    if not report.failed:
        return f"{report.site}: verified, all {all_count} checks hold"
    return f"{report.site}: {len(report.failed)} of {all_count} checks do not hold"


def _groups(report: Report) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(justify="center")
    table.add_column(justify="right")
    table.add_column()
    for group, words in GROUPS.items():
        checks = [check for check in report.checks if check.group == group]
        if not checks:
            continue
        passed_count = sum(check.verdict == "pass" for check in checks)
        whole = passed_count == len(checks)
        mark = Text("✔", style="green") if whole else Text("✘", style="bold red")
        table.add_row(mark, f"{passed_count}/{len(checks)}", words)
    return table


def _failure(check: Check) -> RenderableType:
    headline = Text.assemble(("✘ ", "bold red"), (f"{check.subject}: {check.statement}", "bold"))
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("  expected", Text(check.expected))
    table.add_row("  seen", Text(check.seen))
    table.add_row("  do", Text(check.advice))
    return Group("", headline, table)

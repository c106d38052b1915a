"""The verb guardrails: what is masked or refused, for people and for the roles guard and gateway."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from sizing.cli_console import answer, human_console
from sizing.guardrails import load_guardrails

SOCKET = "/run/guard.socket"  # roles/guard/vars/main.yml has the same place
EXAMPLES = """\b
Examples:
  llm-size guardrails inventories/lab
  llm-size guardrails inventories/lab --json
"""


def register(app: typer.Typer) -> None:
    """Adds the verb of this module."""
    app.command("guardrails", epilog=EXAMPLES, short_help="What is masked or refused, for whom?")(guardrails_command)


def guardrails_command(
    site: Annotated[Path, typer.Argument(metavar="SITE", help="An inventory directory.")],
    as_json: Annotated[bool, typer.Option("--json", help="As the roles guard and gateway take it.")] = False,
) -> None:
    """What is masked or refused, for whom? From guardrails.yml of a site; `{}` as JSON where there is none."""
    declared = load_guardrails(site)
    if as_json:
        answer(json.dumps(declared.for_service(socket=SOCKET) if declared else {}, indent=2, ensure_ascii=False))
        return
    if declared is None:
        answer(f"{site}: no guardrails.yml; nothing is masked or refused")
        return
    rows = Table("guardrail", "kind", "looks at", "does", "when it fails", "for")
    for rule in declared.rules:
        whom = ", ".join(rule.keys) or "everybody"
        whom += f" but {', '.join(rule.except_keys)}" if rule.except_keys else ""
        way = " and ".join({"in": "requests", "out": "answers"}[one] for one in rule.directions)
        rows.add_row(
            rule.name, rule.kind, way, rule.action, f"{rule.on_failure} after {rule.timeout_seconds:g} s", whom
        )
    human_console().print(rows)

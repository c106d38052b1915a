"""Command line: `python -m guard serve|check|try --config FILE`.

`serve` answers the gateway until SIGTERM; `check` loads every rule and says in one line what cannot be used; `try`
shows what one rule finds in a text on stdin, as a person reads it: `line of the text with the places masked`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from guard.errors import GuardError
from guard.rules import Rules
from guard.service import load, serve, try_out

USAGE = 2


def main() -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m guard", description="Looks at what goes into models and comes out."
    )
    parser.add_argument("act", choices=["serve", "check", "try"])
    parser.add_argument("--config", type=Path, required=True, help="the rules as the deployment wrote them")
    parser.add_argument("--rule", help="for try: the guardrail's name")
    options = parser.parse_args()
    try:
        rules = Rules.load(options.config)
        match options.act:
            case "serve":
                serve(rules)
            case "check":
                load(rules)
            case _:
                text = sys.stdin.read()
                for start, end, label in try_out(rules, str(options.rule), text):
                    print(f"{start}-{end} {label}: {text[start:end]!r}")
    except GuardError as error:
        print(f"guard: {error}", file=sys.stderr)
        return USAGE
    return 0


if __name__ == "__main__":
    sys.exit(main())

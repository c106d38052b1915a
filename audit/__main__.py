"""Command line: `python -m audit requests|changes|prompts`, with DATABASE_URL in the environment.

Rows on the output, talk on the error output. Exit status 0: done. 1: to be mended. 2: the question is not understood.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import psycopg

from audit.errors import AuditError
from audit.export import FORMATS, export
from audit.read import Question, moment, rows

_EXAMPLES = """examples:
  audit requests --since 24h --result refused --format csv
  audit requests --call 2f1c1b1e-7a55-4c3b-9f0e-3d1a2b4c5d6e
  audit changes --since 2026-11-01 --until 2026-11-30 --output changes.jsonl
"""


def main() -> int:
    """One export."""
    arguments = _parser().parse_args()
    names = ("key", "team", "model", "result", "user", "call", "object")
    filters = tuple((name, getattr(arguments, name)) for name in names if getattr(arguments, name) is not None)
    try:
        question = Question(
            about=arguments.about,
            since=moment(arguments.since) if arguments.since else None,
            until=moment(arguments.until, ends=True) if arguments.until else None,
            filters=filters,
        )
        with psycopg.connect(_database_url(), connect_timeout=5) as connection:
            connection.read_only = True
            found = rows(connection, question)
            if arguments.output is None:
                count = export(found, shape=arguments.format, to=sys.stdout, talk=sys.stderr)
            else:
                with arguments.output.open("w", encoding="utf-8", newline="") as file:
                    count = export(found, shape=arguments.format, to=file, talk=sys.stderr)
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    except (AuditError, OSError, psycopg.Error) as error:
        print(f"audit: {' '.join(str(error).split())}", file=sys.stderr)
        return 2 if isinstance(error, AuditError) else 1
    print(f"audit: {count:,} rows", file=sys.stderr)
    return 0


def _database_url() -> str:
    url = os.environ.get("DATABASE_URL")
    if not url:
        raise AuditError("DATABASE_URL is not in the environment; on a gateway host use appliance-audit")
    return url


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="audit",
        description="Who called which model, and who changed which key, team or budget.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("about", choices=("requests", "changes", "prompts"))
    parser.add_argument("--since", metavar="MOMENT", help="2026-11-01, 2026-11-01T10:00+09:00, 24h or 7d ago")
    parser.add_argument("--until", metavar="MOMENT", help="the same; a bare day counts whole")
    parser.add_argument("--key", metavar="ALIAS", help="alias or hash")
    parser.add_argument("--team", metavar="TEAM", help="id or alias")
    parser.add_argument("--user", metavar="USER", help="user of the key, or end user")
    parser.add_argument("--model", metavar="MODEL")
    results = ("completed", "cached", "cut", "failed", "refused", "lost", "administered")
    parser.add_argument("--result", choices=results)
    parser.add_argument("--call", metavar="ID", help="the x-litellm-call-id that the client read")
    parser.add_argument("--object", metavar="NAME", help="changes: the key, team, user or budget")
    parser.add_argument("--format", choices=FORMATS, default="jsonl")
    parser.add_argument("--output", type=Path, metavar="FILE", help="default: the standard output")
    return parser


if __name__ == "__main__":
    sys.exit(main())

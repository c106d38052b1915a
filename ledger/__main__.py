"""Command line: `python -m ledger --config /etc/litellm/ledger.json`, with DATABASE_URL in the environment.

`python -m ledger report --help` says how to ask who used what.

Exit status 0: reconciled. 75: PostgreSQL is away, or another run is under way; the next run does it. 1: to be mended.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from ledger.alerts import Told, tell
from ledger.configuration import Configuration
from ledger.errors import DatabaseAway, LedgerError
from ledger.receivers import receivers_of
from ledger.reconcile import connected, reconcile
from ledger.report import line, metrics, write_metrics
from ledger.usage_command import report

TRY_AGAIN = 75


def main() -> int:
    """One reconciliation, or one report."""
    parser = argparse.ArgumentParser(prog="ledger", description="Books what relays and gateways wrote down.")
    parser.add_argument("--config", type=Path, required=True)
    try:
        if sys.argv[1:2] == ["report"]:
            return report(sys.argv[2:])
        arguments = parser.parse_args()
        configuration = Configuration.load(arguments.config)
        with connected(configuration, database_url=_database_url()) as connection:
            summary = reconcile(connection, configuration)
            sums = metrics(connection, summary, host=configuration.host)
            receivers = receivers_of(configuration.alerts_path)
            told = Told()
            if receivers:
                told = tell(connection, receivers, host=configuration.host, currency=configuration.currency)
        # The node exporter's directory is there where the node exporter is.
        if configuration.metrics_path is not None and configuration.metrics_path.parent.is_dir():
            write_metrics(configuration.metrics_path, sums)
    except DatabaseAway as error:
        print(f"ledger: {error}", file=sys.stderr)
        return TRY_AGAIN
    except (LedgerError, OSError) as error:
        print(f"ledger: {error}", file=sys.stderr)
        return 1
    for text in (*told.noticed, *(f"told {one}" for one in told.delivered), *told.failed):
        print(f"ledger: {text}", file=sys.stderr)
    for repair in summary.repairs:
        print(f"ledger: {repair.request}: {repair.tokens} tokens {repair.kind} in LiteLLM, put right", file=sys.stderr)
    if summary.booked or summary.repairs or summary.damaged_lines:
        print(f"ledger: {line(summary)}", file=sys.stderr)
    return 0


def _database_url() -> str:
    url = os.environ.get("DATABASE_URL")
    if not url:
        raise LedgerError("DATABASE_URL is not in the environment")
    return url


if __name__ == "__main__":
    sys.exit(main())

"""`python -m ledger report`: usage of a month or of some days, on stdout or as files; for a timer and for people."""

from __future__ import annotations

import argparse
import os
import sys
from datetime import UTC, date, datetime
from pathlib import Path

import psycopg

from ledger.book import prepare
from ledger.configuration import Configuration
from ledger.errors import DatabaseAway, LedgerError
from ledger.usage import Period, usage_of, zone_of
from ledger.usage_files import csv_text, html_text, json_text, write_files

CONNECT_SECONDS = 5
TEXTS = {"csv": csv_text, "json": json_text, "html": html_text}


def report(arguments: list[str]) -> int:
    """One report."""
    parser = argparse.ArgumentParser(
        prog="ledger report", description="Who used what: by team, key, model, tag and day."
    )
    parser.add_argument("--config", type=Path, required=True, help="ledger.json, for the currency and the time zone")
    parser.add_argument("--month", help="2026-10, this or last (the default)")
    parser.add_argument("--from", dest="first", type=_day, help="the first day, instead of a month")
    parser.add_argument("--to", dest="last", type=_day, help="the last day, with --from")
    parser.add_argument("--time-zone", help="of the days; default: the site's")
    parser.add_argument("--format", choices=sorted(TEXTS), help="on stdout")
    parser.add_argument("--directory", type=Path, help="write usage-<period>.csv, .json and .html there")
    given = parser.parse_args(arguments)
    if (given.format is None) == (given.directory is None):
        parser.error("give --format or --directory")
    if (given.first is None) != (given.last is None) or (given.first is not None and given.month is not None):
        parser.error("give --month, or --from with --to")
    configuration = Configuration.load(given.config)
    zone = given.time_zone or configuration.time_zone
    zone_of(zone)
    now = datetime.now(UTC)
    if given.first is not None:
        if given.last < given.first:
            parser.error(f"--to {given.last} lies before --from {given.first}")
        period = Period(first=given.first, last=given.last, time_zone=zone)
    else:
        period = Period.of_month(given.month or "last", time_zone=zone, now=now)
    url = os.environ.get("DATABASE_URL")
    if not url:
        raise LedgerError("DATABASE_URL is not in the environment")
    try:
        with psycopg.connect(url, connect_timeout=CONNECT_SECONDS, autocommit=True) as connection:
            prepare(connection)
            usage = usage_of(connection, period, currency=configuration.currency, now=now)
    except psycopg.OperationalError as error:
        raise DatabaseAway(f"PostgreSQL: {' '.join(str(error).split())}; ask again when it is back") from None
    if given.directory is not None:
        for path in write_files(usage, given.directory):
            print(path)
    else:
        sys.stdout.write(TEXTS[given.format](usage))
    return 0


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no day like 2026-10-31") from None

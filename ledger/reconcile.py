"""One run: reads what is new in every segment of this host, books it, puts LiteLLM's log right, tidies up.

Relays are read before gateways and booked after them: whoever a relay's record belongs to was written down before the
request left the gateway, so the caller is known by then.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from audit import write as audit
from ledger import book
from ledger.compare import Repair, compare
from ledger.configuration import Configuration
from ledger.errors import DatabaseAway, LedgerError
from ledger.records import Caller, Usage, is_priced, usage_of_provider, usage_of_relay
from relay.ledger_reader import Reading, is_in_use, read, segments

CONNECT_SECONDS = 5
CALLERS_KEPT_DAYS = 7


@dataclass(kw_only=True)
class Summary:
    """What one run did."""

    booked: list[Usage] = field(default_factory=list)
    repairs: list[Repair] = field(default_factory=list)
    unattributed_tokens: int = 0
    unpriced_tokens: int = 0
    damaged_lines: int = 0
    deleted_segments: int = 0
    unread_bytes: int = 0
    cache_asked: int = 0
    cache_hits: int = 0


@contextmanager
def connected(configuration: Configuration, *, database_url: str) -> Iterator[book.Connection]:
    """The database, for this host's one reconciliation at a time."""
    try:
        with psycopg.connect(database_url, connect_timeout=CONNECT_SECONDS, autocommit=True) as connection:
            book.prepare(connection)
            name = f"appliance.reconcile {configuration.host}"
            row = connection.execute("SELECT pg_try_advisory_lock(hashtext(%s))", (name,)).fetchone()
            if row is None or not row[0]:
                raise LedgerError(
                    f"another reconciliation of {configuration.host} is under way; it does what this one would"
                )
            yield connection
    except psycopg.OperationalError as error:
        reason = " ".join(str(error).split())
        raise DatabaseAway(f"PostgreSQL: {reason}; the segments keep what is to be booked") from None


def reconcile(connection: book.Connection, configuration: Configuration) -> Summary:
    """The whole run. When the database goes away, nothing is lost: the next run reads on."""
    return _Run(configuration, connection).all()


class _Run:
    def __init__(self, configuration: Configuration, connection: book.Connection) -> None:
        self._configuration = configuration
        self._connection = connection
        self._summary = Summary()

    def all(self) -> Summary:
        while True:
            of_relays = self._unread(self._configuration.relay_directory)
            progressed = bool(of_relays)
            while of_gateways := self._unread(self._configuration.identity_directory):
                progressed = True
                for path, reading in of_gateways:
                    self._read_gateway(path, reading)
            for path, reading in of_relays:
                self._book_relay(path, reading)
            self._book_unclaimed()
            if not progressed:
                break
        configuration = self._configuration
        self._summary.repairs = compare(
            self._connection, host=configuration.host, grace_seconds=configuration.grace_seconds
        )
        self._tidy()
        return self._summary

    def _unread(self, directory: Path) -> list[tuple[Path, Reading]]:
        found = []
        for path in segments(directory):
            offset = book.offset_of(self._connection, host=self._configuration.host, path=str(path))
            if path.stat().st_size == offset:
                continue
            reading = read(path, offset=offset)
            if reading.next_offset != offset:
                found.append((path, reading))
        return found

    def _read_gateway(self, path: Path, reading: Reading) -> None:
        begun = [record for record in reading.records if record.get("kind") == "begin"]
        ended = [record for record in reading.records if record.get("kind") == "end"]
        with self._connection.transaction():
            book.add_callers(self._connection, map(Caller.of, begun))
            noted = [record for record in reading.records if record.get("kind") == "noted"]
            audit.add_noted(self._connection, noted, host=self._configuration.host)
            audit.add_prompts(self._connection, [one for one in reading.records if one.get("kind") == "prompt"])
            book.name_spend_logs(self._connection, [(end["request"], end["spend_log_id"]) for end in ended])
            self._book([usage_of_provider(end) for end in ended if end["billed_by"] == "provider"])
            self._done(path, reading)
        caching = [end["cache"] for end in ended if end.get("cache")]
        self._summary.cache_asked += len(caching)
        self._summary.cache_hits += caching.count("hit")

    def _book_relay(self, path: Path, reading: Reading) -> None:
        ended = [record for record in reading.records if record.get("kind") == "end"]
        with self._connection.transaction():
            callers = book.callers_of(self._connection, [end["request"] for end in ended])
            self._book_records([end for end in ended if end["request"] in callers])
            strangers = [end for end in ended if end["request"] not in callers]
            book.hold_back(self._connection, strangers, host=self._configuration.host)
            self._done(path, reading)

    def _book_unclaimed(self) -> None:
        configuration = self._configuration
        with self._connection.transaction():
            records = book.take_unclaimed(
                self._connection, host=configuration.host, older_than_seconds=configuration.unclaimed_seconds
            )
            self._book_records(records)

    def _book_records(self, records: Sequence[dict[str, Any]]) -> None:
        prices = self._configuration.prices
        self._book([usage_of_relay(record, prices) for record in records])
        self._summary.unpriced_tokens += sum(
            record["prompt_tokens"] + record["completion_tokens"] for record in records if not is_priced(record, prices)
        )

    def _book(self, usages: Sequence[Usage]) -> None:
        callers = book.callers_of(self._connection, [usage.request for usage in usages])
        new = book.book(self._connection, usages, callers, host=self._configuration.host)
        self._summary.booked += new
        self._summary.unattributed_tokens += sum(
            usage.prompt_tokens + usage.completion_tokens for usage in new if usage.request not in callers
        )

    def _done(self, path: Path, reading: Reading) -> None:
        self._summary.damaged_lines += reading.damaged_lines
        book.set_offset(
            self._connection, host=self._configuration.host, path=str(path), next_offset=reading.next_offset
        )

    def _tidy(self) -> None:
        """Takes away segments that are read to their end, closed and old, and callers nobody will ask for."""
        audit.add_lost(self._connection)
        host, oldest = self._configuration.host, time.time() - self._configuration.retention_days * 86400
        for directory in (self._configuration.relay_directory, self._configuration.identity_directory):
            for path in segments(directory):
                state = path.stat()
                unread = state.st_size - book.offset_of(self._connection, host=host, path=str(path))
                self._summary.unread_bytes += max(0, unread)
                if unread == 0 and state.st_mtime < oldest and not is_in_use(path):
                    path.unlink()
                    self._connection.execute(
                        "DELETE FROM appliance.segment WHERE host = %s AND path = %s", (host, str(path))
                    )
                    self._summary.deleted_segments += 1
        self._connection.execute(
            "DELETE FROM appliance.caller WHERE begun_at < now() - make_interval(days => %s)", (CALLERS_KEPT_DAYS,)
        )

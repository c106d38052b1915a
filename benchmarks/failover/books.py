"""Books: what clients were told they used, held against what others counted, by request where ids are known.

A request that failed for its client has no count there; it is left out where the book knows ids, and named otherwise.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.history import History
from benchmarks.metrics import usage_of
from benchmarks.record import OK

POLL_SECONDS = 0.5
Tokens = tuple[int, int]  # prompt, completion
NOTHING: Tokens = (0, 0)


@dataclass(frozen=True, kw_only=True)
class Book:
    """Somebody who counts: the relay's ledger, the gateway's spend."""

    name: str
    read: Callable[[], Mapping[str, Tokens]]  # request id -> what it used
    ids_of_client: bool = True  # else only totals can be compared
    settle_seconds: float = 5.0  # how late it may write


@dataclass(frozen=True, kw_only=True)
class Account:
    """One book beside the clients."""

    book: str
    clients_tokens: int
    book_tokens: int
    requests: int
    differing: tuple[str, ...]  # request ids; of a book without them, "total"

    @property
    def equal(self) -> bool:
        """To the token."""
        return not self.differing and self.clients_tokens == self.book_tokens

    @property
    def sentence(self) -> str:
        """What was found."""
        found = f"{self.book_tokens} of {self.clients_tokens} tokens in {self.requests} requests"
        return found + (f"; {len(self.differing)} differ, first: {self.differing[0]}" if self.differing else "")


def counted_by_clients(history: History) -> dict[str, Tokens]:
    """Request id -> tokens as the answer said, of every request that ended well."""
    counts = {}
    for record in history.records:
        if record.outcome == OK:
            usage = usage_of(record)
            counts[record.request_id] = (int(usage.get("prompt_tokens", 0)), int(usage.get("completion_tokens", 0)))
    return counts


class Audit:
    """Opens before a run, closes after it."""

    def __init__(self, books: Sequence[Book]) -> None:
        self._books = books
        self._before = {book.name: set(book.read()) for book in books}

    def close(self, history: History) -> list[Account]:
        """Every book beside the clients, once it agrees or has had its time."""
        clients = counted_by_clients(history)
        return [self._settled(book, clients) for book in self._books]

    def _settled(self, book: Book, clients: Mapping[str, Tokens]) -> Account:
        deadline = time.monotonic() + book.settle_seconds
        while True:
            fresh = {key: value for key, value in book.read().items() if key not in self._before[book.name]}
            found = compare(book, clients, fresh)
            if found.equal or time.monotonic() > deadline:
                return found
            time.sleep(POLL_SECONDS)


def compare(book: Book, clients: Mapping[str, Tokens], entries: Mapping[str, Tokens]) -> Account:
    """Clients' counts against a book's."""
    if book.ids_of_client:
        entries = {key: entries.get(key, NOTHING) for key in clients}
        differing = tuple(key for key, tokens in clients.items() if tokens != entries[key])
    else:
        differing = () if _sums(clients) == _sums(entries) else ("total",)
    return Account(
        book=book.name,
        clients_tokens=sum(_sums(clients)),
        book_tokens=sum(_sums(entries)),
        requests=len(clients),
        differing=differing,
    )


def _sums(counts: Mapping[str, Tokens]) -> Tokens:
    return sum(tokens[0] for tokens in counts.values()), sum(tokens[1] for tokens in counts.values())

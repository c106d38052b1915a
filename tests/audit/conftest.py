"""One PostgreSQL for every test of the audit, a database for each."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest

from tests.audit.database import OwnedDatabase
from tests.prisma_engine.postgres import PostgresServer, find_binaries


@pytest.fixture(scope="session")
def server() -> Iterator[PostgresServer]:
    if find_binaries() is None:
        pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
    made = PostgresServer.create()
    try:
        made.start()
        yield made
    finally:
        made.remove()


@pytest.fixture
def database(server: PostgresServer) -> OwnedDatabase:
    return OwnedDatabase.make(server, f"audit_{secrets.token_hex(4)}")

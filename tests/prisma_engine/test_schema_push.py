"""push.mjs: what it applies, what it only shows, what it refuses."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.prisma_engine.postgres import PASSWORD, PostgresServer

HERE = Path(__file__).parent
Push = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def push(engine_directory: Path, postgres: PostgresServer, node: str) -> Iterator[Push]:
    """Runs push.mjs against an empty database of its own."""
    postgres.sql("postgres", "DROP DATABASE IF EXISTS fresh")
    postgres.sql("postgres", "CREATE DATABASE fresh")

    def run(*options: str, url: str = postgres.url("fresh"), schema: Path = HERE / "schema.prisma") -> object:
        command = [node, str(engine_directory / "push.mjs"), str(schema), *options]
        return subprocess.run(
            command, env=os.environ | {"DATABASE_URL": url}, capture_output=True, text=True, timeout=60, check=False
        )

    yield run  # type: ignore[misc]
    postgres.sql("postgres", "DROP DATABASE fresh")


def test_a_push_applies_everything_once(push: Push, postgres: PostgresServer) -> None:
    shown = push("--check")
    first = push()
    second = push()
    checked = push("--check")

    assert shown.returncode == 3
    assert 'CREATE TABLE "Sample"' in shown.stdout
    assert shown.stdout.rstrip().endswith(";")
    assert first.returncode == 0
    assert int(first.stdout.removesuffix(" steps executed\n")) > 5
    assert (second.returncode, second.stdout) == (0, "0 steps executed\n")
    assert (checked.returncode, checked.stdout) == (0, "the database has this schema\n")
    assert postgres.sql("fresh", 'SELECT count(*) FROM "DailySpend"') == "0"


def test_a_check_changes_nothing(push: Push, postgres: PostgresServer) -> None:
    push("--check")

    assert postgres.sql("fresh", "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == "0"


def test_data_are_not_lost_without_consent(push: Push, postgres: PostgresServer) -> None:
    push()
    postgres.sql("fresh", 'ALTER TABLE "Team" ADD COLUMN note text')
    postgres.sql("fresh", "INSERT INTO \"Team\" VALUES ('t', 'T', 'precious')")

    refused = push()

    assert refused.returncode == 1
    assert refused.stderr.startswith("schema push: would lose data: You are about to drop the column `note`")
    assert len(refused.stderr.splitlines()) == 1
    assert postgres.sql("fresh", 'SELECT note FROM "Team"') == "precious"
    assert push("--accept-data-loss").returncode == 0
    assert postgres.sql("fresh", 'SELECT * FROM "Team"') == "t|T"


def test_two_pushes_at_once_wait_for_each_other(push: Push, engine_directory: Path, postgres: PostgresServer) -> None:
    command = ["node", str(engine_directory / "push.mjs"), str(HERE / "schema.prisma")]
    environment = os.environ | {"DATABASE_URL": postgres.url("fresh")}

    both = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = sorted(process.communicate(timeout=60)[0] for process in both)

    assert [process.returncode for process in both] == [0, 0]
    assert outputs[0] == "0 steps executed\n"
    assert push("--check").returncode == 0


@pytest.mark.parametrize(
    ("url", "line"),
    [
        ("postgresql://u:s3cret@127.0.0.1:1/x", "schema push: Can't reach database server at `127.0.0.1:1`"),
        ("nonsense s3cret", "schema push: DATABASE_URL is not a URL"),
    ],
)
def test_an_unreachable_database_is_one_line(push: Push, url: str, line: str) -> None:
    done = push(url=url)

    assert done.returncode == 1
    assert done.stderr.startswith(line)
    assert len(done.stderr.splitlines()) == 1
    assert "s3cret" not in done.stderr


def test_wrong_credentials_are_one_line_without_them(push: Push, postgres: PostgresServer) -> None:
    done = push(url=postgres.url("fresh").replace("p%40ss", "wrong"))

    assert done.returncode == 1
    assert done.stderr.startswith("schema push: Authentication failed against database server at `127.0.0.1`")
    assert PASSWORD not in done.stderr


def test_wrong_usage_has_a_status_of_its_own(push: Push) -> None:
    assert push("--unknown").returncode == 2
    assert push("another.prisma").returncode == 2
    assert push(url="").returncode == 2


def test_a_schema_that_does_not_parse_is_refused(push: Push, tmp_path: Path, postgres: PostgresServer) -> None:
    broken = tmp_path / "broken.prisma"
    broken.write_text('datasource db {\n  provider = "postgresql"\n}\nmodel A {\n  id Ghost @id\n}\n')

    done = push(schema=broken)

    assert done.returncode == 1
    assert done.stderr.startswith("schema push: ")
    assert postgres.sql("fresh", "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == "0"

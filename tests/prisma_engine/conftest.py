"""What the engine's tests stand on: the built archive, a PostgreSQL of their own, and the real Python client.

Nothing here is a stand-in. The client is prisma-client-py of the gateway's lock file, generated for `schema.prisma`.
Its packages that the project itself does not use go into a folder of the cache, not into the project's environment.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import inspect
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.prisma_engine.postgres import PostgresServer, find_binaries
from tools import prisma_engine

HERE = Path(__file__).parent
LOCK = HERE.parent.parent / "roles" / "gateway" / "files" / "requirements-gateway.txt"
CLIENT_PACKAGES = ("prisma", "click", "nodeenv", "python-dotenv", "tomlkit")  # the project has the client's other needs
LOOP = asyncio.new_event_loop()


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Runs coroutine tests on one loop for the whole session, because a connected client belongs to its loop."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    LOOP.run_until_complete(pyfuncitem.obj(**arguments))
    return True


@pytest.fixture(scope="session")
def node() -> str:
    """The node to test with; PRISMA_ENGINE_TEST_NODE names another than the one on PATH."""
    found = os.environ.get("PRISMA_ENGINE_TEST_NODE") or shutil.which("node")
    if found is None:
        pytest.skip("node is not installed (apt-get install nodejs)")
    return found


@pytest.fixture(scope="session")
def engine_directory() -> Iterator[Path]:
    """The archive as a gateway host unpacks it, at a place that every user can read."""
    try:
        archive = prisma_engine.build()
    except prisma_engine.PrismaEngineError as error:
        pytest.skip(f"the Prisma engine is not in the cache and cannot be built here: {error}")
    with tempfile.TemporaryDirectory(prefix="prisma-engine-test-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        # tar itself: the safe extraction of Python's module came with 3.11.4, Debian 12 has 3.11.2
        subprocess.run(["tar", "-xzf", str(archive), "--no-same-owner", "-C", str(directory)], check=True)
        yield directory / prisma_engine.ARCHIVE_ROOT


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A server of Debian's PostgreSQL on a free loopback port, gone after the tests."""
    if find_binaries() is None:
        pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
    server = PostgresServer.create()
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture(scope="session")
def environment(engine_directory: Path, postgres: PostgresServer, node: str) -> dict[str, str]:
    """The role's environment file, with this directory in place of the installed one, and where the database is."""
    lines = (engine_directory / "prisma-engine.env").read_text().splitlines()
    pairs = (line.split("=", 1) for line in lines if line and not line.startswith("#"))
    installed = "/opt/litellm/current/prisma-engine"
    variables = {name: value.replace(installed, str(engine_directory)) for name, value in pairs}
    path = f"{Path(node).parent}:{os.environ['PATH']}"
    url = postgres.url("test", parameters="connection_limit=10&pool_timeout=10")
    return variables | {"PATH": path, "DATABASE_URL": url}


def locked_requirements(names: tuple[str, ...]) -> str:
    """These packages' entries of the gateway's lock, hashes included."""
    entries = re.split(r"^(?=[a-z0-9])", LOCK.read_text(), flags=re.MULTILINE)
    return "".join(entry for entry in entries if entry.split("==")[0].split("[")[0] in names)


@pytest.fixture(scope="session")
def client_packages() -> Path:
    """A folder of the cache with the client's packages, from the gateway's lock."""
    lock_digest = hashlib.sha256(LOCK.read_bytes()).hexdigest()[:12]
    folder = prisma_engine.cache_directory().parent / "tests" / f"prisma-client-{lock_digest}"
    if not (folder / ".complete").exists():
        folder.mkdir(parents=True, exist_ok=True)
        requirements = folder / "requirements.txt"
        requirements.write_text(locked_requirements(CLIENT_PACKAGES))
        pip = [sys.executable, "-m", "pip"] if importlib.util.find_spec("pip") else ["pip"]
        install = ["install", "--quiet", "--no-deps", "--require-hashes", "--target", folder, "-r", requirements]
        done = subprocess.run([*pip, *install], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            pytest.skip(f"prisma-client-py cannot be installed here: {done.stderr.strip().splitlines()[-1]}")
        (folder / ".complete").touch()
    return folder


@pytest.fixture(scope="session")
def prisma_client(
    client_packages: Path, environment: dict[str, str], engine_directory: Path, tmp_path_factory: pytest.TempPathFactory
) -> Any:
    """The generated client, as a module, in a database that holds its schema."""
    directory = tmp_path_factory.mktemp("client")
    schema = directory / "schema.prisma"
    shutil.copyfile(HERE / "schema.prisma", schema)
    os.environ.update(environment)
    python_path = os.pathsep.join(path for path in [*sys.path, str(client_packages)] if path)
    script = directory / "prisma-client-py"  # the generator that the schema names, found on PATH
    script.write_text(f"#!/bin/sh\nexec {sys.executable} -m prisma\n")
    script.chmod(0o755)
    generating = os.environ | {"PYTHONPATH": python_path, "PATH": f"{directory}:{environment['PATH']}"}
    for command in (
        [sys.executable, "-m", "prisma", "generate", "--schema", str(schema)],
        ["node", str(engine_directory / "push.mjs"), str(schema)],
    ):
        done = subprocess.run(command, env=generating, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    sys.path.append(str(client_packages))
    sys.path.insert(0, str(directory / "generated"))
    import prisma_client  # type: ignore[import-not-found]

    return prisma_client


@pytest.fixture(scope="session")
def connected(prisma_client: Any) -> Iterator[Any]:
    """One client for all tests that do not harm it."""
    client = prisma_client.Prisma()
    LOOP.run_until_complete(client.connect())
    yield client
    LOOP.run_until_complete(client.disconnect())


@pytest.fixture
def db(connected: Any, postgres: PostgresServer) -> Any:
    """The connected client in an empty database."""
    postgres.sql("test", 'TRUNCATE users, "Team", "Post", "Profile", "Sample", "DailySpend" CASCADE')
    return connected

"""The gateway as on a host, in processes of this machine: LiteLLM of the lock file, with the role's own configuration.

The virtual environment comes from the wheelhouse of `make artifacts` and stays in the cache.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.prisma_engine.postgres import PostgresServer
from tools import prisma_engine

ROOT = Path(__file__).resolve().parents[2]
FILES = ROOT / "roles" / "gateway" / "files"
LOCK = FILES / "requirements-gateway.txt"
START_SECONDS = 420.0
MASTER_KEY = f"sk-{secrets.token_hex(12)}"
INSTALLED = "/opt/litellm/current/prisma-engine"


class Unavailable(Exception):
    """What has to be there before these tests can run."""


def lock_digest() -> str:
    return hashlib.sha256(LOCK.read_bytes()).hexdigest()[:12]


def virtual_environment() -> Path:
    """The gateway's packages, installed once for each lock file."""
    cache = prisma_engine.cache_directory().parent
    wheels = cache / "wheelhouse" / f"gateway-{lock_digest()}"
    if not wheels.is_dir():
        raise Unavailable(f"{wheels} is missing: make artifacts")
    place = cache / "tests" / f"gateway-{lock_digest()}"
    if not (place / ".complete").exists():
        shutil.rmtree(place, ignore_errors=True)
        run([sys.executable, "-m", "venv", str(place)])
        run([str(place / "bin" / "pip"), "install", "--quiet", "--no-index", "--find-links", str(wheels), "--no-deps",
             "--require-hashes", "--requirement", str(LOCK)])  # fmt: skip
        (place / ".complete").touch()
    return place


def run(command: Sequence[str], *, environment: Mapping[str, str] | None = None, check: bool = True) -> str:
    done = subprocess.run(command, env=dict(environment or os.environ), capture_output=True, text=True, check=False)
    assert not check or done.returncode == 0, f"{command}: {done.stdout[-2000:]} {done.stderr[-4000:]}"
    return done.stdout + done.stderr


def unpack_engine(directory: Path) -> dict[str, str]:
    """Prisma's engines, and the environment the role starts the gateway with."""
    try:
        archive = prisma_engine.build()
    except prisma_engine.PrismaEngineError as error:
        raise Unavailable(f"the Prisma engine is not in the cache and cannot be built here: {error}") from error
    run(["tar", "-xzf", str(archive), "--no-same-owner", "-C", str(directory)])
    place = directory / prisma_engine.ARCHIVE_ROOT
    lines = (place / "prisma-engine.env").read_text().splitlines()
    pairs = (line.split("=", 1) for line in lines if line and not line.startswith("#"))
    return {name: value.replace(INSTALLED, str(place)) for name, value in pairs}


def install_schema(environment: Mapping[str, str], venv: Path) -> None:
    """Generates the database client (once) and pushes LiteLLM's schema."""
    site = next((venv / "lib").glob("python3*/site-packages"))
    schema = site / "litellm" / "proxy" / "schema.prisma"
    client_marker = venv / f".client-{prisma_engine.build().name}"
    if not client_marker.exists():
        run([str(venv / "bin" / "prisma"), "generate", "--schema", str(schema)], environment=environment)
        client_marker.touch()
    push = Path(environment["PRISMA_BINARY_CACHE_DIR"]) / "push.mjs"
    run(["node", str(push), str(schema)], environment=environment)


def lay_out_library(directory: Path) -> Path:
    """/opt/litellm/lib as the role fills it."""
    library = directory / "lib"
    for package in ("relay", "ledger", "audit"):
        shutil.copytree(ROOT / package, library / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in (
        *("prompt_ruler.py", "chat_forms.py", "token_window.py", "identity_ledger.py", "outage_budget.py"),
        *("data_fence.py", "front_page.py", "budget_advice.py"),
        *("audit_lines.py", "request_limit.py", "response_cache.py", "quick_requests.py"),
        *("plain_text.py", "plain_chunks.py"),
    ):
        if (FILES / name).exists():
            shutil.copyfile(FILES / name, library / name)
    return library


@dataclass(frozen=True)
class Answer:
    status: int
    body: str
    headers: dict[str, str]

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def ask(url: str, body: Mapping[str, Any] | None = None, *, key: str = MASTER_KEY, seconds: float = 60,
        headers: Mapping[str, str] | None = None) -> Answer:  # fmt: skip
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    data = json.dumps(body).encode() if body is not None else None
    given = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"} | dict(headers or {})
    request = urllib.request.Request(url, data=data, headers=given)  # noqa: S310  (loopback)
    try:
        with opener.open(request, timeout=seconds) as response:
            return Answer(response.status, response.read().decode(), dict(response.headers))
    except urllib.error.HTTPError as error:
        return Answer(error.code, error.read().decode(), dict(error.headers))


@dataclass(kw_only=True)
class Program:
    """A process of ours; ended by its id, with everything it started."""

    process: subprocess.Popen[bytes]
    log: Path

    def end(self, number: int = signal.SIGTERM) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)
        try:
            self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(timeout=10)


def start(command: Sequence[str], *, log: Path, environment: Mapping[str, str], directory: Path) -> Program:
    with log.open("ab") as file:
        process = subprocess.Popen(command, cwd=directory, env=dict(environment), stdin=subprocess.DEVNULL, stdout=file,
                                   stderr=file, start_new_session=True)  # fmt: skip
    return Program(process=process, log=log)


@dataclass(kw_only=True)
class Gateway:
    """LiteLLM with PostgreSQL, and Redis when there is one."""

    directory: Path
    venv: Path
    environment: dict[str, str]
    config: Path
    port: int
    workers: int = 1
    options: Sequence[str] = ()
    program: Program | None = field(default=None)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        command = [str(self.venv / "bin" / "litellm"), "--config", str(self.config), "--host", "127.0.0.1",
                   "--port", str(self.port), "--num_workers", str(self.workers), *self.options]  # fmt: skip
        log = self.directory / "litellm.log"
        self.program = start(command, log=log, environment=self.environment, directory=self.directory)
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            assert self.program.process.poll() is None, log.read_text()[-4000:]
            with contextlib.suppress(OSError):
                if ask(f"{self.address}/health/readiness", seconds=5).status == 200:
                    return
            time.sleep(0.3)
        raise AssertionError(f"LiteLLM was not ready within {START_SECONDS} s: {log.read_text()[-4000:]}")

    def workers_of(self) -> list[int]:
        """The processes that serve: Python processes below the one that was started, or that one itself."""
        assert self.program is not None
        parent = self.program.process.pid
        children = [
            int(path.parent.name)
            for path in Path("/proc").glob("[0-9]*/stat")
            if _parent_of(path) == parent and b"spawn_main" in (path.parent / "cmdline").read_bytes()
        ]
        return children or [parent]

    def wait_for_workers(self, count: int) -> None:
        """Until a worker that died has a successor with its database engine: a start needs the database."""
        deadline = time.monotonic() + START_SECONDS
        while sum(_has_engine(worker) for worker in self.workers_of()) < count:
            assert time.monotonic() < deadline
            time.sleep(0.5)
        time.sleep(5)

    def kill(self) -> None:
        """kill -9 of everything of the gateway, as loss of its host would."""
        assert self.program is not None
        self.program.end(signal.SIGKILL)

    def post(self, path: str, body: Mapping[str, Any], **options: Any) -> Answer:
        return ask(f"{self.address}{path}", body, **options)

    def make_key(self, **wishes: Any) -> str:
        answer = self.post("/key/generate", wishes)
        assert answer.status == 200, answer.body
        return str(answer.json["key"])


def _has_engine(worker: int) -> bool:
    return any(_parent_of(path) == worker for path in Path("/proc").glob("[0-9]*/stat"))


def _parent_of(stat: Path) -> int | None:
    try:
        return int(stat.read_text().rsplit(")", 1)[1].split()[1])
    except (OSError, IndexError, ValueError):
        return None


def environment_of(*, directory: Path, venv: Path, prisma: Mapping[str, str], postgres: PostgresServer,
                   redis_port: int | None) -> dict[str, str]:  # fmt: skip
    library = lay_out_library(directory)
    node = shutil.which("node")
    if node is None:
        raise Unavailable("node is not installed (apt-get install nodejs)")
    variables = {
        "PATH": f"{venv}/bin:{Path(node).parent}:/usr/bin:/bin",
        "HOME": str(directory),
        "PYTHONPATH": str(library),
        "DATABASE_URL": postgres.url("test"),
        "LITELLM_MASTER_KEY": MASTER_KEY,
        "LITELLM_SALT_KEY": f"sk-{secrets.token_hex(12)}",
        "VLLM_API_KEY": secrets.token_hex(12),
        "TOKEN_WINDOW_CONFIG": str(directory / "token_window.json"),
        "RESPONSE_CACHE_CONFIG": str(directory / "response_cache.json"),
        "IDENTITY_LEDGER_CONFIG": str(directory / "ledger.json"),
        "FRONT_PAGE_DIRECTORY": str(directory / "front-page"),
        "DOCS_URL": "/docs",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "HF_HUB_OFFLINE": "1",
        "DISABLE_SCHEMA_UPDATE": "true",
        "LITELLM_LOG": "WARNING",
        "REPEATED_STREAMING_CHUNK_LIMIT": "1000000",
    }
    if redis_port is not None:
        variables |= {"REDIS_HOST": "127.0.0.1", "REDIS_PORT": str(redis_port)}
    return {**prisma, **variables}

"""A real gateway on loopback: the locked LiteLLM with Prisma's engine, PostgreSQL and Redis, before a null server.

LiteLLM is installed from the wheelhouse of its lock into a folder of the cache, once per lock. Nothing is a stand-in
but the engine behind it.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.prisma_engine.postgres import PostgresServer, find_binaries, free_port
from tools import prisma_engine

ROOT = Path(__file__).resolve().parents[2]
LOCK = ROOT / "roles" / "gateway" / "files" / "requirements-gateway.txt"
HOST_PYTHON = Path("/usr/bin/python3.11")  # the lock is resolved for Debian's own
START_SECONDS = 300.0
END_SECONDS = 15.0
MODELS = ("alpha", "beta")
ENGINE_NAMES = {"alpha": "alpha", "beta": "beta", "slow": "slow?ttft_ms=2000"}  # the null server does as its name asks
PARALLEL_REQUESTS = 12  # over the whole gateway
PRICE = 0.001  # per token, in and out


@dataclass(frozen=True, kw_only=True)
class LivingGateway:
    """Where it listens, and its master key."""

    url: str
    master_key: str
    dashboard_password: str
    postgres: PostgresServer
    log: Path

    def chat(self, key: str, *, model: str = "alpha", max_tokens: int = 2, **more: Any) -> httpx.Response:
        """One short chat as a client sends it."""
        body = {"model": model, "max_tokens": max_tokens, "messages": [{"role": "user", "content": "Hello"}], **more}
        headers = {"Authorization": f"Bearer {key}"}
        return httpx.post(f"{self.url}/v1/chat/completions", json=body, headers=headers, timeout=60, trust_env=False)

    def ask(self, path: str, **parameters: Any) -> Any:
        """What the administrator reads."""
        headers = {"Authorization": f"Bearer {self.master_key}"}
        answer = httpx.get(f"{self.url}{path}", params=parameters, headers=headers, timeout=60, trust_env=False)
        assert answer.status_code == httpx.codes.OK, answer.text
        return answer.json()


def why_not() -> str | None:
    """The reason why this machine cannot run one, or None."""
    needed = {"redis-server": shutil.which("redis-server"), "node": shutil.which("node")}
    needed |= {"PostgreSQL": find_binaries(), str(HOST_PYTHON): HOST_PYTHON.exists()}
    missing = [name for name, found in needed.items() if not found]
    return f"not installed: {', '.join(missing)}" if missing else None


@contextmanager
def living_gateway(
    engine_port: int,
    *,
    workers: int = 1,
    settings: Mapping[str, Any] | None = None,
    variables: Mapping[str, str] | None = None,
) -> Iterator[LivingGateway]:
    """The gateway while the block runs; `settings` are further litellm_settings, `variables` of its environment."""
    program = _litellm()
    directory = Path(tempfile.mkdtemp(prefix="gateway-test-"))
    postgres = PostgresServer.create()
    redis, gateway = None, None
    try:
        postgres.start()
        redis_port, port = free_port(), free_port()
        redis = subprocess.Popen(
            ["redis-server", "--bind", "127.0.0.1", "--port", str(redis_port), "--save", "", "--dir", str(directory)],
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        engine = _unpacked_engine(directory)
        secret = {name: secrets.token_urlsafe(16) for name in ("master", "salt", "dashboard")}
        secret["master"] = "sk-" + secret["master"]
        config = _configuration(engine_port, redis_port)
        config["litellm_settings"].update(settings or {})
        (directory / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
        environment = _environment(engine, program, postgres, directory, secret) | {"REDIS_PORT": str(redis_port)}
        environment |= variables or {}
        _prepare_database(engine, program, environment)
        log = directory / "litellm.log"
        with log.open("wb") as file:
            gateway = subprocess.Popen(
                [program / "bin/litellm", "--config", directory / "config.yaml",
                 "--host", "127.0.0.1", "--port", str(port), "--num_workers", str(workers)],
                cwd=directory, env=environment, stdin=subprocess.DEVNULL, stdout=file, stderr=file,
                start_new_session=True,
            )  # fmt: skip
        living = LivingGateway(
            url=f"http://127.0.0.1:{port}",
            master_key=secret["master"],
            dashboard_password=secret["dashboard"],
            postgres=postgres,
            log=log,
        )
        _await(living, gateway)
        yield living
    finally:
        for process in (gateway, redis):
            if process is not None:
                _end(process)
        postgres.remove()
        shutil.rmtree(directory)


def _litellm() -> Path:
    """The virtual environment of the locked gateway, in the cache."""
    digest = hashlib.sha256(LOCK.read_bytes()).hexdigest()[:12]
    cache = prisma_engine.cache_directory().parent
    folder, wheels = cache / "tests" / f"litellm-{digest}", cache / "wheelhouse" / f"gateway-{digest}"
    if (folder / ".complete").exists():
        return folder
    if not (wheels / ".complete").exists():
        pytest.skip(f"{wheels} is not there; `make artifacts` fetches it")
    subprocess.run([HOST_PYTHON, "-m", "venv", "--clear", "--without-pip", folder], check=True)
    target = next((folder / "lib").glob("python3.*")) / "site-packages"
    install = ["install", "--quiet", "--no-index", "--find-links", wheels, "--no-deps", "--require-hashes"]
    pip = [sys.executable, "-m", "pip", "--python", folder / "bin/python"]
    subprocess.run([*pip, *install, "-r", LOCK], check=True)
    schema = target / "litellm" / "proxy" / "schema.prisma"
    with tempfile.TemporaryDirectory() as scratch:
        variables = _engine_variables(_unpacked_engine(Path(scratch)))
        path = f"{folder / 'bin'}:{os.environ['PATH']}"
        generate = [folder / "bin/prisma", "generate", "--schema", schema]
        subprocess.run(generate, env=os.environ | variables | {"PATH": path}, check=True, stdout=subprocess.DEVNULL)
    (folder / ".complete").touch()
    return folder


def _unpacked_engine(directory: Path) -> Path:
    try:
        archive = prisma_engine.build()
    except prisma_engine.PrismaEngineError as error:
        pytest.skip(f"the Prisma engine is not in the cache and cannot be built here: {error}")
    subprocess.run(["tar", "-xzf", str(archive), "--no-same-owner", "-C", str(directory)], check=True)
    return directory / prisma_engine.ARCHIVE_ROOT


def _engine_variables(engine: Path) -> dict[str, str]:
    lines = (engine / "prisma-engine.env").read_text().splitlines()
    pairs = (line.split("=", 1) for line in lines if line and not line.startswith("#"))
    return {name: value.replace("/opt/litellm/current/prisma-engine", str(engine)) for name, value in pairs}


def _environment(
    engine: Path, program: Path, postgres: PostgresServer, directory: Path, secret: Mapping[str, str]
) -> dict[str, str]:
    """As the unit of the gateway role sets it."""
    return {
        **_engine_variables(engine),
        "PATH": f"{program / 'bin'}:/usr/bin:/bin",
        "HOME": str(directory),
        "DATABASE_URL": postgres.url("test"),
        "LITELLM_MASTER_KEY": secret["master"],
        "UI_USERNAME": "admin",
        "UI_PASSWORD": secret["dashboard"],
        "LITELLM_SALT_KEY": secret["salt"],
        "REDIS_HOST": "127.0.0.1",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "HF_HUB_OFFLINE": "1",
        "DISABLE_SCHEMA_UPDATE": "true",
        "LITELLM_LOG": "WARNING",
        "PYTHONPATH": str(ROOT / "roles" / "gateway" / "files"),
        "GATEWAY_PARALLEL_REQUESTS": str(PARALLEL_REQUESTS),
    }


def _prepare_database(engine: Path, program: Path, environment: Mapping[str, str]) -> None:
    schema = next((program / "lib").glob("python3.*")) / "site-packages/litellm/proxy/schema.prisma"
    pushed = subprocess.run(
        ["node", engine / "push.mjs", schema], env=environment, capture_output=True, text=True, check=False
    )
    assert pushed.returncode == 0, pushed.stdout + pushed.stderr


def _configuration(engine_port: int, redis_port: int) -> dict[str, Any]:
    """The role's settings, as far as they touch access; flushes come fast."""
    return {
        "model_list": [
            {
                "model_name": name,
                "litellm_params": {
                    "model": f"hosted_vllm/{engine_name}",
                    "api_base": f"http://127.0.0.1:{engine_port}/v1",
                    "api_key": "none",
                },
                "model_info": {"id": name, "input_cost_per_token": PRICE, "output_cost_per_token": PRICE},
            }
            for name, engine_name in ENGINE_NAMES.items()
        ],
        "router_settings": {"redis_host": "127.0.0.1", "redis_port": redis_port, "num_retries": 0},
        "litellm_settings": {
            "callbacks": ["request_limit.instance", "budget_advice.instance"],
            "enable_redis_auth_cache": True,
            "disable_hf_tokenizer_download": True,
            "turn_off_message_logging": True,
            "telemetry": False,
        },
        "general_settings": {
            "master_key": "os.environ/LITELLM_MASTER_KEY",
            "database_url": "os.environ/DATABASE_URL",
            "database_connection_pool_limit": 10,
            "proxy_batch_write_at": 2,
            "user_api_key_cache_ttl": 3600,
            "use_redis_transaction_buffer": True,
            "store_model_in_db": False,
        },
    }


def _await(gateway: LivingGateway, process: subprocess.Popen[bytes]) -> None:
    begun = time.monotonic()
    while time.monotonic() - begun < START_SECONDS:
        if process.poll() is not None:
            raise RuntimeError(f"LiteLLM ended with {process.returncode}: {gateway.log.read_text()[-2000:]}")
        with suppress(httpx.HTTPError):
            answer = httpx.get(f"{gateway.url}/health/readiness", timeout=10, trust_env=False)
            if answer.status_code == httpx.codes.OK and answer.json().get("db") == "connected":
                return
        time.sleep(0.5)
    raise RuntimeError(f"LiteLLM is not ready after {START_SECONDS:.0f} s: {gateway.log.read_text()[-2000:]}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """With everything that it started; each leads a session of its own."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, sign)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=END_SECONDS)
            return

"""PostgreSQL, engines, a relay and LiteLLM on loopback; ended by their process ids."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml

from tests.audit.database import OwnedDatabase
from tests.gateway import processes
from tests.gateway.processes import FILES, ROOT, Gateway, Program, ask, start
from tests.gateway.stub_relay import StubRelay
from tests.prisma_engine.postgres import USER, PostgresServer, find_binaries, free_port

INPUT_COST, OUTPUT_COST = 1e-6, 2e-6
# What the page for people is told of declared models; the gateway of these tests serves none.
FRONT_PAGE = {
    "gateway_currency": "KRW",
    "gateway_routes": {
        "all_inside": False,
        "listed": [
            {"name": "research-chat", "mode": "chat", "max_input_tokens": 28672, "max_output_tokens": 4096,
             "input_cost_per_token": 0.0005, "output_cost_per_token": 0.001, "inside": True},
            {"name": "research-vectors", "mode": "embedding", "max_input_tokens": 8192, "max_output_tokens": None,
             "input_cost_per_token": 0.0, "output_cost_per_token": 0.0, "inside": True},
            {"name": "gpt", "mode": "chat", "max_input_tokens": 272000, "max_output_tokens": 128000,
             "input_cost_per_token": None, "output_cost_per_token": None, "inside": False},
        ],
    },
}  # fmt: skip
WRITTEN_SECONDS = 180.0


@dataclass(kw_only=True)
class Site:
    """Everything of one gateway host."""

    directory: Path
    postgres: PostgresServer
    redis_port: int
    redis: Program
    programs: list[Program]
    engine_address: str
    engine_key: str
    relay: Program
    relay_port: int
    gateway: Gateway
    stub: StubRelay

    def start_redis(self) -> None:
        command = ["redis-server", "--port", str(self.redis_port), "--bind", "127.0.0.1", "--save", "", "--dir",
                   str(self.directory)]  # fmt: skip
        log = self.directory / "redis.log"
        self.redis = start(command, log=log, environment=dict(os.environ), directory=self.directory)
        self.programs.append(self.redis)

    def redis_command(self, *words: str) -> str:
        return processes.run(["redis-cli", "-p", str(self.redis_port), *words])

    def reconcile(self, *, grace_seconds: float = 0.0) -> str:
        """`python -m ledger` of the gateway's own interpreter, as the timer runs it."""
        path = self.directory / "ledger.json"
        content = json.loads(path.read_text()) | {"grace_seconds": grace_seconds}
        path.write_text(json.dumps(content))
        command = [str(self.gateway.venv / "bin" / "python"), "-m", "ledger", "--config", str(path)]
        return processes.run(command, environment=self.gateway.environment)

    def wait_for(self, wanted: str, statement: str, *, reconciles: bool = False) -> str:
        """What a query gives, when it gives what is wanted; LiteLLM and the ledger write behind the answers."""
        ends_at = time.monotonic() + WRITTEN_SECONDS
        while True:
            if reconciles:
                self.reconcile(grace_seconds=600)  # what LiteLLM has not written yet is not lost
            found = self.sql(statement)
            if found == wanted or time.monotonic() > ends_at:
                return found
            time.sleep(0.5)

    def reconcile_all(self) -> str:
        """Until there is nothing left to do; what was done."""
        ends_at, done = time.monotonic() + WRITTEN_SECONDS, list[str]()
        while (said := self.reconcile()) and time.monotonic() < ends_at:
            done.append(said)
        return "\n".join(done)

    def usage(self) -> dict[str, Any]:
        """`python -m ledger report` of these days."""
        today = datetime.now(UTC).date()
        path = self.directory / "ledger.json"
        days = ["--from", str(today - timedelta(days=1)), "--to", str(today + timedelta(days=1))]
        python = str(self.gateway.venv / "bin" / "python")
        command = [python, "-m", "ledger", "report", "--config", str(path), *days, "--format", "json"]
        content: dict[str, Any] = json.loads(processes.run(command, environment=self.gateway.environment))
        return content

    def audit(self, *arguments: str) -> list[dict[str, Any]]:
        """`python -m audit` of the gateway's own interpreter, as JSON lines."""
        command = [str(self.gateway.venv / "bin" / "python"), "-m", "audit", *arguments]
        told = processes.run(command, environment=self.gateway.environment)
        return [json.loads(line) for line in told.splitlines() if line.startswith("{")]

    def sql(self, statement: str) -> str:
        return self.postgres.sql("test", statement)

    def engine_reports(self) -> dict[str, dict[str, Any]]:
        """What the engine says of every request of a client that ended: tokens and outcome, by id."""
        answer = ask(f"{self.engine_address}/control/requests", key=self.engine_key)
        return {report["id"]: report for report in answer.json if "relay-probe" not in report["id"]}


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    if find_binaries() is None:
        pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
    server = PostgresServer.create()
    try:
        server.start()
        yield server
    finally:
        server.remove()


def render(template: str, variables: dict[str, Any]) -> str:
    environment = jinja2.Environment(  # noqa: S701  (YAML, no HTML)
        undefined=jinja2.StrictUndefined, trim_blocks=True, keep_trailing_newline=True
    )
    environment.filters |= {
        "to_json": json.dumps,
        "to_nice_json": json.dumps,
        "to_nice_yaml": _yaml,
        "regex_replace": lambda text, pattern, by: re.sub(pattern, by, text),
    }
    environment.tests |= {"truthy": bool, "search": lambda text, pattern: re.search(pattern, text) is not None}
    return environment.from_string((FILES.parent / "templates" / template).read_text()).render(
        variables | {"ansible_managed": "test"}
    )


def _yaml(content: Any, *, indent: int) -> str:
    return str(yaml.safe_dump(content, indent=indent))


def role_variables(**own: Any) -> dict[str, Any]:
    """What the role's defaults and a plan give."""
    defaults = yaml.safe_load((FILES.parent / "defaults" / "main.yml").read_text())
    private = yaml.safe_load((FILES.parent / "vars" / "main.yml").read_text())
    return defaults | {name: value for name, value in private.items() if "{{" not in str(value)} | own


def start_relay(
    directory: Path, group: str, port: int, engine: str, *, environment: dict[str, str], **more: str
) -> Program:
    """A relay before the engine, with its configuration in `<group>.yaml`."""
    config = {
        "schema_version": 1, "group": group, "served_model_name": "tiny", "port": port, "max_model_len": 4096,
        "replicas": [{"id": "e1", "api_base": engine}], "ledger_directory": str(directory / "relay"), **more,
    }  # fmt: skip
    path = directory / ("relay.yaml" if group == "chat" else f"{group}.yaml")
    path.write_text(yaml.safe_dump(config))
    command = [sys.executable, "-m", "relay", "--config", str(path)]
    return start(command, log=path.with_suffix(".log"), environment=environment, directory=ROOT)


@pytest.fixture(scope="session")
def site(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("gateway")
    try:
        venv = processes.virtual_environment()
        prisma = processes.unpack_engine(directory)
        redis_port, relay_port, vectors_port = free_port(), free_port(), free_port()
        environment = processes.environment_of(
            directory=directory, venv=venv, prisma=prisma, postgres=postgres_server, redis_port=redis_port
        )
    except processes.Unavailable as reason:
        pytest.skip(str(reason))
    key = environment["VLLM_API_KEY"]
    own = os.environ | {"VLLM_API_KEY": key}
    programs: list[Program] = []
    stubs: list[StubRelay] = []
    try:
        engine_port = free_port()
        engine = [
            sys.executable, "-m", "benchmarks.fault_engine", "--port", str(engine_port), "--id", "e1",
            "--served-model-name", "tiny", "--key-variable", "VLLM_API_KEY", "--max-model-len", "4096",
        ]  # fmt: skip
        programs.append(start(engine, log=directory / "engine.log", environment=own, directory=ROOT))
        relay, vectors = (
            start_relay(directory, group, port, f"http://127.0.0.1:{engine_port}/v1", environment=own, **more)
            for group, port, more in (("chat", relay_port, {}), ("vectors", vectors_port, {"task": "embedding"}))
        )
        redis_command = ["redis-server", "--port", str(redis_port), "--bind", "127.0.0.1", "--save", "", "--dir",
                         str(directory)]  # fmt: skip
        redis = start(redis_command, log=directory / "redis.log", environment=dict(os.environ), directory=directory)
        programs += [relay, vectors, redis]
        OwnedDatabase(server=postgres_server, name="test").install(login=USER)
        processes.install_schema(environment, venv)
        stub = StubRelay.start(free_port())
        stubs.append(stub)
        models = [
            {
                "name": name, "model_directory": "tiny", "max_input_tokens": 3072, "max_output_tokens": 1024,
                "input_cost_per_token": INPUT_COST, "output_cost_per_token": OUTPUT_COST,
                "fallbacks": ["chat"] if name == "stub" else [],
            }
            for name in ("chat", "direct", "stub")
        ]  # fmt: skip
        models.append(
            {
                "name": "vectors", "model_directory": "tiny", "task": "embedding", "max_input_tokens": 4096,
                "max_output_tokens": 0, "input_cost_per_token": INPUT_COST, "output_cost_per_token": 0.0,
                "fallbacks": [],
            }
        )  # fmt: skip
        deployments = [
            {"model": model, "id": identity, "api_base": f"http://127.0.0.1:{port}/v1", "served_model_name": "tiny"}
            for model, identity, port in (
                ("chat", "chat-relay", relay_port),
                ("direct", "direct-e1", engine_port),
                ("stub", "stub-relay", stub.port),
                ("vectors", "vectors-relay", vectors_port),
            )
        ]
        variables = role_variables(
            gateway_models=models, gateway_deployments=deployments, gateway_redis_host="127.0.0.1",
            gateway_redis_port=redis_port,
            gateway_spend_write_seconds=5,
            gateway_cache={"enabled": True, "ttl_seconds": 600, "keys": ["always-cached"]},
            gateway_router={"strategy": "simple-shuffle", "num_retries": 1, "retry_after_seconds": 0,
                            "timeout_seconds": 600, "stream_timeout_seconds": 3, "allowed_fails": 1,
                            "cooldown_seconds": 10},
        )  # fmt: skip
        config = directory / "config.yaml"
        # The Redis of these tests has no password; the rest is the role's.
        text = render("config.yaml.j2", variables)
        config.write_text("\n".join(line for line in text.splitlines() if "REDIS_PASSWORD" not in line))
        (directory / "response_cache.json").write_text(
            json.dumps({"ttl_seconds": 600, "share": "key", "keys": ["always-cached"], "per_request": True})
        )
        (directory / "front-page").mkdir()
        for template, name in (("front_page.html.j2", "index.html"), ("front_page.json.j2", "models.json")):
            (directory / "front-page" / name).write_text(render(template, variables | FRONT_PAGE))
        (directory / "token_window.json").write_text('{"models": {}}')
        (directory / "ledger.json").write_text(
            json.dumps(
                {
                    "host": "h1", "relay_directory": str(directory / "relay"),
                    "identity_directory": str(directory / "identity"),
                    "metrics_path": str(directory / "ledger.prom"), "currency": "EUR",
                    "alerts_path": str(directory / "alerts.json"), "grace_seconds": 0, "unclaimed_seconds": 600,
                    "retention_days": 30, "relay_deployments": ["chat-relay", "vectors-relay"],
                    "prices": {"tiny": {"input": INPUT_COST, "output": OUTPUT_COST}},
                }
            )
        )  # fmt: skip
        gateway = Gateway(directory=directory, venv=venv, environment=environment, config=config, port=free_port(),
                          workers=2)  # fmt: skip
        gateway.start()
        yield Site(
            directory=directory, postgres=postgres_server, redis_port=redis_port, redis=redis, programs=programs,
            engine_key=key,
            engine_address=f"http://127.0.0.1:{engine_port}", relay=relay, relay_port=relay_port, gateway=gateway,
            stub=stub,
        )  # fmt: skip
        assert gateway.program is not None
        gateway.program.end()
    finally:
        for stub in stubs:
            stub.stop()
        for program in reversed(programs):
            program.end(signal.SIGKILL)
        if "gateway" in locals() and gateway.program is not None and gateway.program.process.poll() is None:
            gateway.kill()

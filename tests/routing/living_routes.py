"""A real gateway with the role's configuration for a site that declares everything: LiteLLM, PostgreSQL, Redis, counted
endpoints. Request, plan, providers.yml and routing.yml go the operator's way (`llm-size routing`), the template is the
role's.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.command_line import llm_size
from tests.gateway import processes
from tests.gateway.conftest import render, role_variables
from tests.gateway.processes import Answer, Gateway, Program, ask, start
from tests.prisma_engine.postgres import PostgresServer, free_port
from tests.routing.endpoints import Endpoint
from tests.unit.test_cli_site import make_site

PATIENCE_SECONDS = 60.0
TOKENIZER = processes.ROOT / "tests" / "golden" / "gateway_tokens" / "tiny-qwen3"
REQUEST = {
    "schema_version": 1,
    "site": "test",
    "routing": {"num_retries": 0, "allowed_fails": 1000, "timeout_seconds": 60},
    "models": [
        {"name": "own", "source": "Qwen/Qwen3-0.6B", "context_tokens": 2048, "output_tokens": 512, "data": "internal"}
    ],
}


@dataclass(frozen=True, kw_only=True)
class LivingRoutes:
    """The gateway and who stands behind it."""

    gateway: Gateway
    endpoints: Mapping[str, Endpoint]
    redis_port: int

    def post(self, path: str, body: Mapping[str, Any], **more: Any) -> Answer:
        return ask(f"{self.gateway.address}{path}", body, **more)

    def chat(self, model: str, *, key: str = processes.MASTER_KEY, **more: Any) -> Answer:
        """One short chat."""
        body = {"model": model, "max_tokens": 4, "messages": [{"role": "user", "content": "Hello"}], **more}
        return self.post("/v1/chat/completions", body, key=key)

    def redis(self, *words: str) -> str:
        return processes.run(["redis-cli", "-p", str(self.redis_port), *words]).strip()


def await_it(condition: Callable[[], object], what: str) -> None:
    """Until it is so."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"not within {PATIENCE_SECONDS:.0f} s: {what}"
        time.sleep(0.02)


def routes_of(directory: Path, *, providers: Mapping[str, Any], routing: Mapping[str, Any]) -> dict[str, Any]:
    """The gateway role's slice, as the playbook gets it, and what the plan says of the own model."""
    directory.mkdir()
    site = make_site(directory)
    (site / "request.yml").write_text(yaml.safe_dump(REQUEST), encoding="utf-8")
    planned = llm_size("recommend", "--site", str(site), "--write")
    assert planned.returncode == 0, planned.stderr
    everything = site / "group_vars" / "all"
    for name, content in (("providers", providers), ("routing", routing)):
        (everything / f"{name}.yml").write_text(yaml.safe_dump({name: dict(content)}), encoding="utf-8")
    decided = llm_size("routing", str(site), "--json")
    assert decided.returncode == 0, decided.stderr
    plan = json.loads((everything / "appliance_plan.json").read_text())["appliance_plan"]
    return {
        "gateway_routes": json.loads(decided.stdout),
        "gateway_models": [
            {"fallbacks": [], **{name: value for name, value in model.items() if name != "deployments"}}
            for model in plan["models"]
        ],
        "gateway_deployments": plan["gateway"]["deployments"],
        "gateway_router": plan["gateway"]["routing"],
    }


@contextmanager
def living_routes(
    directory: Path,
    *,
    endpoints: Mapping[str, Endpoint],
    providers: Mapping[str, Any],
    routing: Mapping[str, Any],
    change: Callable[[dict[str, Any]], None],
    variables: Mapping[str, str] | None = None,
) -> Iterator[LivingRoutes]:
    """The gateway while the block runs. `change` alters the written configuration behind the back of every check,
    `variables` are further ones of its environment.
    """
    slice_of_role = routes_of(directory / "site", providers=providers, routing=routing)
    venv, prisma = processes.virtual_environment(), processes.unpack_engine(directory)
    postgres, redis_port = PostgresServer.create(), free_port()
    programs: list[Program] = []
    gateway = None
    try:
        postgres.start()
        environment = processes.environment_of(
            directory=directory, venv=venv, prisma=prisma, postgres=postgres, redis_port=redis_port
        )
        environment |= dict.fromkeys(slice_of_role["gateway_routes"]["secrets"], "a-key-of-this-test")
        environment |= {"DATA_FENCE_CONFIG": str(directory / "data_fence.json"), **(variables or {})}
        redis = [
            "redis-server",
            "--port",
            str(redis_port),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--dir",
            str(directory),
        ]
        programs.append(start(redis, log=directory / "redis.log", environment=dict(os.environ), directory=directory))
        processes.install_schema(environment, venv)
        of_role = role_variables(
            gateway_redis_host="127.0.0.1",
            gateway_redis_port=redis_port,
            gateway_spend_write_seconds=5,
            **slice_of_role,
        )
        text = render("config.yaml.j2", of_role)  # the Redis of these tests has no password
        config = yaml.safe_load("\n".join(line for line in text.splitlines() if "redis_password" not in line))
        change(config)
        (directory / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
        (directory / "data_fence.json").write_text(render("data_fence.json.j2", of_role))
        (directory / "front-page").mkdir()
        for template, name in (("front_page.html.j2", "index.html"), ("front_page.json.j2", "models.json")):
            (directory / "front-page" / name).write_text(render(template, of_role))
        window = json.loads(render("token_window.json.j2", of_role))
        for model in window["models"].values():
            model["tokenizer_directory"] = str(TOKENIZER)
        (directory / "token_window.json").write_text(json.dumps(window))
        ledger = {"identity_directory": str(directory / "identity"), "relay_deployments": ["own-relay"]}
        (directory / "ledger.json").write_text(json.dumps(ledger))
        gateway = Gateway(directory=directory, venv=venv, environment=environment, config=directory / "config.yaml",
                          port=free_port(), workers=1)  # fmt: skip
        gateway.start()
        yield LivingRoutes(gateway=gateway, endpoints=endpoints, redis_port=redis_port)
    finally:
        if gateway is not None and gateway.program is not None:
            gateway.program.end(signal.SIGKILL)
        for program in programs:
            program.end(signal.SIGKILL)
        postgres.remove()

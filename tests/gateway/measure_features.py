"""What each feature of the gateway costs a request: CPU time of the gateway host, and time that a client waits longer.

`.venv/bin/python -m pytest -s tests/gateway/measure_features.py` (not collected by itself: it measures and judges
nothing). Real LiteLLM, PostgreSQL, Redis and guardrails before servers that answer at once. A feature is a key, a model
or a request that has it, or a gateway that has not; each round asks for all of them in turn, and what counts is the
difference to the plain request of the same round. `feature_cases.py` has them. CPU time is the kernel's count for the
worker and the guardrails' service; what PostgreSQL's client, PostgreSQL and Redis do is not in it.

FEATURE_ROUNDS=7      how many rounds
FEATURE_REQUESTS=30   how many requests of each in a round, one after the other
FEATURE_WITHOUT=a,b   which gateways that lack something (`WITHOUT` of feature_cases.py), each a process; all of them
"""

import http.client
import json
import os
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.access.living_gateway import why_not
from tests.gateway.cpu_time import cpu_seconds, trees
from tests.gateway.feature_cases import CASES, GUARDRAILS, OWN_CODE, PROVIDERS, ROUTING, WITHOUT, Case, keys_of
from tests.gateway.processes import FILES, MASTER_KEY, ROOT, Gateway
from tests.guardrails.guard_service import running_guard
from tests.prisma_engine.postgres import free_port
from tests.routing.endpoints import endpoint
from tests.routing.living_routes import LivingRoutes, living_routes
from tests.tracing.receivers import TraceReceivers

ROUNDS = int(os.environ.get("FEATURE_ROUNDS", "7"))
REQUESTS = int(os.environ.get("FEATURE_REQUESTS", "30"))
LACKING = [label for label in os.environ.get("FEATURE_WITHOUT", ",".join(WITHOUT)).split(",") if label]
ASKED = [case for case in CASES if not case.without or case.without in LACKING]


@dataclass(kw_only=True)
class Seen:
    """Of one case, by round."""

    cpu_ms: list[float] = field(default_factory=list)
    wait_ms: list[float] = field(default_factory=list)


@dataclass(kw_only=True)
class Line:
    """A connection that stays, as clients keep one."""

    port: int
    connection: http.client.HTTPConnection = field(init=False)

    def __post_init__(self) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)

    def ask(self, case: Case, key: str, number: int) -> float:
        """Milliseconds."""
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        body = json.dumps(case.body(number)).encode()
        begun = time.perf_counter()
        self.connection.request("POST", "/v1/chat/completions", body, headers)
        answer = self.connection.getresponse()
        content = answer.read()
        spent = (time.perf_counter() - begun) * 1000
        assert answer.status == http.client.OK, (case.name, content[:500])
        return spent


def _everything(config: dict[str, Any], ports: dict[str, int]) -> None:
    """All hooks, a global budget and a cache; the model whose prompts are counted stands at a server that answers."""
    settings = config["litellm_settings"]
    settings["callbacks"] = ["guardrails.instance", *settings["callbacks"], "trace_export.instance"]
    settings["callbacks"] += ["request_limit.instance", "response_cache.instance"]
    settings |= {"max_budget": 100000.0, "budget_duration": "30d", "cache": True}
    kinds = ["acompletion", "atext_completion", "aembedding"]
    settings["cache_params"] = {
        "type": "redis", "mode": "default_off", "ttl": 600, "supported_call_types": kinds, "host": "127.0.0.1",
        "port": config["router_settings"]["redis_port"],
    }  # fmt: skip
    for entry in config["model_list"]:
        if entry["model_name"] == "own":
            entry["litellm_params"] |= {"model": "hosted_vllm/ok@own", "api_base": f"http://127.0.0.1:{ports['a']}/v1"}


def _without(living: LivingRoutes, label: str, environment: dict[str, str]) -> Gateway:
    """A gateway like the living one, less something."""
    config = yaml.safe_load(living.gateway.config.read_text(encoding="utf-8"))
    WITHOUT[label][1](config)
    path = living.gateway.directory / f"without-{label}.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return Gateway(directory=living.gateway.directory, venv=living.gateway.venv, environment=environment, config=path,
                   port=free_port(), workers=1)  # fmt: skip


def _cpu_ms(gateway: Gateway, guard: int) -> float:
    assert gateway.program is not None
    return sum(map(cpu_seconds, (gateway.program.process.pid, *trees([guard])))) * 1000


@pytest.mark.skipif(why_not() is not None, reason=str(why_not()))
def test_features(tmp_path: Path) -> None:
    names = ("a", "b", "cloud")
    with ExitStack() as open_things:
        endpoints = {name: open_things.enter_context(endpoint()) for name in names}
        ports = {name: one.port for name, one in endpoints.items()}
        (tmp_path / "own.py").write_text(OWN_CODE, encoding="utf-8")
        guard = open_things.enter_context(running_guard(tmp_path, GUARDRAILS(tmp_path / "own.py")))
        receivers = TraceReceivers.start()
        open_things.callback(receivers.stop)
        collector = next(one for one in receivers.declared["receivers"] if one["name"] == "collector")
        told = {"name": "collector", "kind": "opentelemetry", "url": collector["url"], "key": None, "inside": True,
                "headers": {"authorization": "TRACING_KEY_COLLECTOR"}, "content": False}  # fmt: skip
        (tmp_path / "tracing.json").write_text(json.dumps({"receivers": [told], "content_bytes_max": 2000}))
        cache = {"ttl_seconds": 600, "share": "key", "keys": ["cached"], "per_request": True}
        (tmp_path / "response_cache.json").write_text(json.dumps(cache))
        variables = receivers.keys | {
            "PYTHONPATH": f"{FILES}:{ROOT}", "PYTHONDONTWRITEBYTECODE": "1", "GATEWAY_PARALLEL_REQUESTS": "500",
            "TRACE_EXPORT_CONFIG": str(tmp_path / "tracing.json"), "GUARDRAILS_CONFIG": str(guard.config),
        }  # fmt: skip
        living = open_things.enter_context(
            living_routes(
                tmp_path, endpoints=endpoints, providers=PROVIDERS(ports), routing=ROUTING, variables=variables,
                change=lambda config: _everything(config, ports),
            )
        )  # fmt: skip
        gateways = {"": living.gateway}
        gateways |= {label: _without(living, label, living.gateway.environment) for label in LACKING}
        for gateway in gateways.values():
            open_things.callback(lambda one=gateway: one.program is not None and one.program.end())
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda label: gateways[label].start(), LACKING))
        _measure(gateways, keys_of(living.gateway), guard.process.pid)


def _measure(gateways: dict[str, Gateway], keys: dict[str, str], guard: int) -> None:
    seen = {case.name: Seen() for case in ASKED}
    for number in range(-1, ROUNDS):  # the first does what is done once
        print(f"round {number + 1} of {ROUNDS}", flush=True)
        for case in ASKED if number % 2 else reversed(ASKED):
            gateway, key = gateways[case.without], keys.get(case.key, MASTER_KEY)
            line = Line(port=gateway.port)  # the server closes those that nobody uses for five seconds
            before = _cpu_ms(gateway, guard)
            waits = [line.ask(case, key, number * REQUESTS + one) for one in range(REQUESTS)]
            spent = (_cpu_ms(gateway, guard) - before) / REQUESTS
            line.connection.close()
            if number >= 0:
                seen[case.name].cpu_ms.append(spent)
                seen[case.name].wait_ms.append(statistics.median(waits))
    print("\n".join(_table(seen)))


def _table(seen: dict[str, Seen]) -> Iterator[str]:
    base = seen[ASKED[0].name]
    count = f"{ROUNDS} rounds of {REQUESTS}"
    yield f"\n{count}; load average {os.getloadavg()[0]:.1f}; a plain request: {statistics.median(base.cpu_ms):.1f} ms"
    yield f"of CPU, {statistics.median(base.wait_ms):.1f} ms until it is answered"
    yield "| feature | CPU ms a request, more (middle half) | ms until answered, more (middle half) |"
    yield "|---|---:|---:|"
    for case in ASKED[1:]:
        sign = -1 if case.without else 1
        columns = []
        for own, plain in ((seen[case.name].cpu_ms, base.cpu_ms), (seen[case.name].wait_ms, base.wait_ms)):
            more = sorted(sign * (one - two) for one, two in zip(own, plain, strict=True))
            low, _, high = statistics.quantiles(more, n=4)
            columns.append(f"{statistics.median(more):.1f} ({low:.1f} to {high:.1f})")
        yield f"| {case.name} | {columns[0]} | {columns[1]} |"


if __name__ == "__main__":
    raise SystemExit(pytest.main(["-s", "-q", __file__]))

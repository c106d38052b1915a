"""What the gateway's host spends on a chunk and on a request: LiteLLM's own defaults beside the appliance's gateway.

`.venv/bin/python -m pytest -s tests/gateway/measure_cost.py` (not collected by itself: it measures and judges nothing).
Both have PostgreSQL, Redis, the same virtual key with a budget, and as many workers; arrangements take turns, so that
a busy machine disturbs them alike; what counts is CPU time by the kernel's count, relay and database client included.
"""

import asyncio
import json
import os
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from benchmarks.fault_engine.process import FaultControl
from benchmarks.relay_overhead import Heard, quantile
from tests.gateway.conftest import Site
from tests.gateway.processes import ROOT, Gateway, Program, start
from tests.prisma_engine.postgres import free_port

TICKS = os.sysconf("SC_CLK_TCK")
STREAMS, TOKENS, ITL_MS = 24, 250, 20.0
REQUESTS, AT_ONCE = 160, 8
ROUNDS = 3
PAUSES_SECONDS = (0.0, 0.025, 0.05, 0.1)


@dataclass(kw_only=True)
class Arrangement:
    """One way to the engine."""

    name: str
    gateway: Gateway
    model: str
    key: str
    relay: Program | None = None
    chunk_microseconds: list[float] = field(default_factory=list)
    request_microseconds: list[float] = field(default_factory=list)
    ttft_ms: list[float] = field(default_factory=list)
    gap_ms: list[float] = field(default_factory=list)

    def cpu_seconds(self) -> float:
        """Of everything that runs on a gateway host."""
        roots = [program.process.pid for program in (self.gateway.program, self.relay) if program is not None]
        return sum(_cpu_seconds(pid) for pid in _trees(roots))


def _stat(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(") ", 1)[1].split()
    except OSError:
        return []


def _trees(roots: Sequence[int]) -> Iterator[int]:
    parents = {int(path.name): _stat(int(path.name)) for path in Path("/proc").glob("[0-9]*")}
    wanted = list(roots)
    while wanted:
        pid = wanted.pop()
        yield pid
        wanted += [child for child, fields in parents.items() if fields and int(fields[1]) == pid]


def _cpu_seconds(pid: int) -> float:
    fields = _stat(pid)
    return (int(fields[11]) + int(fields[12])) / TICKS if fields else 0.0


async def _ask(one: Arrangement, prompt: str, *, stream: bool, tokens: int) -> Heard:
    body = {
        "model": one.model, "max_tokens": tokens, "temperature": 0, "stream": stream,
        "messages": [{"role": "user", "content": prompt}],
    }  # fmt: skip
    content = json.dumps(body).encode()
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        f"authorization: Bearer {one.key}\r\nconnection: close\r\ncontent-length: {len(content)}\r\n\r\n"
    )
    heard = Heard(request=head.encode() + content, over=asyncio.get_running_loop().create_future())
    await asyncio.get_running_loop().create_connection(lambda: heard, "127.0.0.1", one.gateway.port)
    await heard.over
    assert b"200 OK" in heard.pieces[0], b"".join(heard.pieces)[:400]
    return heard


async def _streams(one: Arrangement) -> None:
    before = one.cpu_seconds()
    heard = await asyncio.gather(*(_ask(one, f"stream {n}", stream=True, tokens=TOKENS) for n in range(STREAMS)))
    one.chunk_microseconds.append((one.cpu_seconds() - before) / (STREAMS * TOKENS) * 1e6)
    for answer in heard:
        assert answer.text and not answer.text.endswith("(no end)")
        one.ttft_ms.append((answer.times[0] - answer.begun) * 1000)
        one.gap_ms += [(later - earlier) * 1000 for earlier, later in zip(answer.times, answer.times[1:], strict=False)]


async def _requests(one: Arrangement) -> None:
    gate = asyncio.Semaphore(AT_ONCE)

    async def ask(number: int) -> None:
        async with gate:
            await _ask(one, f"request {number}", stream=False, tokens=1)

    before = one.cpu_seconds()
    await asyncio.gather(*(ask(number) for number in range(REQUESTS)))
    one.request_microseconds.append((one.cpu_seconds() - before) / REQUESTS * 1e6)


def _relay(site: Site, pause: float, programs: list[Program]) -> tuple[Program, int]:
    port = free_port()
    config = yaml.safe_load((site.directory / "relay.yaml").read_text())
    folder = site.directory / f"relay-{pause:g}"
    config |= {"port": port, "coalesce_seconds": pause, "ledger_directory": str(folder)}
    path = site.directory / f"relay-{pause:g}.yaml"
    path.write_text(yaml.safe_dump(config))
    command = [".venv/bin/python", "-m", "relay", "--config", str(path)]
    environment = os.environ | {"VLLM_API_KEY": site.engine_key}
    program = start(command, log=site.directory / f"relay-{pause:g}.log", environment=environment, directory=ROOT)
    programs.append(program)
    return program, port


def _defaults(site: Site) -> Gateway:
    """LiteLLM with a database, Redis and a model; everything else as it comes."""
    engine = {
        "model": "hosted_vllm/tiny",
        "api_base": f"{site.engine_address}/v1",
        "api_key": "os.environ/VLLM_API_KEY",
    }
    config = {
        "model_list": [
            {
                "model_name": "plain", "litellm_params": engine,
                "model_info": {"id": "plain", "input_cost_per_token": 1e-6, "output_cost_per_token": 2e-6},
            }
        ],
        "router_settings": {"redis_host": "127.0.0.1", "redis_port": site.redis_port},
        "general_settings": {
            "master_key": "os.environ/LITELLM_MASTER_KEY", "database_url": "os.environ/DATABASE_URL",
        },
    }  # fmt: skip
    path = site.directory / "defaults.yaml"
    path.write_text(yaml.safe_dump(config))
    own = site.gateway
    return Gateway(directory=own.directory, venv=own.venv, environment=own.environment, config=path, port=free_port(),
                   workers=1)  # fmt: skip


def test_cost(site: Site) -> None:
    FaultControl(site.engine_address, key=site.engine_key).become(ttft_ms=20, itl_ms=ITL_MS)
    programs: list[Program] = []
    defaults, gateways = _defaults(site), list[Gateway]()
    try:
        defaults.start()
        gateways.append(defaults)
        key = site.gateway.make_key(max_budget=1000.0)
        arrangements = [Arrangement(name="LiteLLM's defaults", gateway=defaults, model="plain", key=key)]
        for pause in PAUSES_SECONDS:
            relay, port = _relay(site, pause, programs)
            text = site.gateway.config.read_text().replace(f":{site.relay_port}/", f":{port}/")
            path = site.directory / f"appliance-{pause:g}.yaml"
            path.write_text(text)
            own = site.gateway
            gateway = Gateway(directory=own.directory, venv=own.venv, environment=own.environment, config=path,
                              port=free_port(), workers=1)  # fmt: skip
            gateway.start()
            gateways.append(gateway)
            name = f"appliance, coalesced over {pause * 1000:g} ms"
            arrangements.append(Arrangement(name=name, gateway=gateway, model="chat", key=key, relay=relay))
        for one in arrangements:  # whatever is done once
            asyncio.run(_streams(one))
            asyncio.run(_requests(one))
            one.chunk_microseconds, one.request_microseconds, one.ttft_ms, one.gap_ms = [], [], [], []
        for number in range(ROUNDS):
            for one in arrangements if number % 2 == 0 else reversed(arrangements):
                asyncio.run(_streams(one))
                asyncio.run(_requests(one))
        _print(arrangements)
    finally:
        for gateway in gateways:
            if gateway.program is not None:
                gateway.program.end()
        for program in programs:
            program.end()


def _print(arrangements: Sequence[Arrangement]) -> None:
    first = arrangements[0]
    print(f"\n{STREAMS} streams of {TOKENS} tokens, one every {ITL_MS:g} ms; load average {os.getloadavg()[0]:.1f}")
    print(
        "arrangement | us a token (rounds) | tokens/s a core | ratio | ms a request | ratio | TTFT ms | gap p50, p99 ms"
    )
    for one in arrangements:
        chunk, request = statistics.median(one.chunk_microseconds), statistics.median(one.request_microseconds)
        rounds = ", ".join(f"{value:.0f}" for value in one.chunk_microseconds)
        print(
            f"{one.name} | {chunk:.0f} ({rounds}) | {1e6 / chunk:.0f} | "
            f"{statistics.median(first.chunk_microseconds) / chunk:.2f} | {request / 1000:.2f} | "
            f"{statistics.median(first.request_microseconds) / request:.2f} | {statistics.median(one.ttft_ms):.0f} | "
            f"{statistics.median(one.gap_ms):.1f}, {quantile(one.gap_ms, 0.99):.1f}"
        )


if __name__ == "__main__":
    raise SystemExit(pytest.main(["-s", "-q", __file__]))

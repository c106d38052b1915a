"""What the gateway's host spends on a chunk and on a request: LiteLLM's own defaults beside the appliance's gateway.

`.venv/bin/python -m pytest -s tests/gateway/measure_cost.py` (not collected by itself: it measures and judges nothing).
All have PostgreSQL, Redis, the same virtual key with a budget, and one worker; arrangements take turns, so that a busy
machine disturbs them alike; what counts is CPU time by the kernel's count, relay and database client included.

GATEWAY_COST=defaults,appliance,gc   which variations (cost_variations.py)
GATEWAY_COST_ROUNDS=5                how many rounds
GATEWAY_COST_SETTLE=16               seconds that are waited after requests, for what is written behind their answers
GATEWAY_COST_PROFILE=FOLDER          afterwards each is looked at by py-spy (PY_SPY says where that is) under the same
                                     loads; `python -m tools.gateway_profile FOLDER` draws what it saw
"""

import asyncio
import json
import os
import signal
import statistics
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from benchmarks.fault_engine.process import FaultControl
from benchmarks.listening import Heard
from benchmarks.relay_overhead import quantile
from tests.gateway.conftest import Site
from tests.gateway.cost_variations import USUAL, VARIATIONS, Variation
from tests.gateway.cpu_time import cpu_seconds, trees
from tests.gateway.processes import ROOT, Gateway, Program, start
from tests.prisma_engine.postgres import free_port

STREAMS, TOKENS, ITL_MS = 24, 250, 20.0
REQUESTS, AT_ONCE = 160, 8
ROUNDS = int(os.environ.get("GATEWAY_COST_ROUNDS", "3"))
SETTLE_SECONDS = float(os.environ.get("GATEWAY_COST_SETTLE", "0"))
SAMPLES_PER_SECOND = 250
TOKENIZER = ROOT / "tests" / "golden" / "gateway_tokens" / "tiny-qwen3"
PROFILED_REQUESTS = 400


@dataclass(kw_only=True)
class Arrangement:
    """One way to the engine."""

    name: str
    gateway: Gateway
    model: str
    key: str
    relay: Program | None = None
    chunk_microseconds: dict[str, list[float]] = field(default_factory=dict)
    request_microseconds: dict[str, list[float]] = field(default_factory=dict)
    ttft_ms: list[float] = field(default_factory=list)
    gap_ms: list[float] = field(default_factory=list)

    def forget(self) -> None:
        """What was done once."""
        for seen in (self.chunk_microseconds, self.request_microseconds, self.ttft_ms, self.gap_ms):
            seen.clear()

    @property
    def worker(self) -> int:
        """The process that serves."""
        assert self.gateway.program is not None
        return self.gateway.program.process.pid

    def cpu_seconds(self) -> dict[str, float]:
        """Of everything that runs on a gateway host, by part."""
        parts = {"worker": [self.worker], "database client": list(trees([self.worker]))[1:]}
        if self.relay is not None:
            parts["relay"] = list(trees([self.relay.process.pid]))
        return {part: sum(cpu_seconds(pid) for pid in pids) for part, pids in parts.items()}

    def spent(self, before: dict[str, float], count: int) -> Iterator[tuple[str, float]]:
        """Microseconds for each of `count` by part, and of all."""
        after = self.cpu_seconds()
        by_part = {part: (seconds - before[part]) / count * 1e6 for part, seconds in after.items()}
        yield from (by_part | {"all": sum(by_part.values())}).items()


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
    for part, microseconds in one.spent(before, STREAMS * TOKENS):
        one.chunk_microseconds.setdefault(part, []).append(microseconds)
    for answer in heard:
        assert answer.text and not answer.text.endswith("(no end)")
        one.ttft_ms.append((answer.times[0] - answer.begun) * 1000)
        one.gap_ms += [(later - earlier) * 1000 for earlier, later in zip(answer.times, answer.times[1:], strict=False)]


async def _requests(one: Arrangement, count: int = REQUESTS) -> None:
    gate = asyncio.Semaphore(AT_ONCE)

    async def ask(number: int) -> None:
        async with gate:
            await _ask(one, f"request {number}", stream=False, tokens=1)

    before = one.cpu_seconds()
    await asyncio.gather(*(ask(number) for number in range(count)))
    await asyncio.sleep(SETTLE_SECONDS)  # what is written behind the answers is paid for, too
    for part, microseconds in one.spent(before, count):
        one.request_microseconds.setdefault(part, []).append(microseconds)


def _relay(site: Site, name: str, settings: Mapping[str, float], programs: list[Program]) -> tuple[Program, int]:
    port = free_port()
    config = yaml.safe_load((site.directory / "relay.yaml").read_text())
    config |= {"port": port, "ledger_directory": str(site.directory / f"relay-{name}")} | dict(settings)
    path = site.directory / f"relay-{name}.yaml"
    path.write_text(yaml.safe_dump(config))
    command = [".venv/bin/python", "-m", "relay", "--config", str(path)]
    environment = os.environ | {"VLLM_API_KEY": site.engine_key}
    program = start(command, log=site.directory / f"relay-{name}.log", environment=environment, directory=ROOT)
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


def _arrangement(site: Site, label: str, variation: Variation, key: str, programs: list[Program]) -> Arrangement:
    if variation.plain:
        gateway = _defaults(site)
        gateway.start()
        return Arrangement(name=variation.name, gateway=gateway, model="plain", key=key)
    relay, port = _relay(site, label, variation.relay, programs)
    path = site.directory / f"appliance-{label}.yaml"
    text = site.gateway.config.read_text().replace(f":{site.relay_port}/", f":{port}/")
    for hook in variation.without:
        assert f", {hook}.instance" in text
        text = text.replace(f", {hook}.instance", "")
    # As the role has it by default, which is LiteLLM's default too; the other tests of the site have less patience.
    path.write_text(text.replace("proxy_batch_write_at: 5\n", "proxy_batch_write_at: 10\n"))
    window = site.directory / f"window-{label}.json"
    counted = {"tokenizer_directory": str(TOKENIZER), "max_input_tokens": 3072, "max_output_tokens": 1024}
    window.write_text(json.dumps({"models": {"chat": {**counted, "deployments": ["chat-relay"]}}}))
    own = site.gateway
    environment = own.environment | {"TOKEN_WINDOW_CONFIG": str(window)} | dict(variation.environment)
    gateway = Gateway(directory=own.directory, venv=own.venv, environment=environment, config=path, port=free_port(),
                      workers=1, options=variation.options)  # fmt: skip
    gateway.start()
    return Arrangement(name=variation.name, gateway=gateway, model="chat", key=key, relay=relay)


def test_cost(site: Site) -> None:
    FaultControl(site.engine_address, key=site.engine_key).become(ttft_ms=20, itl_ms=ITL_MS)
    programs: list[Program] = []
    arrangements: dict[str, Arrangement] = {}
    wanted = os.environ.get("GATEWAY_COST", ",".join(USUAL)).split(",")
    try:
        key = site.gateway.make_key(max_budget=1000.0)
        for label in wanted:
            arrangements[label] = _arrangement(site, label, VARIATIONS[label], key, programs)
        turns = list(arrangements.values())
        for one in turns:  # whatever is done once
            asyncio.run(_streams(one))
            asyncio.run(_requests(one))
            one.forget()
        for number in range(ROUNDS):
            for one in turns if number % 2 == 0 else reversed(turns):
                asyncio.run(_streams(one))
                asyncio.run(_requests(one))
        _print(turns)
        if folder := os.environ.get("GATEWAY_COST_PROFILE"):
            _profile(arrangements, Path(folder))
    finally:
        for one in arrangements.values():
            if one.gateway.program is not None:
                one.gateway.program.end()
        for program in programs:
            program.end()


def _print(arrangements: Sequence[Arrangement]) -> None:
    first = arrangements[0]
    print(f"\n{STREAMS} streams of {TOKENS} tokens, one every {ITL_MS:g} ms; load average {os.getloadavg()[0]:.1f}")
    print(
        "arrangement | us a token (rounds) | tokens/s a core | ratio | ms a request | ratio | TTFT ms | gap p50, p99 ms"
    )
    for one in arrangements:
        chunk, request = _of_all(one.chunk_microseconds), _of_all(one.request_microseconds)
        ratios = _of_all(first.chunk_microseconds) / chunk, _of_all(first.request_microseconds) / request
        rounds = ", ".join(f"{value:.0f}" for value in one.chunk_microseconds["all"])
        each = ", ".join(f"{value / 1000:.1f}" for value in one.request_microseconds["all"])
        print(
            f"{one.name} | {chunk:.0f} ({rounds}) | {1e6 / chunk:.0f} | {ratios[0]:.2f} | {request / 1000:.2f} "
            f"({each}) | {ratios[1]:.2f} | {statistics.median(one.ttft_ms):.0f} | {statistics.median(one.gap_ms):.1f}, "
            f"{quantile(one.gap_ms, 0.99):.1f}"
        )
        for what, seen in (("us a token", one.chunk_microseconds), ("us a request", one.request_microseconds)):
            print(f"    {what} by process:", {part: round(statistics.median(values)) for part, values in seen.items()})


def _of_all(seen: Mapping[str, Sequence[float]]) -> float:
    return statistics.median(seen["all"])


def _profile(arrangements: Mapping[str, Arrangement], folder: Path) -> None:
    """Samples of each worker under both loads, and what the loads cost without anybody looking."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        label: {
            "name": one.name,
            **{
                what: {part: statistics.median(values) for part, values in seen.items()}
                for what, seen in (("chunk", one.chunk_microseconds), ("request", one.request_microseconds))
            },
        }
        for label, one in arrangements.items()
    }
    about = {"streams": STREAMS, "tokens": TOKENS, "itl_ms": ITL_MS, "load_average": round(os.getloadavg()[0], 1)}
    (folder / "cost.json").write_text(json.dumps({"about": about, "arrangements": content}, indent=2))
    for label, one in arrangements.items():
        with _watched(one.worker, folder / f"{label}-chunk.txt"):
            asyncio.run(_streams(one))
        with _watched(one.worker, folder / f"{label}-request.txt"):
            asyncio.run(_requests(one, PROFILED_REQUESTS))


@contextmanager
def _watched(pid: int, path: Path) -> Iterator[None]:
    command = [
        os.environ.get("PY_SPY", "py-spy"), "record", "--nonblocking", "--format", "raw", "--full-filenames",
        "--rate", str(SAMPLES_PER_SECOND), "--duration", "300", "--pid", str(pid), "--output", str(path),
    ]  # fmt: skip
    with path.with_suffix(".log").open("wb") as log:
        watcher = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        yield
    finally:
        watcher.send_signal(signal.SIGINT)
        watcher.wait(timeout=60)


if __name__ == "__main__":
    raise SystemExit(pytest.main(["-s", "-q", __file__]))

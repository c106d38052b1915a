"""Relay overhead: what the relay adds to the first token and costs for each chunk, and a crowd that loses its engine.

`python -m benchmarks.relay_overhead`: direct and relayed requests take turns against the same fault engine, so that a
busy machine disturbs both alike; CPU is the relay process's own, by the kernel's count. The crowd: many paced streams
over two engines, one is killed, every text is compared with the undisturbed one.
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

from benchmarks.fault_engine.process import FaultProcess
from benchmarks.listening import Heard, ask
from benchmarks.null_process import ROOT

START_SECONDS = 60.0
TICKS = os.sysconf("SC_CLK_TCK")
TEXTS = 20  # different conversations in a crowd
CRITICAL_MS = 1.0
CRITICAL_MICROSECONDS = 60.0


async def chat(port: int, prompt: str, **more: Any) -> Heard:
    """One chat, to its end."""
    asked = {"model": "fault", "temperature": 0, "stream": True, "messages": [{"role": "user", "content": prompt}]}
    return await ask(port, "/v1/chat/completions", asked | more)


class RelayProcess:
    """A relay of our own; a context."""

    def __init__(self, *engines: FaultProcess) -> None:
        self._folder = tempfile.TemporaryDirectory()
        folder = Path(self._folder.name)
        config = {
            "schema_version": 1,
            "group": "overhead",
            "served_model_name": "fault",
            "port": 0,
            "replicas": [{"id": f"engine-{n}", "api_base": f"{one.address}/v1"} for n, one in enumerate(engines)],
            "max_model_len": 8192,
            "concurrent_requests_per_replica": 10_000,
            "ledger_directory": self._folder.name,
        }
        (folder / "relay.yaml").write_text(json.dumps(config), encoding="utf-8")
        self._log = folder / "relay.log"
        command = [sys.executable, "-m", "relay", "--config", str(folder / "relay.yaml")]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(command, cwd=ROOT, env=os.environ | {"VLLM_API_KEY": ""}, stderr=log)
        self.port = self._listening()

    def _listening(self) -> int:
        for _ in range(int(START_SECONDS / 0.05)):
            for line in self.log():
                if line["event"] == "serving":
                    return int(line["port"])
            sleep(0.05)
        raise RuntimeError(f"the relay did not start: {self._log.read_text(encoding='utf-8')}")

    def log(self) -> list[dict[str, Any]]:
        """Its log."""
        lines = self._log.read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]

    @property
    def cpu_seconds(self) -> float:
        """User and system time so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="ascii").rsplit(") ", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    @property
    def memory_bytes(self) -> int:
        """Resident."""
        return int(Path(f"/proc/{self.process.pid}/statm").read_text(encoding="ascii").split()[1]) * 4096

    def __enter__(self) -> "RelayProcess":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        self._folder.cleanup()


def quantile(values: list[float], part: float) -> float:
    """The nearest rank."""
    return sorted(values)[min(len(values) - 1, int(part * len(values)))]


async def first_tokens(relay: RelayProcess, engine: FaultProcess, *, count: int) -> dict[str, float]:
    """Added time to the first token, of pairs that take turns."""
    direct, relayed = list[float](), list[float]()
    for number in range(count):
        for port, into in ((engine.port, direct), (relay.port, relayed))[:: 1 if number % 2 else -1]:
            heard = await chat(port, f"pair {number}", max_tokens=2)
            into.append((heard.times[0] - heard.begun) * 1000)
    return {
        "direct_p50_ms": statistics.median(direct),
        "relayed_p50_ms": statistics.median(relayed),
        "added_p50_ms": statistics.median(relayed) - statistics.median(direct),
        "added_p99_ms": quantile(relayed, 0.99) - quantile(direct, 0.99),
    }


async def chunk_cost(relay: RelayProcess, *, streams: int, tokens: int) -> dict[str, float]:
    """CPU of the relay for each chunk, with everything a request costs in it."""
    before, begun = relay.cpu_seconds, perf_counter()
    heard = await asyncio.gather(*(chat(relay.port, f"stream {n}", max_tokens=tokens) for n in range(streams)))
    used, wall = relay.cpu_seconds - before, perf_counter() - begun
    chunks = sum(len(one.events) for one in heard)
    return {"chunks": chunks, "chunks_per_second": chunks / wall, "cpu_microseconds_per_chunk": used / chunks * 1e6}


async def crowd(streams: int, *, tokens: int, chunks_per_second: float) -> dict[str, Any]:
    """Many streams, one engine killed in the middle."""
    pace = ("--ttft-ms", "50", "--itl-ms", str(1000 / chunks_per_second))
    with (
        FaultProcess.start(*pace) as doomed,
        FaultProcess.start(*pace) as left,
        FaultProcess.start("--ttft-ms", "1", "--itl-ms", "0.1") as calm,
        RelayProcess(doomed, left) as relay,
    ):
        right = [(await chat(calm.port, f"crowd {number}", max_tokens=tokens)).text for number in range(TEXTS)]
        before, begun = relay.cpu_seconds, perf_counter()
        running = [
            asyncio.ensure_future(chat(relay.port, f"crowd {number % TEXTS}", max_tokens=tokens))
            for number in range(streams)
        ]
        await asyncio.sleep(tokens / chunks_per_second / 2)
        memory = relay.memory_bytes
        doomed.kill()
        heard = await asyncio.gather(*running)
        wall = perf_counter() - begun
        resumed = [line["gap_seconds"] for line in relay.log() if line["event"] == "resumed"]
        gaps = [one.gap for one in heard]
        faults = Counter(line["event"] + ": " + line.get("reason", "") for line in relay.log() if "reason" in line)
        return {
            "streams": streams,
            "equal": sum(one.text == right[number % TEXTS] for number, one in enumerate(heard)),
            "resumed": len(resumed),
            "seam_p50_seconds": quantile(resumed, 0.5) if resumed else 0.0,
            "seam_p99_seconds": quantile(resumed, 0.99) if resumed else 0.0,
            "client_gap_p99_seconds": quantile(gaps, 0.99),
            "faults": faults,
            "relay_cpu_share": (relay.cpu_seconds - before) / wall,
            "relay_memory_mib": memory / 2**20,
            "relay_memory_after_mib": relay.memory_bytes / 2**20,
        }


def main() -> int:
    """Prints what was measured; exit 1 if a target is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.relay_overhead", description=__doc__)
    parser.add_argument("--pairs", type=int, default=300, help="pairs of requests for the first token")
    parser.add_argument("--streams", type=int, default=50, help="streams for the cost of a chunk")
    parser.add_argument("--crowd", type=int, default=1000, help="streams that lose an engine; 0 = skip")
    parser.add_argument("--crowd-tokens", type=int, default=100)
    options = parser.parse_args()
    found: dict[str, Any] = {"load_average": os.getloadavg()[0]}
    with FaultProcess.start("--ttft-ms", "0", "--itl-ms", "20") as engine, RelayProcess(engine) as relay:
        asyncio.run(first_tokens(relay, engine, count=20))
        found["first_token"] = asyncio.run(first_tokens(relay, engine, count=options.pairs))
        found["chunk"] = asyncio.run(chunk_cost(relay, streams=options.streams, tokens=200))
    if options.crowd:
        found["crowd"] = asyncio.run(crowd(options.crowd, tokens=options.crowd_tokens, chunks_per_second=5.0))
    print(json.dumps(found, indent=2))
    missed = (
        found["first_token"]["added_p50_ms"] > CRITICAL_MS
        or found["chunk"]["cpu_microseconds_per_chunk"] > CRITICAL_MICROSECONDS
        or (options.crowd and found["crowd"]["equal"] != options.crowd)
    )
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())

"""Watchdog hour: the engine's watchdog beside a real vLLM under constant load with long prefills. It must stay silent.

`python -m benchmarks.watchdog_hour --vllm BIN/vllm --model-directory DIR --seconds 3600`: the program that the role
installs, with the role's timers, watches an engine whose prefills are cut into small chunks; a fixed number of clients
ask without a pause. What a restart would do is only written down. Then the engine's core is frozen while a request runs
and /health still answers: a watchdog that says nothing then either has proved nothing before.
"""

import argparse
import asyncio
import json
import os
import random
import secrets
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import yaml

from benchmarks.failover.vllm_process import ENGINE_CORE, VllmProcess, VllmSettings
from benchmarks.listening import ask
from benchmarks.null_process import ROOT

ROLE = ROOT / "roles" / "vllm"
SAMPLE_SECONDS = 1.0
METRICS_SECONDS = 30.0
ANSWER_SECONDS = 900.0
ALARM_WITHIN_SECONDS = 60.0
SAID = "hangs:"
SYSTEMCTL = """#!/bin/sh
case "$*" in *ActiveState*) echo ActiveState=active;; *ControlGroup*) echo ControlGroup=/none;; esac
"""


@dataclass(kw_only=True)
class Stillness:
    """How long nothing moved while requests ran, by tokens and by all that the watchdog looks at."""

    longest_token_seconds: float = 0.0
    longest_watched_seconds: float = 0.0
    longest_answer_seconds: float = 0.0  # of /metrics
    samples: int = 0
    busy_samples: int = 0
    _tokens: float = -1.0
    _watched: dict[str, Any] = field(default_factory=dict)
    _token_at: float = 0.0
    _watched_at: float = 0.0

    def see(self, now: float, watched: dict[str, dict[str, float]]) -> None:
        """One sample of /metrics, as the watchdog reads it."""
        self.samples += 1
        tokens = sum(values["vllm:generation_tokens_total"] for values in watched.values())
        running = sum(values["vllm:num_requests_running"] for values in watched.values())
        self.busy_samples += running > 0
        if tokens != self._tokens or not running:
            self._tokens, self._token_at = tokens, now
        if watched != self._watched or not running:
            self._watched, self._watched_at = watched, now
        self.longest_token_seconds = max(self.longest_token_seconds, now - self._token_at)
        self.longest_watched_seconds = max(self.longest_watched_seconds, now - self._watched_at)


def program_of_the_role() -> ModuleType:
    """The watchdog, for its way to read metrics."""
    loader = SourceFileLoader("vllm_watchdog", str(ROLE / "files" / "vllm-watchdog"))
    spec = spec_from_loader(loader.name, loader)
    if spec is None:
        raise RuntimeError(f"{loader.path} cannot be loaded")
    module = module_from_spec(spec)
    loader.exec_module(module)
    return module


async def client(port: int, key: str, model: str, *, number: int, long: bool, until: float, done: Counter[str]) -> None:
    """Asks without a pause, always something new."""
    dice = random.Random(number)
    kind = "long prefill" if long else "chat"
    while time.monotonic() < until:
        count = dice.randint(2000, 3500) if long else dice.randint(20, 200)
        prompt = [dice.randrange(5, 900) for _ in range(count)]
        body: dict[str, Any] = {"model": model, "prompt": prompt, "max_tokens": 16 if long else 120, "temperature": 0}
        body |= {"ignore_eos": True, "stream": True, "stream_options": {"include_usage": True}}
        try:
            heard = await ask(port, "/v1/completions", body, key=key, seconds=ANSWER_SECONDS)
        except OSError as error:
            done[f"{kind}: {type(error).__name__}"] += 1
            await asyncio.sleep(1)
            continue
        done[kind if heard.done else f"{kind}: no end"] += 1
        usage = heard.usage or {}
        done["prompt tokens"] += usage.get("prompt_tokens", 0)
        done["completion tokens"] += usage.get("completion_tokens", 0)


async def sample(url: str, watchdog: ModuleType, seen: Stillness, loads: list[float]) -> None:
    """Looks once a second, for ever."""

    def read() -> str:
        with urlopen(f"{url}/metrics", timeout=METRICS_SECONDS) as answer:  # noqa: S310  loopback
            return str(answer.read().decode())

    while True:
        asked = time.monotonic()
        try:
            text = await asyncio.to_thread(read)
            seen.see(time.monotonic(), watchdog.progress_of(text))
        except (URLError, OSError):
            pass  # the time that it took says it
        seen.longest_answer_seconds = max(seen.longest_answer_seconds, time.monotonic() - asked)
        loads.append(os.getloadavg()[0])
        await asyncio.sleep(SAMPLE_SECONDS)


async def hour(engine: VllmProcess, options: argparse.Namespace, key: str, log: Path) -> dict[str, Any]:
    """The load with the watchdog beside it, then the freeze."""
    port, model = int(engine.address.rpartition(":")[2]), options.model_directory.name
    seen, loads, done = Stillness(), list[float](), Counter[str]()
    sampling = asyncio.create_task(sample(engine.address, program_of_the_role(), seen, loads))
    begun = time.monotonic()
    until = begun + options.seconds
    kinds = [True] * options.long_clients + [False] * options.chat_clients
    clients = [
        asyncio.create_task(client(port, key, model, number=number, long=long, until=until, done=done))
        for number, long in enumerate(kinds)
    ]
    while time.monotonic() < until:
        await asyncio.sleep(min(options.say_every, max(0.0, until - time.monotonic())))
        print(json.dumps(_found(begun, seen, loads, done, log)), flush=True)
    false_alarms = alarms_in(log)
    await asyncio.gather(*clients)
    report = _found(begun, seen, loads, done, log) | {"false_alarms": false_alarms}
    sampling.cancel()
    return report | {"alarm_after_freeze_seconds": await frozen(engine, key, model, log, before=len(alarms_in(log)))}


async def frozen(engine: VllmProcess, key: str, model: str, log: Path, *, before: int) -> float | None:
    """Seconds until a true hang is told; None = never."""
    port = int(engine.address.rpartition(":")[2])
    body = {"model": model, "prompt": "hang", "max_tokens": 2000, "ignore_eos": True, "stream": True}
    victim = asyncio.create_task(ask(port, "/v1/completions", body, key=key))
    await asyncio.sleep(SAMPLE_SECONDS)
    engine.pause(ENGINE_CORE)
    begun = time.monotonic()
    try:
        while len(alarms_in(log)) <= before:
            if time.monotonic() - begun > ALARM_WITHIN_SECONDS:
                return None
            await asyncio.sleep(0.2)
        return round(time.monotonic() - begun, 1)
    finally:
        engine.proceed()
        victim.cancel()


def alarms_in(log: Path) -> list[str]:
    """What the watchdog has said."""
    return [line for line in log.read_text(encoding="utf-8").splitlines() if SAID in line]


def _found(begun: float, seen: Stillness, loads: Sequence[float], done: Counter[str], log: Path) -> dict[str, Any]:
    return {
        "seconds": round(time.monotonic() - begun),
        "alarms": len(alarms_in(log)),
        "longest_seconds_without_a_token": round(seen.longest_token_seconds, 1),
        "longest_seconds_without_anything_the_watchdog_sees": round(seen.longest_watched_seconds, 1),
        "longest_seconds_for_metrics": round(seen.longest_answer_seconds, 1),
        "samples": seen.samples,
        "busy_samples": seen.busy_samples,
        "load_average_mean": round(sum(loads) / len(loads), 1) if loads else None,
        "load_average_max": round(max(loads), 1) if loads else None,
        "answers": dict(done),
    }


def main() -> int:
    """Prints one line of JSON now and then and at the end; exit 1 after a false alarm or a missed hang."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.watchdog_hour", description=__doc__)
    parser.add_argument("--vllm", type=Path, required=True, help="vLLM's program, bin/vllm")
    parser.add_argument("--model-directory", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=3600.0)
    parser.add_argument("--long-clients", type=int, default=3, help="prompts of 2,000 to 3,500 tokens, 16 answered")
    parser.add_argument("--chat-clients", type=int, default=3, help="prompts of 20 to 200 tokens, 120 answered")
    parser.add_argument("--chunk-tokens", type=int, default=128, help="of a prefill in one step")
    parser.add_argument("--say-every", type=float, default=300.0)
    parser.add_argument("--output", type=Path, default=Path("results") / "watchdog-hour")
    options = parser.parse_args()
    folder = options.output.resolve()
    folder.mkdir(parents=True)
    key, log = secrets.token_urlsafe(24), folder / "watchdog.log"
    settings = VllmSettings(
        program=options.vllm, model_directory=options.model_directory.resolve(),
        served_model_name=options.model_directory.name, max_model_len=4096, key=key, log_directory=folder,
        options=(
            *("--max-num-batched-tokens", str(options.chunk_tokens)),
            *("--max-num-seqs", "8", "--no-enable-prefix-caching"),
        ),
    )  # fmt: skip
    systemctl = folder / "systemctl"
    systemctl.write_text(SYSTEMCTL, encoding="utf-8")
    systemctl.chmod(0o755)
    timers = yaml.safe_load((ROLE / "defaults" / "main.yml").read_text(encoding="utf-8"))
    with VllmProcess("engine", settings, cores=str((os.cpu_count() or 1) - 1)) as engine, log.open("w") as said:
        engine.ready()
        unit = folder / "engine.yaml"
        unit.write_text(f"host: 127.0.0.1\nport: {engine.address.rpartition(':')[2]}\n", encoding="utf-8")
        command = [sys.executable, str(ROLE / "files" / "vllm-watchdog"), str(unit), "vllm@engine.service"]
        command += ["--systemctl", str(systemctl), "--journalctl", "/bin/echo", "--reports", str(folder)]
        command += ["--stall-seconds", str(timers["vllm_watchdog_stall_seconds"])]
        command += ["--probe-every-seconds", str(timers["vllm_watchdog_probe_every_seconds"])]
        watchdog = subprocess.Popen(command, env=os.environ | {"VLLM_API_KEY": key}, stdout=said, stderr=said)
        try:
            found = asyncio.run(hour(engine, options, key, log))
        finally:
            watchdog.send_signal(signal.SIGTERM)
            watchdog.wait()
    print(json.dumps(found, indent=2))
    (folder / "found.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    return 1 if found["false_alarms"] or found["alarm_after_freeze_seconds"] is None else 0


if __name__ == "__main__":
    sys.exit(main())

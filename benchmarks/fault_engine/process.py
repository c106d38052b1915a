"""Process: a fault engine of our own on this machine, to be steered, frozen and killed."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from typing import Any, Self
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from benchmarks.leaving import guardian
from benchmarks.null_process import ROOT
from benchmarks.stable_port import stable_port

CONTROL_SECONDS = 10.0


class FaultControl:
    """The control endpoint of a fault engine, wherever it runs."""

    def __init__(self, address: str, *, key: str = "") -> None:
        self.address, self._key = address.rstrip("/"), key

    def status(self) -> dict[str, Any]:
        """Counters, what runs, which fault is on."""
        return dict(self._call("GET", "/control"))

    def inject(self, name: str, **options: float) -> None:
        """Switches a fault on."""
        self._call("POST", "/control/fault", {"name": name, **options})

    def heal(self) -> None:
        """Switches it off."""
        self._call("DELETE", "/control/fault")

    def become(self, **character: float) -> None:
        """Changes the pace."""
        self._call("POST", "/control/character", character)

    def requests(self) -> list[dict[str, Any]]:
        """What was generated for whom."""
        return list(self._call("GET", "/control/requests"))

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        request = Request(  # noqa: S310  an address that we were given
            self.address + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self._key}"},
        )
        try:
            with urlopen(request, timeout=CONTROL_SECONDS) as answer:  # noqa: S310
                return json.load(answer)
        except HTTPError as error:
            raise RuntimeError(f"{method} {path}: {error.code} {error.read().decode()}") from None


@dataclass(kw_only=True)
class FaultProcess:
    """A running fault engine. Also a context: it ends with it."""

    process: "subprocess.Popen[bytes]"
    port: int
    key: str
    arguments: tuple[str, ...]
    name: str = "fault-engine"

    @classmethod
    def start(cls, *arguments: str, port: int = 0, key: str = "", name: str = "fault-engine") -> Self:
        """Starts one and waits until it listens."""
        command = [sys.executable, "-m", "benchmarks.fault_engine", "--port", str(port or stable_port()), "--id", name]
        process = subprocess.Popen(
            [*command, "--follow-stdin", *arguments],
            cwd=ROOT,
            env=os.environ | {"VLLM_API_KEY": key},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        guardian.watch(process.pid)  # a frozen one does not see its standard input close
        assert process.stdout is not None  # noqa: S101  a pipe was asked for
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"the fault engine {name} did not start on port {port}: exit {process.wait()}")
        return cls(process=process, port=int(line), key=key, arguments=arguments, name=name)

    @property
    def address(self) -> str:
        """http://127.0.0.1:PORT."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def control(self) -> FaultControl:
        """Its control endpoint."""
        return FaultControl(self.address, key=self.key)

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait()

    def pause(self) -> None:
        """SIGSTOP."""
        self.process.send_signal(signal.SIGSTOP)

    def proceed(self) -> None:
        """SIGCONT."""
        self.process.send_signal(signal.SIGCONT)

    def restart(self) -> None:
        """Starts it again where it was."""
        self.close()
        fresh = type(self).start(*self.arguments, port=self.port, key=self.key, name=self.name)
        self.process = fresh.process

    def close(self) -> None:
        """Ends it."""
        self.process.kill()
        self.process.wait()
        guardian.release(self.process.pid)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

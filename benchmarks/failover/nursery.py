"""Nursery: real engines forked from one process that has imported vLLM already (see vllm_nursery)."""

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from benchmarks.failover.site import eventually
from benchmarks.null_process import ROOT

PROGRAM = "benchmarks.failover.vllm_nursery"


@dataclass(frozen=True, kw_only=True)
class Forked:
    """An engine that is a child of the nursery: the part of `subprocess.Popen` that its keeper needs."""

    pid: int
    returncode: int | None = None

    def poll(self) -> int | None:
        """None = it runs; how it ended, nobody knows."""
        try:
            state = (Path("/proc") / str(self.pid) / "stat").read_text().rpartition(") ")[2].split()[0]
        except OSError:
            return -1
        return -1 if state == "Z" else None

    def wait(self, timeout: float) -> int:
        """Until it has ended."""
        eventually(f"end of process {self.pid}", lambda: self.poll() is not None, within_seconds=timeout)
        return -1


class Nursery:
    """The process that forks. Also a context."""

    def __init__(self, program: Path, *, environment: Mapping[str, str], log: Path) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        python = program.absolute().with_name("python")
        with log.open("ab") as file:
            self._process = subprocess.Popen(
                [str(python), "-m", PROGRAM],
                cwd=ROOT,
                env=os.environ | environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                text=True,
            )
        self._log = log

    def start(self, arguments: Sequence[str], environment: Mapping[str, str], log: Path) -> Forked:
        """One engine more."""
        line = self._ask({"arguments": [*arguments], "environment": {**environment}, "log": str(log)})
        return Forked(pid=int(line))

    def _ask(self, order: Mapping[str, object]) -> str:
        assert self._process.stdin is not None and self._process.stdout is not None  # noqa: S101  both are pipes
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        while (line := self._process.stdout.readline().strip()) and not line.isdigit():
            pass  # "ready", or what an import says
        if not line:
            raise RuntimeError(f"the nursery of engines ended; see {self._log}")
        return line

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

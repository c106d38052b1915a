"""LiteLLM process: a gateway of this machine without a database, with the settings that it is given."""

import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self
from urllib.error import URLError
from urllib.request import urlopen

import yaml

from benchmarks.failover.litellm_settings import ENGINE_KEY, MASTER_KEY
from benchmarks.failover.site import eventually
from benchmarks.leaving import guardian

START_SECONDS = 120.0
ASK_SECONDS = 2.0
END_SECONDS = 10.0


class LiteLlmProcess:
    """One gateway. Also a context."""

    def __init__(self, program: Path, directory: Path, settings: Mapping[str, Any], *, key: str) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = int(free.getsockname()[1])
        self.address, self._log = f"http://127.0.0.1:{self._port}", directory / "litellm.log"
        config = directory / "litellm.yaml"
        config.write_text(yaml.safe_dump(dict(settings)), encoding="utf-8")
        command = [str(program), "--config", str(config), "--host", "127.0.0.1", "--port", str(self._port)]
        own = {ENGINE_KEY: key, MASTER_KEY: key, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                command,
                cwd=directory,
                env=os.environ | own,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        guardian.watch(self.process.pid)

    def ready(self) -> None:
        """Waits until it answers."""
        eventually(f"LiteLLM (log: {self._log})", self._answers, within_seconds=START_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(timeout=END_SECONDS)
        guardian.release(self.process.pid)

    def _answers(self) -> bool:
        if self.process.poll() is not None:
            raise RuntimeError(f"LiteLLM ended with {self.process.returncode}; see {self._log}")
        try:
            with urlopen(f"{self.address}/health/liveliness", timeout=ASK_SECONDS) as answer:  # noqa: S310  loopback
                return bool(answer.status == 200)  # noqa: PLR2004  HTTP OK
        except (URLError, OSError):
            return False

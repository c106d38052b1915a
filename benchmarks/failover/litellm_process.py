"""LiteLLM process: the gateway as it is without settings, straight before the engines: what stands beside."""

import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Self
from urllib.error import URLError
from urllib.request import urlopen

import yaml

from benchmarks.failover.site import Engine, eventually

START_SECONDS = 120.0
ASK_SECONDS = 2.0
END_SECONDS = 10.0


class LiteLlmProcess:
    """LiteLLM with a model list and a key, and nothing else. Also a context."""

    def __init__(self, program: Path, directory: Path, engines: Sequence[Engine], *, model: str, key: str) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = int(free.getsockname()[1])
        self.address, self._log = f"http://127.0.0.1:{self._port}", directory / "litellm.log"
        config = directory / "litellm.yaml"
        config.write_text(
            yaml.safe_dump(
                {
                    "model_list": [
                        {
                            "model_name": model,
                            "litellm_params": {
                                "model": f"hosted_vllm/{model}",
                                "api_base": f"{engine.address}/v1",
                                "api_key": "os.environ/ENGINE_API_KEY",
                            },
                            "model_info": {"id": engine.name},
                        }
                        for engine in engines
                    ],
                    "general_settings": {"master_key": "os.environ/LITELLM_MASTER_KEY"},
                }
            ),
            encoding="utf-8",
        )
        command = [str(program), "--config", str(config), "--host", "127.0.0.1", "--port", str(self._port)]
        own = {"ENGINE_API_KEY": key, "LITELLM_MASTER_KEY": key, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
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

    def ready(self) -> None:
        """Waits until it answers."""
        eventually(f"LiteLLM (log: {self._log})", self._answers, within_seconds=START_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(timeout=END_SECONDS)

    def _answers(self) -> bool:
        if self.process.poll() is not None:
            raise RuntimeError(f"LiteLLM ended with {self.process.returncode}; see {self._log}")
        try:
            with urlopen(f"{self.address}/health/liveliness", timeout=ASK_SECONDS) as answer:  # noqa: S310  loopback
                return bool(answer.status == 200)  # noqa: PLR2004  HTTP OK
        except (URLError, OSError):
            return False

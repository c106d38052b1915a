"""Two fault engines behind one relay, a third one beside it that says what is right, and a client that listens."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx

from benchmarks.fault_engine.process import FaultProcess
from benchmarks.told import text_of

REPOSITORY = Path(__file__).resolve().parents[2]
KEY = "a-key-of-the-engines"
START_SECONDS = 60.0
CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
STALL_SECONDS = 0.8
PATIENT: Mapping[str, float] = {"stall_seconds": 20.0, "first_byte_seconds": 60.0, "connect_seconds": 20.0}
"""Timers that a machine short of cores does not set off: what must not be seen is not seen by chance."""
HASTY: Mapping[str, float] = {
    "stall_seconds": STALL_SECONDS,
    "first_byte_seconds": 2.5,
    "connect_seconds": 20.0,
    "max_legs": 20,
}
"""For silences. A healthy engine that gets no core for so long is left too: only what the client reads may be asserted,
not how many legs it took."""
PATIENCE_SECONDS = 60.0


@dataclass(kw_only=True)
class Heard:
    """What a client was told."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    events: list[str] = field(default_factory=list)
    body: Any = None

    @property
    def done(self) -> bool:
        """Whether the stream's last word was the end mark."""
        return self.events[-1:] == ["[DONE]"]

    @property
    def chunks(self) -> list[dict[str, Any]]:
        """Events that are JSON."""
        return [json.loads(event) for event in self.events if event != "[DONE]"]

    @property
    def error(self) -> dict[str, Any] | None:
        """The error that was said, if any."""
        return next((chunk["error"] for chunk in self.chunks if "error" in chunk), None)

    @property
    def choices(self) -> list[dict[str, Any]]:
        """All pieces of all choices."""
        return [choice for chunk in self.chunks if "error" not in chunk for choice in chunk["choices"]]

    @property
    def texts(self) -> dict[tuple[int, str], str]:
        """Text by choice and kind."""
        found: dict[tuple[int, str], str] = {}
        for choice in self.choices:
            for kind, text in (choice.get("delta") or {"text": choice.get("text")}).items():
                if isinstance(text, str) and kind != "role":
                    found[choice["index"], kind] = found.get((choice["index"], kind), "") + text
        return {key: text for key, text in found.items() if text}

    @property
    def calls(self) -> str:
        """Tool calls, of which ids are chance."""
        return text_of(
            [{"choices": [choice]} for choice in self.choices if (choice.get("delta") or {}).get("tool_calls")]
        )

    @property
    def finish(self) -> list[tuple[int, str, Any]]:
        """Finish reasons, each with its stop reason."""
        return sorted(
            (choice["index"], choice["finish_reason"], choice.get("stop_reason"))
            for choice in self.choices
            if choice["finish_reason"]
        )

    @property
    def token_ids(self) -> list[int]:
        """Ids, if the client asked for them."""
        return [token for choice in self.choices for token in choice.get("token_ids") or ()]

    @property
    def logprob_tokens(self) -> list[str]:
        """Names of tokens in the log probabilities."""
        found: list[str] = []
        for choice in self.choices:
            logprobs = choice.get("logprobs") or {}
            found += [entry["token"] for entry in logprobs.get("content") or ()] or logprobs.get("tokens") or []
        return found

    @property
    def usage(self) -> list[dict[str, Any]]:
        """Usage records: there must be one."""
        return [chunk["usage"] for chunk in self.chunks if "error" not in chunk and not chunk["choices"]]

    @property
    def told(self) -> dict[str, Any]:
        """All that must be the same with and without a fault."""
        return {
            "done": self.done,
            "error": self.error,
            "texts": self.texts,
            "calls": self.calls,
            "finish": self.finish,
            "ids": self.token_ids,
            "logprobs": self.logprob_tokens,
            "usage": self.usage,
            "identities": len({(chunk["id"], chunk["created"], chunk["model"]) for chunk in self.chunks}),
            "fingerprints": [chunk["system_fingerprint"] for chunk in self.chunks if "system_fingerprint" in chunk],
            "roles": sum("role" in (choice.get("delta") or {}) for choice in self.choices),
        }


def until(check: Callable[[], bool], found: Callable[[], str] = str) -> None:
    """Waits for a state."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not check():
        assert time.monotonic() < deadline, f"not within {PATIENCE_SECONDS:g} s; found {found()}"
        time.sleep(0.02)


class TwoEngines:
    """The site; a context."""

    def __init__(self, folder: Path, *, character: tuple[str, ...] = (), **config: Any) -> None:
        pace = ("--ttft-ms", "5", "--itl-ms", "2", "--eos-every", "0", *character)
        self.engines = {name: FaultProcess.start(*pace, key=KEY, name=name) for name in ("a", "b", "right")}
        self.right = self.engines.pop("right")
        document: dict[str, Any] = {
            "schema_version": 1,
            "group": "fault",
            "served_model_name": "fault",
            "port": 0,
            "replicas": [{"id": name, "api_base": f"{one.address}/v1"} for name, one in self.engines.items()],
            "max_model_len": 8192,
            "ledger_directory": str(folder),
            "probe_seconds": 0.2,
        }
        self.folder = folder
        self.config_path = folder / "relay.yaml"
        self.config_path.write_text(json.dumps(document | dict(PATIENT) | config), encoding="utf-8")
        self.log_path = folder / "relay.log"
        self._start()
        self.client = httpx.Client(
            headers={"Authorization": f"Bearer {KEY}"}, timeout=2 * PATIENCE_SECONDS, trust_env=False
        )

    def _start(self) -> None:
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "relay", "--config", str(self.config_path)],
                cwd=REPOSITORY,
                env=os.environ | {"VLLM_API_KEY": KEY},
                stderr=log,
            )
        self.address = f"http://127.0.0.1:{self._port()}"

    def kill_relay(self) -> None:
        """kill -9, and it runs again, elsewhere."""
        self.process.kill()
        self.process.wait()
        self._start()

    def _port(self) -> int:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            for line in self.log():
                if line["event"] == "serving":
                    return int(line["port"])
            time.sleep(0.02)
        raise RuntimeError(f"the relay did not start: {self.log_path.read_text(encoding='utf-8')}")

    def log(self) -> list[dict[str, Any]]:
        """What the relay has logged."""
        lines = self.log_path.read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]

    def ask(self, path: str, body: Mapping[str, Any], *, address: str = "", **headers: str) -> Heard:
        """One request, to the relay unless told otherwise."""
        url = (address or self.address) + path
        with self.client.stream("POST", url, json=body, headers=headers) as answer:
            heard = Heard(status=answer.status_code, headers=answer.headers)
            if "event-stream" not in answer.headers.get("content-type", ""):
                answer.read()
                heard.body = answer.json()
                return heard
            for line in answer.iter_lines():
                if line.startswith("data: "):
                    heard.events.append(line.removeprefix("data: "))
        return heard

    def undisturbed(self, path: str, body: Mapping[str, Any]) -> Heard:
        """The same, straight to an engine without a fault."""
        return self.ask(path, body, address=self.right.address)

    def status(self) -> dict[str, Any]:
        """The relay's own view."""
        return dict(self.client.get(f"{self.address}/relay/status").json())

    def states(self) -> dict[str, str]:
        """The state of each replica."""
        return {replica["id"]: replica["state"] for replica in self.status()["replicas"]}

    def wait_for(self, **states: str) -> None:
        """Waits until replicas are in these states."""
        until(lambda: all(self.states()[name] == state for name, state in states.items()), lambda: str(self.status()))

    def become(self, **character: float) -> None:
        """Another pace of both engines, also of what runs."""
        for engine in self.engines.values():
            engine.control.become(**character)

    def running(self, *, outstanding: int, queued: int = 0) -> bool:
        """Whether so many requests are with engines, and so many wait."""
        status = self.status()
        with_engines = sum(replica["outstanding_requests"] for replica in status["replicas"])
        return (with_engines, status["queued_requests"]) == (outstanding, queued)

    def heal(self) -> None:
        """No faults; everybody serves."""
        for engine in self.engines.values():
            engine.control.heal()
        self.wait_for(a="serving", b="serving")

    def first_fault(self, name: str, *, after_tokens: int) -> None:
        """A fault for the next request, on whichever engine gets it: only one request of each is hit."""
        for engine in self.engines.values():
            engine.control.inject(name, after_tokens=after_tokens, requests=1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self.process.terminate()
        self.process.wait()
        for engine in (*self.engines.values(), self.right):
            engine.close()

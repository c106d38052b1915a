"""The two programs that the vllm role runs on a host: the readiness check and the module behind its preflight."""

import importlib.machinery
import importlib.util
import json
import os
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType

import pytest

ROLE = Path(__file__).resolve().parents[2] / "roles" / "vllm"
KEY = "a-key-of-the-test"


def _load(path: Path) -> ModuleType:
    loader = importlib.machinery.SourceFileLoader(path.name.replace("-", "_"), str(path))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))  # type: ignore[arg-type]
    loader.exec_module(module)
    return module


ready = _load(ROLE / "files" / "vllm-ready")
host_state = _load(ROLE / "library" / "vllm_host_state.py")


class Engine(BaseHTTPRequestHandler):
    """Answers like vLLM: 401 without the key, one model, and as many tokens as the test wants."""

    token_count = 1

    def _answer(self, status: int, body: object) -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def _respond(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        asked = json.loads(self.rfile.read(length) or "{}")
        if self.headers.get("Authorization") != f"Bearer {KEY}":
            self._answer(401, {"error": "Unauthorized"})
        elif self.path == "/v1/models":
            self._answer(200, {"data": [{"id": "chat"}]})
        else:
            assert {"model": "chat", "prompt": "hi", "max_tokens": 1} == asked
            self._answer(200, {"usage": {"completion_tokens": self.token_count}})

    do_GET = do_POST = _respond  # noqa: N815 - the name that http.server calls

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The options file of an engine that answers."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Engine)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    path = tmp_path / "chat.yaml"
    path.write_text(f"host: 0.0.0.0\nmodel: /models/chat\nport: {server.server_port}\nserved-model-name: chat\n")
    monkeypatch.setenv("VLLM_API_KEY", KEY)
    monkeypatch.setenv("MAINPID", str(os.getpid()))
    yield path
    server.shutdown()


def _run(options: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["vllm-ready", str(options), "5"])
    ready.main()


def test_an_engine_that_generates_a_token_is_ready(
    options: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _run(options, monkeypatch)

    assert capsys.readouterr().out.startswith("vllm-ready: first token after ")


def test_an_engine_that_answers_without_a_token_is_not_ready(options: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Engine, "token_count", 0)

    with pytest.raises(SystemExit, match="answered without a token"):
        _run(options, monkeypatch)


def test_a_refused_key_ends_the_wait_at_once(options: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_API_KEY", "another")

    with pytest.raises(SystemExit, match="answered 401 to its first request"):
        _run(options, monkeypatch)


def test_an_engine_that_died_ends_the_wait_at_once(options: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAINPID", str(2**22))  # above the largest process id of Linux

    with pytest.raises(SystemExit, match="the engine died while starting"):
        _run(options, monkeypatch)


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("host: 10.0.0.2\nport: 8000\n", "http://10.0.0.2:8000"),
        ("host: 0.0.0.0\nport: 8001\n", "http://127.0.0.1:8001"),
        ("host: '::'\nport: 8000\n", "http://[::1]:8000"),
        ("data-parallel-address: x\nhost: fd00::2\nport: 8000\n", "http://[fd00::2]:8000"),
    ],
)
def test_the_check_asks_where_the_options_say_the_engine_listens(text: str, url: str) -> None:
    assert url == ready.base_url(text)


def test_a_listener_is_found_with_its_process() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        found = host_state.listeners({port})

    assert [(port, os.getpid())] == [(listener["port"], listener["pid"]) for listener in found]


def test_a_free_port_has_no_listener() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

    assert [] == host_state.listeners({port})


def test_disk_is_needed_for_what_is_not_there_yet_and_not_for_a_complete_release(tmp_path: Path) -> None:
    complete, half, absent = (tmp_path / name for name in ("complete", "half", "absent"))
    complete.mkdir()
    (complete / ".complete").touch()
    half.mkdir()
    (half / "weights").write_bytes(b"x" * 4096)

    (filesystem,) = host_state.filesystems({str(complete): 10**15, str(half): 4096 + 500, str(absent): 1000})

    assert 1500 == filesystem["needed_bytes"]
    assert str(tmp_path).startswith(filesystem["mountpoint"])


def test_gpus_are_read_from_the_driver_and_shared_memory_has_no_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'GPU-1, 143771'\necho 'GPU-2, [N/A]'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")

    assert (
        [{"uuid": "GPU-1", "memory_total_mib": 143771}, {"uuid": "GPU-2", "memory_total_mib": None}],
        "",
    ) == host_state.gpus()


def test_a_driver_that_does_not_answer_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'NVIDIA-SMI has failed'\nexit 9\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")

    assert ([], "NVIDIA-SMI has failed") == host_state.gpus()

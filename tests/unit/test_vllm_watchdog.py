"""The watchdog tells a hang from hard work: the judge by a clock of its own, the program on an engine that freezes."""

import importlib.machinery
import importlib.util
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from benchmarks.fault_engine.process import FaultProcess

ROLE = Path(__file__).resolve().parents[2] / "roles" / "vllm"
PROGRAM = ROLE / "files" / "vllm-watchdog"
RECORDED = Path(__file__).parents[1] / "fakes" / "recorded"
BUSY = (RECORDED / "vllm-0.32.0-metrics-long-prefill.txt").read_text().split("# ---\n")  # one a second
CHUNKS = (RECORDED / "vllm-0.32.0-metrics-chunked-prefill.txt").read_text().split("# ---\n")  # one a chunk of 64 tokens


def _load(path: Path) -> ModuleType:
    loader = importlib.machinery.SourceFileLoader(path.name.replace("-", "_"), str(path))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))  # type: ignore[arg-type]
    loader.exec_module(module)
    return module


watchdog = _load(PROGRAM)


def metrics(*, running: int = 0, waiting: int = 0, generated: int = 0, cache: float = 0.0, engine: int = 0) -> str:
    labels = f'{{engine="{engine}",model_name="chat"}}'
    return (
        f"vllm:num_requests_running{labels} {running:.1f}\nvllm:num_requests_waiting{labels} {waiting:.1f}\n"
        f"vllm:generation_tokens_total{labels} {generated:.1f}\nvllm:kv_cache_usage_perc{labels} {cache}\n"
    )


def judge() -> Any:
    return watchdog.Judge(stall_seconds=20, probe_every_seconds=5)


def first_alarm(judge: Any, seen: Sequence[str | None]) -> int | None:
    """The second of the first alarm, of one sample per second."""
    return next((second for second, text in enumerate(seen) if judge.metrics(float(second), text)), None)


def test_requests_that_run_without_a_token_are_a_hang_after_twenty_seconds() -> None:
    moving = [metrics(running=3, generated=10 * second) for second in range(5)]
    stuck = [metrics(running=3, generated=40)] * 40

    assert 24 == first_alarm(judge(), moving + stuck)


def test_requests_that_only_wait_are_a_hang_too() -> None:
    assert 20 == first_alarm(judge(), [metrics(waiting=2)] * 40)


def test_a_long_prefill_moves_cache_blocks_and_is_no_hang() -> None:
    prefill = [metrics(running=1, generated=7, cache=0.001 * second) for second in range(3600)]

    assert first_alarm(judge(), prefill) is None


def test_recorded_metrics_of_a_real_engine_under_full_load_raise_no_alarm() -> None:
    assert 40 == len(BUSY)
    assert any(values["vllm:num_requests_running"] for text in BUSY for values in watchdog.progress_of(text).values())
    assert first_alarm(judge(), BUSY) is None


def test_a_recorded_long_prefill_raises_no_alarm_although_its_tokens_stand_still() -> None:
    tokens_only = [
        "\n".join(line for line in text.splitlines() if "kv_cache" not in line) + "\n" for text in CHUNKS
    ]  # fmt: skip

    slow = [text for text in CHUNKS for _ in range(2)]  # two seconds a chunk

    assert first_alarm(judge(), slow) is None
    assert first_alarm(judge(), [text for text in tokens_only for _ in range(2)]) is not None


def test_one_stuck_rank_is_a_hang_although_another_moves() -> None:
    seen = [metrics(running=1, generated=second) + metrics(running=1, engine=1) for second in range(40)]

    assert 20 == first_alarm(judge(), seen)


def test_metrics_that_do_not_answer_are_a_hang_unless_they_come_back_in_time() -> None:
    assert 20 == first_alarm(judge(), [None] * 40)
    assert first_alarm(judge(), [*[None] * 19, metrics(running=0), *[None] * 19]) is None


def test_an_idle_engine_is_probed_and_two_failures_in_a_row_are_a_hang() -> None:
    one = judge()
    one.metrics(0.0, metrics())

    assert not one.wants_probe(4.0)
    assert one.wants_probe(5.0)
    assert not one.probe(5.0, "timed out")
    assert not one.probe(10.0, "")
    assert not one.probe(15.0, "timed out")
    assert "the last with: timed out" in one.probe(25.0, "timed out")


def test_a_busy_engine_is_not_probed() -> None:
    one = judge()
    one.metrics(0.0, metrics(running=1))

    assert not one.wants_probe(100.0)


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Path]:
    """What the watchdog calls: a unit that is active, and a record of what was asked of it."""
    said = tmp_path / "said"
    said.touch()
    program = tmp_path / "systemctl"
    program.write_text(
        f'#!/bin/sh\necho "$@" >> {said}\n'
        'case "$*" in *ActiveState*) echo ActiveState=active;; *ControlGroup*) echo ControlGroup=/none;; esac\n'
    )
    program.chmod(0o755)
    yield said


def test_a_frozen_engine_is_described_aborted_and_restarted_and_a_probe_bills_nobody(
    systemd: Path, tmp_path: Path
) -> None:
    with FaultProcess.start(key="a-key-of-the-test") as engine:
        options = tmp_path / "chat.yaml"
        options.write_text(f"host: 127.0.0.1\nport: {engine.port}\n")
        program = str(systemd.with_name("systemctl"))
        started = subprocess.Popen(
            [
                *(sys.executable, str(PROGRAM), str(options), "vllm@chat.service", "--systemctl", program),
                *("--journalctl", "/bin/echo", "--reports", str(tmp_path), "--stall-seconds", "2"),
                *("--probe-every-seconds", "0.1", "--probe-timeout-seconds", "1"),
            ],
            env=os.environ | {"VLLM_API_KEY": "a-key-of-the-test"},
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            _until(lambda: engine.control.requests() != [])
            engine.control.inject("stall")
            _until(lambda: "restart" in systemd.read_text())
        finally:
            started.kill()
            output = started.communicate()[0]
        probes = [entry["id"] for entry in engine.control.requests()]

    said = [line for line in systemd.read_text().splitlines() if not line.startswith("show")]
    assert [
        "kill --signal=SIGABRT --kill-whom=all vllm@chat.service",
        "kill --signal=SIGCONT --kill-whom=all vllm@chat.service",
        "restart --no-block vllm@chat.service",
    ] == said[:3]
    assert "hangs: 2 one-token probes in a row failed" in output
    assert "last metrics" in next(tmp_path.glob("vllm@chat-*.txt")).read_text()
    assert all(probe.startswith("cmpl-watchdog-") for probe in probes)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nnot JSON.",
        b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\n{",
        b"what is this?\r\n\r\n",
    ],
    ids=["no token", "no JSON", "cut off", "no HTTP"],
)
def test_a_probe_that_is_answered_with_rubbish_has_failed(answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(answer)

        serving = threading.Thread(target=serve)
        serving.start()
        engine = watchdog.Engine(f"http://127.0.0.1:{listening.getsockname()[1]}", probe_timeout_seconds=20)
        failure = engine.probe()
        serving.join()

    assert failure


def test_an_engine_is_restarted_also_where_nothing_can_be_written_about_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], systemd: Path
) -> None:
    monkeypatch.setattr(watchdog, "STACKS_SECONDS", 0.0)
    unit = watchdog.Unit("vllm@chat.service", systemctl=str(systemd.with_name("systemctl")), journalctl="/bin/echo")

    watchdog.rescue(unit, "nothing moves", metrics(running=3), tmp_path / "not there")

    assert "restart --no-block vllm@chat.service" == systemd.read_text().splitlines()[-1]
    assert "vllm:num_requests_running" in capsys.readouterr().out


def _until(check: Any, *, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.05)

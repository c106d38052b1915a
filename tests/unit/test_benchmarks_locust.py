"""Locust itself, as operators start it."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.null_process import ROOT
from benchmarks.running import locust_runner
from tests.fakes.null_site import load_for, null_site

LOCUST = [sys.executable, "-m", "locust", "-f", str(ROOT / "benchmarks" / "locustfile.py")]


def test_the_locust_file_loads_from_anywhere_and_hides_no_module(tmp_path: Path) -> None:
    listed = subprocess.run([*LOCUST, "--list"], cwd=tmp_path, capture_output=True, text=True, check=False)

    assert "StreamingUser" in listed.stdout, listed.stderr


def test_two_processes_make_every_arrival_once_and_their_histories_are_one_run(tmp_path: Path) -> None:
    with null_site() as (port, server):
        history = locust_runner(tmp_path, processes=2)(load_for(port, requests=8))

    assert 8 == len(server.traffic.request_ids) == len(set(server.traffic.request_ids))
    assert ["ok"] * 8 == [record.outcome for record in history.records]
    assert list(range(8)) == [record.sequence for record in history.records]
    assert (2, True, 8) == (len(history.efforts), history.complete, history.scheduled_count)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--host", "http://127.0.0.1:9/v1"], 1, "refused (nothing listens there"),
        ([], 2, "name the server: --host"),
        (["--load", "no-such.yml"], 2, "no-such.yml: no such file"),
    ],
)
def test_bad_input_is_named_and_the_exit_code_is_not_zero(
    tmp_path: Path, arguments: list[str], code: int, words: str
) -> None:
    command = [
        *LOCUST,
        "--headless",
        "--no-calibrate",
        "--only-summary",
        "--duration",
        "0.1",
        "--rate",
        "20",
        *arguments,
    ]

    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)

    assert words in done.stdout + done.stderr
    assert done.returncode in {code, 7}  # a busy machine may call its own run invalid first

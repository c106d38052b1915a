"""Probes see what is there, say what is not, and fail in one line when they cannot look."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.errors import BadLoad
from benchmarks.probes import command_finds, command_tells_memory, log_files_contain, memory_of


def test_a_log_is_searched_from_the_moment_the_probe_was_made(tmp_path: Path) -> None:
    log = tmp_path / "engine.log"
    log.write_text("Received request chatcmpl-old-0-0\n")
    contains = log_files_contain([log])

    with log.open("a") as file:
        file.write("Received request chatcmpl-new-0-0-1a2b\n")

    assert contains("new-0-0")
    assert not contains("old-0-0")
    assert not contains("new-1-0")


def test_a_log_that_was_rotated_meanwhile_is_searched_whole(tmp_path: Path) -> None:
    log = tmp_path / "engine.log"
    log.write_text("a long beginning\n" * 10)
    contains = log_files_contain([log])

    log.write_text("Received request chatcmpl-new-0-0\n")

    assert contains("new-0-0")


def test_a_command_is_asked_like_grep(tmp_path: Path) -> None:
    log = tmp_path / "journal"
    log.write_text("id-1\n")
    ask = command_finds(["sh", "-c", f'grep -q -- "$1" {log}', "sh"])
    broken = command_finds(["sh", "-c", "echo no route to host >&2; exit 255", "sh"])

    assert ask("id-1")
    assert not ask("id-2")
    with pytest.raises(BadLoad, match="ended with 255: no route to host"):
        broken("id-1")


def test_memory_is_that_of_the_whole_process_tree_and_ends_with_it() -> None:
    parent = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])"
    child = "import sys; held = b'x' * 50_000_000; print(len(held), flush=True); sys.stdin.read()"
    process = subprocess.Popen(
        [sys.executable, "-c", parent, child], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin
    assert process.stdout
    look = memory_of({"service": process.pid})

    assert "50000000" == process.stdout.readline().strip()
    assert 50_000_000 < look()["service"] < 200_000_000
    process.communicate()
    assert {} == look()


def test_a_process_that_is_not_there_is_one_line() -> None:
    with pytest.raises(BadLoad, match=r"no such process: litellm \(4194304\)"):
        memory_of({"litellm": 4194304, "us": os.getpid()})


def test_a_command_tells_memory_as_json_or_is_refused() -> None:
    assert {"h1 litellm": 1024} == command_tells_memory(["echo", '{"h1 litellm": 1024}'])()
    with pytest.raises(BadLoad, match="not a JSON object of bytes per service"):
        command_tells_memory(["echo", "[1]"])()
    with pytest.raises(BadLoad, match="could not be run"):
        command_tells_memory([f"/no/such/command-{time.time_ns()}"])()

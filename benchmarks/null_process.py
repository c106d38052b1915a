"""Null process: the null server in a process of its own, so that client and server do not share a core's time."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.errors import BadLoad

ROOT = Path(__file__).resolve().parents[1]


@contextmanager
def null_process(*options: str) -> Iterator[tuple[int, int]]:
    """(port, process id) while the block runs; the server ends with us, however we end."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.null_server", "--follow-stdin", *options],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None and process.stdout is not None  # noqa: S101  both are pipes
    try:
        line = process.stdout.readline()
        if not line:
            raise BadLoad(f"the null server did not start; run it by hand: python -m benchmarks.null_server {options}")
        yield int(line), process.pid
    finally:
        process.stdin.close()
        process.wait(timeout=10)
        process.stdout.close()

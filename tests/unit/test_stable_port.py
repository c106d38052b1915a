"""A port that outlives its server: never one from which the kernel makes outgoing connections, never one in use."""

import socket

import pytest

from benchmarks import stable_port as module
from benchmarks.stable_port import RANGE, stable_port


@pytest.mark.skipif(not RANGE.is_file(), reason="the range of outgoing ports is known on Linux only")
def test_it_is_no_port_of_outgoing_connections() -> None:
    first, last = map(int, RANGE.read_text(encoding="ascii").split())

    ports = {stable_port() for _ in range(20)}

    assert [] == [port for port in ports if first <= port <= last]


def test_a_port_in_use_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    free = stable_port()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        tries = iter([taken.getsockname()[1], free])
        monkeypatch.setattr(module.random, "randrange", lambda *_: next(tries))

        assert free == stable_port()

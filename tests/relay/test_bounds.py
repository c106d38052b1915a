"""Legs, time and memory of one request are bounded, and who reaches a bound hears an error and never a false end."""

import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from tests.relay.two_engines import CHAT, KEY, Heard, TwoEngines

MEBIBYTE = 1024 * 1024


@pytest.fixture
def site(tmp_path: Any, request: pytest.FixtureRequest) -> Iterator[TwoEngines]:
    with TwoEngines(tmp_path, **getattr(request, "param", {})) as running:
        yield running


def ask(site: TwoEngines, **more: Any) -> Heard:
    body = {"model": "fault", "temperature": 0, "max_tokens": 60, "stream": True}
    return site.ask(CHAT, body | {"messages": [{"role": "user", "content": "how far?"}]} | more)


@pytest.mark.parametrize("site", [{"max_legs": 2}], indirect=True, ids=["two legs"])
def test_more_faults_than_legs_are_one_error_and_no_end(site: TwoEngines) -> None:
    for engine in site.engines.values():
        engine.control.inject("cut", after_tokens=10)

    stream, whole = ask(site), ask(site, stream=False)

    assert stream.error is not None
    assert (502, False) == (stream.error["code"], stream.done)
    assert "2 engines failed" in stream.error["message"]
    assert 1 == sum("error" in chunk for chunk in stream.chunks)
    assert 502 == whole.status


@pytest.mark.parametrize("site", [{"request_seconds_max": 1.0}], indirect=True, ids=["one second"])
def test_an_answer_that_takes_too_long_is_one_error_and_no_end(site: TwoEngines) -> None:
    site.become(itl_ms=200)

    stream, whole = ask(site), ask(site, stream=False)

    assert stream.error is not None
    assert (504, False) == (stream.error["code"], stream.done)
    assert 504 == whole.status
    assert "within 1 s" in whole.body["error"]["message"]


@pytest.mark.parametrize("site", [{"first_byte_seconds": 2.0}], indirect=True, ids=["patience of 2 s"])
def test_a_stream_whose_last_engine_dies_hears_one_error_and_no_end(site: TwoEngines) -> None:
    site.become(itl_ms=100)
    body = {"model": "fault", "max_tokens": 600, "stream": True, "messages": [{"role": "user", "content": "alone"}]}
    events = []
    with site.client.stream("POST", f"{site.address}{CHAT}", json=body) as answer:
        for line in answer.iter_lines():
            if line.startswith("data: "):
                events.append(line.removeprefix("data: "))
                if len(events) == 3:
                    for engine in site.engines.values():
                        engine.kill()

    errors = [json.loads(event)["error"] for event in events if event.startswith('{"error"')]
    assert "[DONE]" not in events
    assert [503] == [error["code"] for error in errors]


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"x-long: " + b"a" * 70_000 + b"\r\n", b"431"),
        (b"content-length: %d\r\n\r\n" % (66 * MEBIBYTE) + b" " * (65 * MEBIBYTE), b"413"),
    ],
    ids=["a head of 70 kB", "a body of 65 MiB"],
)
def test_a_request_of_too_many_bytes_is_refused(site: TwoEngines, request_bytes: bytes, status: bytes) -> None:
    with socket.create_connection(("127.0.0.1", int(site.address.rpartition(":")[2]))) as client:
        client.settimeout(60)
        try:
            client.sendall(
                f"POST {CHAT} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n".encode() + request_bytes
            )
            first = client.recv(1024)
        except ConnectionError:  # it was refused while we were sending, and said why before
            first = b""

    assert first.split(b" ")[1:2] in ([status], [])
    assert 200 == site.client.get(f"{site.address}/health").status_code
    assert ask(site).done

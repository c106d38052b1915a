"""What strangers, clients and operators get from the edge, and what never reaches a gateway."""

import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sizing.observation import EdgeObservation
from tests.edge.edge import (
    GOOD_KEY,
    SERVER_NAME,
    Edge,
    Gateway,
    Written,
    free_port,
    gateway_at,
    running,
    write_edge,
)
from tests.edge.http2 import request
from tests.fakes.ansible_module import run_module

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(shutil.which("haproxy", path="/usr/sbin") is None, reason="needs Debian's haproxy"),
]
STRANGER_LIMIT = 5


ADDRESSES = ["127.0.0.1", "127.0.0.2"]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    return write_edge(
        tmp_path_factory.mktemp("edge"),
        gateway_addresses=ADDRESSES,
        gateway_port=free_port(),
        edge_stranger_attempts_per_minute=STRANGER_LIMIT,
    )


@pytest.fixture
def gateways(written: Written) -> Iterator[list[Gateway]]:
    port = written.gateway_port
    with gateway_at(ADDRESSES[0], port) as first, gateway_at(ADDRESSES[1], port) as second:
        yield [first, second]


@pytest.fixture
def edge(written: Written, gateways: list[Gateway]) -> Iterator[Edge]:
    assert len(gateways) == len(ADDRESSES)
    with running(written) as edge:
        yield edge


def reached(gateways: list[Gateway]) -> list[str]:
    return [path for gateway in gateways for path in gateway.paths() if path != "/health/liveliness"]


def headers_of(gateways: list[Gateway], path: str) -> dict[str, str]:
    return next(headers for one in gateways for line, headers in one.seen if line.split(" ")[1] == path)


def test_a_client_with_a_key_is_served(edge: Edge, gateways: list[Gateway]) -> None:
    status, answer = edge.ask("/v1/models")

    assert 200 == status
    assert ["/v1/models"] == reached(gateways)
    assert "10.0.0.9" not in answer


def test_what_clients_claim_about_their_address_is_replaced(edge: Edge, gateways: list[Gateway]) -> None:
    claims = {"X-Forwarded-For": "10.9.9.9", "Forwarded": "for=10.9.9.9", "X-Original-URL": "/key/list"}

    edge.ask("/v1/models", headers={**claims, "X-Forwarded-Host": "evil.example"})

    seen = headers_of(gateways, "/v1/models")
    assert "127.0.0.1" == seen["x-forwarded-for"]
    assert "https" == seen["x-forwarded-proto"]
    assert {"forwarded", "x-original-url", "x-forwarded-host"} & set(seen) == set()


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/key/generate", 404),
        ("/config/update", 404),
        ("/ui/", 404),
        ("/mcp-rest/test/connection", 404),
        ("/v1/modelsX", 404),
        ("/health/readiness", 404),
        ("//key/list", 400),
        ("/v1/models/../../key/list", 400),
        ("/v1/models/%2e%2e/%2e%2e/key/list", 400),
        ("/v1/models/..%2f..%2fkey/list", 400),
        ("/v1/models/..;/key/list", 400),
        ("/v1/models/%5c..", 400),
    ],
)
def test_other_paths_and_their_disguises_stop_here(edge: Edge, gateways: list[Gateway], path: str, status: int) -> None:
    assert status == edge.ask(path)[0]
    assert [] == reached(gateways)


def test_operators_reach_the_administration_from_their_network(gateways: list[Gateway], tmp_path: Path) -> None:
    written = write_edge(
        tmp_path,
        gateway_addresses=ADDRESSES,
        gateway_port=gateways[0].port,
        edge_operator_networks=["127.0.0.0/8"],
    )

    with running(written) as edge:
        status, _ = edge.ask("/key/list")

    assert 200 == status
    assert ["/key/list"] == reached(gateways)


@pytest.mark.parametrize(
    "request_lines",
    [
        [b"GET /v1/models HTTP/1.1", b"Host: evil.example"],
        [b"GET /v1/models HTTP/1.1", b"Host: ai.example", b"Host: evil.example"],
        [b"GET http://evil.example/v1/models HTTP/1.1", b"Host: ai.example"],
        [b"GET /v1/models HTTP/1.0"],
        [b"GET /v1/models HTTP/1.1", b"Host: ai.example@evil.example"],
    ],
    ids=["foreign", "two", "absolute", "none", "userinfo"],
)
def test_tricks_with_the_host_are_refused(edge: Edge, gateways: list[Gateway], request_lines: list[bytes]) -> None:
    lines = [*request_lines, b"Authorization: Bearer " + GOOD_KEY.encode(), b"Connection: close", b"", b""]

    status = edge.raw(b"\r\n".join(lines)).split(b" ")[1]

    assert status in (b"400", b"421")
    assert [] == reached(gateways)


SMUGGLED = b"GET /key/list HTTP/1.1\r\nHost: ai.example\r\nAuthorization: Bearer sk-good-key-of-a-client\r\n\r\n"


@pytest.mark.parametrize(
    "headers",
    [
        b"Content-Length: 5\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: chunked\r\nContent-Length: 5",
        b"Transfer-Encoding: xchunked\r\nContent-Length: 5",
        b"Transfer-Encoding : chunked\r\nContent-Length: 5",
        b"Content-Length: 5\r\nContent-Length: 6",
        b"Content-Length: +5",
        b"Transfer_Encoding: chunked\r\nContent-Length: 5",
        b"Content-Length: 5\r\n Transfer-Encoding: chunked",
    ],
)
def test_no_request_is_smuggled_inside_another(edge: Edge, gateways: list[Gateway], headers: bytes) -> None:
    key = b"Authorization: Bearer " + GOOD_KEY.encode()
    head = b"POST /v1/completions HTTP/1.1\r\nHost: ai.example\r\n" + key + b"\r\n" + headers + b"\r\n\r\n"

    edge.raw(head + b"0\r\n\r\n" + SMUGGLED)

    assert set(reached(gateways)) <= {"/v1/completions"}


def test_without_a_key_no_gateway_is_asked(edge: Edge, gateways: list[Gateway]) -> None:
    statuses = [edge.ask("/v1/models", key=key)[0] for key in (None, "x", "sk-'; drop table")]

    assert [401, 401, 401] == statuses
    assert [] == reached(gateways)


def test_a_stranger_is_turned_away_and_his_neighbour_is_not(edge: Edge, gateways: list[Gateway]) -> None:
    edge.ask("/v1/models")

    statuses = [edge.ask("/v1/models", key=f"sk-stranger-number-{number}")[0] for number in range(20)]
    asked = len(reached(gateways))

    assert [401] * (STRANGER_LIMIT + 1) + [429] * (20 - STRANGER_LIMIT - 1) == statuses
    assert 1 + STRANGER_LIMIT + 1 == asked
    assert 200 == edge.ask("/v1/models")[0]


def test_a_stranger_does_not_become_known_by_asking_what_anybody_may(edge: Edge) -> None:
    for _ in range(3):
        assert 200 == edge.ask("/health/liveliness", key="sk-stranger-and-nobody")[0]

    statuses = [edge.ask("/v1/models", key="sk-stranger-and-nobody")[0] for _ in range(10)]

    assert 429 == statuses[-1]


def test_a_gateway_that_ends_without_a_word_costs_no_request(edge: Edge, gateways: list[Gateway]) -> None:
    gateways[0].hang_up = True

    statuses = [edge.ask("/v1/completions", method="POST", body=b"{}")[0] for _ in range(10)]

    assert [200] * 10 == statuses


def test_a_gateway_that_refuses_connections_costs_no_request(written: Written) -> None:
    with gateway_at(ADDRESSES[0], written.gateway_port), running(written) as edge:
        statuses = [edge.ask("/v1/completions", method="POST", body=b"{}")[0] for _ in range(10)]

    assert [200] * 10 == statuses


def test_a_stream_arrives_as_it_is_made(edge: Edge, gateways: list[Gateway]) -> None:
    with edge.connect() as connection:
        connection.sendall(_stream_request())
        begun = b""
        while b"data: first" not in begun:
            begun += connection.recv(4096)
        for gateway in gateways:
            gateway.sends.set()
        rest = b""
        while chunk := connection.recv(4096):
            rest += chunk

    assert b"[DONE]" not in begun
    assert b"data: [DONE]" in rest


def test_a_client_that_leaves_is_gone_for_the_gateway_too(edge: Edge, gateways: list[Gateway]) -> None:
    with edge.connect() as connection:
        connection.sendall(_stream_request())
        begun = b""
        while b"data: first" not in begun:
            begun += connection.recv(4096)

    assert any(gateway.client_left.wait(timeout=5) for gateway in gateways)


def _stream_request() -> bytes:
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {SERVER_NAME}\r\nAuthorization: Bearer {GOOD_KEY}\r\n"
    return head.encode() + b"Content-Length: 2\r\nConnection: close\r\n\r\n{}"


def test_a_key_sent_in_the_clear_is_not_sent_on(edge: Edge, gateways: list[Gateway]) -> None:
    with_key, _ = edge.ask("/v1/models", plain=True)
    browser, answer = edge.ask("/", key=None, plain=True)

    assert (403, 308) == (with_key, browser)
    assert "location: https://ai.example/" in answer
    assert [] == reached(gateways)


def test_a_body_that_is_too_large_or_of_unknown_length_is_refused(edge: Edge, gateways: list[Gateway]) -> None:
    head = f"POST /v1/completions HTTP/1.1\r\nHost: {SERVER_NAME}\r\nAuthorization: Bearer {GOOD_KEY}\r\n".encode()

    large = edge.raw(head + b"Content-Length: 33554433\r\n\r\n" + b"x" * 20000)
    chunked = edge.raw(head + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n")

    assert large.startswith(b"HTTP/1.1 413")
    assert chunked.startswith(b"HTTP/1.1 411")
    assert [] == reached(gateways)


def test_a_body_of_unknown_length_is_refused_over_http_2_too(edge: Edge, gateways: list[Gateway]) -> None:
    def post(*more: tuple[str, str], body: bytes) -> str:
        headers = [
            (":method", "POST"), (":scheme", "https"), (":path", "/v1/completions"), (":authority", SERVER_NAME),
            ("authorization", f"Bearer {GOOD_KEY}"), *more,
        ]  # fmt: skip
        return request(edge.port, edge.authority, server_name=SERVER_NAME, headers=headers, body=body)

    unstated = post(body=b"{}")
    before = reached(gateways)
    stated = post(("content-length", "2"), body=b"{}")

    assert "411" == unstated
    assert [] == before
    assert "200" == stated


def test_the_observing_module_sees_an_open_way_and_a_closed_fence(edge: Edge) -> None:
    observation = run_module(
        "observe_edge",
        address="127.0.0.1",
        port=edge.port,
        server_name=SERVER_NAME,
        certificate=edge.authority.read_text(encoding="utf-8"),
        key=GOOD_KEY,
    )["observation"]

    seen = EdgeObservation.model_validate(observation)
    assert ("", 200, 401) == (seen.error, seen.models_status, seen.keyless_status)
    assert (400, 421, None) == (seen.disguised_path_status, seen.foreign_host_status, seen.holds_virtual_address)
    assert seen.certificate_days_left is not None
    assert 823 < seen.certificate_days_left < 825


def drain(written: Written, address: str, state: str) -> dict[str, Any]:
    return run_module(
        "drain_gateway", gateway=address, state=state, socket=str(written.socket), kept=str(written.drained)
    )


def served_by(edge: Edge) -> set[str]:
    return {edge.ask("/v1/models")[1].rpartition("\r\n\r\n")[2] for _ in range(8)}


def test_a_drained_gateway_finishes_what_runs_and_gets_nothing_new_also_from_the_next_process(
    written: Written, gateways: list[Gateway]
) -> None:
    with running(written) as edge, edge.connect() as client:
        client.sendall(_stream_request())
        begun = rest = b""
        while b"data: first" not in begun:
            begun += client.recv(4096)
        here, other = sorted(gateways, key=lambda one: "/v1/chat/completions" not in one.paths())
        out = drain(written, here.address, "out")
        last = drain(written, other.address, "out")
        meanwhile = served_by(edge)
        here.sends.set()
        while chunk := client.recv(4096):
            rest += chunk
    with running(written) as edge:
        after_restart = served_by(edge)
        back = drain(written, here.address, "in")
        in_the_end = served_by(edge)

    assert (True, True) == (out["changed"], out["known"])
    assert f"{other.address} is the last gateway that serves ({here.address})" in last["msg"]
    assert b"data: [DONE]" in rest
    assert {other.address} == meanwhile == after_restart
    assert back["changed"]
    assert set(ADDRESSES) == in_the_end
    assert not drain(written, here.address, "in")["known"]  # no HAProxy is there to be told


def called_up(written: Written) -> set[str]:
    """The gateways that HAProxy's checks call up."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(written.socket))
        connection.sendall(b"show servers state gateways\n")
        _, names, *rows = connection.makefile().read().splitlines()
    column = names.removeprefix("# ").split(" ").index
    fields = [row.split(" ") for row in rows if row]
    return {row[column("srv_name")] for row in fields if row[column("srv_op_state")] == "2"}


def test_a_gateway_that_late_checks_call_down_is_asked_all_the_same_where_no_other_is_left(
    written: Written, gateways: list[Gateway]
) -> None:
    out, last = gateways
    with running(written) as edge:
        drain(written, out.address, "out")
        last.called_down = True
        deadline = time.monotonic() + 60
        while last.address in called_up(written):
            assert time.monotonic() < deadline, "HAProxy's checks do not call it down"
            time.sleep(0.1)
        served = served_by(edge)
        drain(written, out.address, "in")
        with_both = served_by(edge)

    assert {last.address} == served  # and never the one that was taken out
    assert {out.address} == with_both  # checks decide as long as they leave somebody

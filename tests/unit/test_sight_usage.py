"""Usage by team and model, from the very lines that the gateway's hook and the relay's ledger write."""

import asyncio
import os
import re
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from relay.ledger import Ledger, Leg
from relay.ledger_lines import encode
from sight import ledgers
from sight.exposition import Counters, text_of
from sight.gateway_host import Configuration, ConfigurationRefused, pages_of
from sight.serve import Unavailable, serve
from sight.usage import Price, Usage


class Site:
    """The two ledger directories of one gateway host."""

    def __init__(self, directory: Path) -> None:
        self.relays, self.identities = directory / "relay", directory / "gateway"
        self.relays.mkdir()
        self.identities.mkdir()
        self.segment = self.identities / "gateway.20260101T000000Z-aa-000001.ledger.jsonl"

    def usage(self) -> Usage:
        return Usage(
            relay_directory=self.relays,
            identity_directory=self.identities,
            prices={"tiny": Price(input=0.001, output=0.002)},
        )

    def note(self, **record: Any) -> None:
        with self.segment.open("ab") as file:
            file.write(encode(record))

    def asked(self, request: str, *, team: str | None, model: str = "qwen") -> None:
        self.note(
            kind="begin", at=1.0, entry=f"g-{request}", request=request, team_alias=team, team_id=None, model=model
        )


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def samples(usage: Usage) -> dict[str, float]:
    lines = [line for line in text_of(usage.families()).splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


def answer(ledger: Ledger, request: str, *, outcome: str = "completed") -> None:
    """One request through the relay's own ledger: ten tokens read, four made."""
    ledger.begin(request, model="tiny", endpoint="/v1/chat/completions")
    ledger.progress(request, replica="a", prompt_tokens=10, completion_tokens=1)
    leg = Leg(replica="a", prompt_tokens=10, completion_tokens=4, outcome=outcome)
    asyncio.run(
        ledger.end(request, prompt_tokens=10, completion_tokens=4, cached_tokens=3, legs=[leg], outcome=outcome)
    )


def test_a_request_is_counted_to_its_team_and_the_model_it_asked_for(site: Site) -> None:
    usage = site.usage()
    with_ledger = Ledger.open(site.relays, group="tiny")
    site.asked("r1", team="search")
    answer(with_ledger, "r1")
    site.asked("r2", team=None)
    answer(with_ledger, "r2", outcome="engines_failed")

    seen = samples(usage)

    assert 1 == seen['appliance_requests_begun_total{team="search",model="qwen"}']
    assert 1 == seen['appliance_requests_total{team="search",model="qwen",outcome="completed"}']
    assert 1 == seen['appliance_requests_total{team="none",model="qwen",outcome="engines_failed"}']
    assert 10 == seen['appliance_tokens_total{team="search",model="qwen",kind="prompt"}']
    assert 4 == seen['appliance_tokens_total{team="search",model="qwen",kind="completion"}']
    assert 3 == seen['appliance_tokens_total{team="search",model="qwen",kind="cached"}']
    assert pytest.approx(0.018) == seen['appliance_spend_total{team="search",model="qwen"}']
    assert 1 == seen['appliance_first_token_seconds_count{team="search",model="qwen"}']
    assert 1 == seen['appliance_request_seconds_bucket{team="search",model="qwen",le="+Inf"}']
    assert 'appliance_request_seconds_count{team="none",model="qwen"}' not in seen
    assert 0 == seen["appliance_followed_damaged_lines_total"]
    with_ledger.close()


def test_a_model_without_a_relay_is_counted_by_what_the_gateway_booked(site: Site) -> None:
    usage = site.usage()
    site.asked("c1", team="search", model="cloud")
    numbers = {"prompt_tokens": 5, "completion_tokens": 2, "cached_tokens": 0}
    site.note(
        kind="end", at=3.5, entry="g-c1", request="c1", begun_at=1.0, billed_by="provider", model="x", cost="0.25",
        outcome="completed", **numbers,
    )  # fmt: skip

    seen = samples(usage)

    assert 0.25 == seen['appliance_spend_total{team="search",model="cloud"}']
    assert 2.5 == seen['appliance_request_seconds_sum{team="search",model="cloud"}']


def test_nothing_is_counted_twice_when_a_segment_repeats_its_lines(site: Site) -> None:
    usage = site.usage()
    ledger = Ledger.open(site.relays, group="tiny")
    site.asked("r1", team="search")
    answer(ledger, "r1")
    samples(usage)
    ledger.close()
    old = next(site.relays.rglob("*.ledger.jsonl"))
    (old.parent / "tiny.20270101T000000Z-bb-000001.ledger.jsonl").write_bytes(old.read_bytes())

    seen = samples(usage)

    assert 10 == seen['appliance_tokens_total{team="search",model="qwen",kind="prompt"}']
    assert 1 == seen['appliance_first_token_seconds_count{team="search",model="qwen"}']


def test_an_exporter_that_starts_later_knows_who_asked_and_counts_only_what_comes(site: Site) -> None:
    ledger = Ledger.open(site.relays, group="tiny")
    site.asked("before", team="search")
    answer(ledger, "before")
    site.asked("running", team="search")

    usage = site.usage()
    answer(ledger, "running")

    seen = samples(usage)
    assert 10 == seen['appliance_tokens_total{team="search",model="qwen",kind="prompt"}']
    assert not any(name.startswith("appliance_requests_begun_total") for name in seen)
    ledger.close()


def test_a_line_that_is_half_written_is_read_when_it_is_whole(site: Site) -> None:
    usage = site.usage()
    line = encode({"kind": "begin", "at": 1.0, "entry": "e", "request": "r", "team_alias": "a", "model": "qwen"})
    site.segment.write_bytes(line[:20])
    assert {} == {name: one for name, one in samples(usage).items() if "begun" in name}

    with site.segment.open("ab") as file:
        file.write(line[20:])

    assert 1 == samples(usage)['appliance_requests_begun_total{team="a",model="qwen"}']


def test_a_damaged_line_is_counted_and_the_next_one_read(site: Site) -> None:
    usage = site.usage()
    site.segment.write_bytes(b'{"kind":"begin","crc":"00000000"}\n')
    site.asked("r", team="a")

    seen = samples(usage)

    assert 1 == seen["appliance_followed_damaged_lines_total"]
    assert 1 == seen['appliance_requests_begun_total{team="a",model="qwen"}']


def test_one_look_is_bounded_and_the_next_ones_read_the_rest(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledgers, "READ_BYTES", 400)
    usage = site.usage()
    for number in range(100):
        site.asked(f"r{number}", team="a")
    name = 'appliance_requests_begun_total{team="a",model="qwen"}'

    first = samples(usage)[name]

    assert 0 < first < 100
    assert any(100 == samples(usage)[name] for _ in range(20))


def test_labels_are_escaped() -> None:
    counters = Counters("x_total", "X", ("team",))
    counters.add(('a"b\\c\nd',))

    assert text_of([counters.family()]).splitlines()[-1] == 'x_total{team="a\\"b\\\\c\\nd"} 1'


def configuration(site: Site, tmp_path: Path, *, gateway: str, relay_port: int) -> Configuration:
    ledger = tmp_path / "ledger.json"
    write_ledger_file(ledger, site, price="0.001")
    path = tmp_path / "gateway.json"
    path.write_text(
        f'{{"gateway_url": "{gateway}", "relays": {{"tiny": {relay_port}}}, "ledger_configuration": "{ledger}"}}'
    )
    return Configuration.load(path)


def write_ledger_file(path: Path, site: Site, *, price: str) -> None:
    path.write_text(
        f'{{"host": "h1", "relay_directory": "{site.relays}", "identity_directory": "{site.identities}",'
        f' "prices": {{"tiny": {{"input": "{price}", "output": "{price}"}}}}}}'
    )


def test_prices_are_read_again_when_the_gateways_file_changes_and_counts_go_on(site: Site, tmp_path: Path) -> None:
    page = pages_of(configuration(site, tmp_path, gateway="http://127.0.0.1:1", relay_port=1))["/metrics"]
    ledger = Ledger.open(site.relays, group="tiny")
    site.asked("r1", team="a")
    answer(ledger, "r1")
    assert 'appliance_spend_total{team="a",model="qwen"} 0.014' in page()

    write_ledger_file(tmp_path / "ledger.json", site, price="1.0")
    os.utime(tmp_path / "ledger.json", ns=(1, 1))
    site.asked("r2", team="a")
    answer(ledger, "r2")

    assert 'appliance_spend_total{team="a",model="qwen"} 14.014' in page()
    ledger.close()


def test_a_host_whose_gateway_is_not_placed_yet_still_says_that_it_is_not_ready(tmp_path: Path) -> None:
    site_file = tmp_path / "gateway.json"
    site_file.write_text('{"gateway_url": "http://127.0.0.1:1", "relays": {}, "ledger_configuration": "/nowhere"}')

    page = pages_of(Configuration.load(site_file))["/metrics"]()

    assert "\nappliance_gateway_ready 0\n" in page
    assert "appliance_requests" not in page


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def backend(status: int, body: bytes) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    return server


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [(200, b'{"db": "connected"}', (1, 1)), (200, b'{"db": "disconnected"}', (1, 0)), (503, b"{}", (0, 0))],
)
def test_the_gateway_is_asked_and_its_body_believed_rather_than_its_status(
    site: Site, tmp_path: Path, status: int, body: bytes, expected: tuple[int, int]
) -> None:
    gateway = backend(status, body)
    where = f"http://127.0.0.1:{gateway.server_address[1]}"

    page = pages_of(configuration(site, tmp_path, gateway=where, relay_port=1))["/metrics"]()

    found = {name: re.search(rf"^{name} (\S+)$", page, re.MULTILINE) for name in
             ("appliance_gateway_ready", "appliance_gateway_database_connected")}  # fmt: skip
    assert expected == tuple(int(one[1]) for one in found.values() if one)
    gateway.shutdown()


def test_a_relay_on_loopback_is_passed_on_and_its_absence_said(site: Site, tmp_path: Path) -> None:
    relay = backend(200, b"relay_requests_running 3\n")
    loaded = configuration(site, tmp_path, gateway="http://127.0.0.1:1", relay_port=relay.server_address[1])
    page = pages_of(loaded)["/relay/tiny"]
    assert "relay_requests_running 3\n" == page()

    relay.shutdown()
    relay.server_close()

    with pytest.raises(Unavailable, match="relay tiny does not answer"):
        page()


def test_a_misspelt_name_in_the_configuration_is_refused(tmp_path: Path) -> None:
    (tmp_path / "gateway.json").write_text('{"gateway_uri": "http://127.0.0.1:4000"}')

    with pytest.raises(ConfigurationRefused, match="gateway_url"):
        Configuration.load(tmp_path / "gateway.json")


def get(port: int, path: str) -> tuple[int, str]:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://127.0.0.1:{port}{path}", timeout=20) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_a_page_that_cannot_be_made_is_503_with_the_reason_and_another_path_404(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def broken() -> str:
        raise Unavailable("the driver is gone")

    pages: dict[str, Callable[[], str]] = {"/metrics": lambda: "x 1\n", "/broken": broken}
    server = serve(pages, host="127.0.0.1", port=free_port())
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    port = server.server_address[1]

    assert (200, "x 1\n") == get(port, "/metrics")
    assert (503, "the driver is gone\n") == get(port, "/broken")
    assert 404 == get(port, "/../etc/passwd")[0]
    assert "sight: /broken: the driver is gone" in capsys.readouterr().err
    server.shutdown()
    server.server_close()

"""Locust itself, as operators start it: alone, in several processes, over a network, with its web page, badly fed."""

import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from benchmarks.history import load_history
from benchmarks.null_process import ROOT
from benchmarks.running import locust_runner
from tests.fakes.certificate import self_signed
from tests.fakes.null_site import load_for, null_site

LOCUST = [sys.executable, "-m", "locust", "-f", str(ROOT / "benchmarks" / "locustfile.py")]
QUICK = ["--headless", "--no-calibrate", "--only-summary", "--duration", "0.2", "--rate", "20"]
FAILED, WRONG, INVALID = 1, 2, 7
ENDS_SECONDS = 120  # a run of a fraction of a second on a machine that has much else to do


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


def distributed(directory: Path, *arguments: str) -> tuple["subprocess.Popen[str]", list["subprocess.Popen[str]"]]:
    """A master and two workers that find it over the network, as on three machines."""
    port = str(_free_port())
    master = [
        *LOCUST,
        *QUICK,
        "--master",
        "--master-bind-host",
        "127.0.0.1",
        "--master-bind-port",
        port,
        "--users",
        "2",
    ]
    worker = [*LOCUST, "--worker", "--master-host", "127.0.0.1", "--master-port", port]
    started = subprocess.Popen(
        [*master, "--expect-workers", "2", *arguments],
        cwd=directory,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return started, [subprocess.Popen(worker, cwd=directory, stderr=subprocess.DEVNULL, text=True) for _ in range(2)]


def test_workers_on_the_network_share_the_arrivals_and_the_master_judges_them(tmp_path: Path) -> None:
    with null_site() as (port, server):
        master, workers = distributed(tmp_path, "--host", f"http://127.0.0.1:{port}/v1", "--arrivals", "constant")
        said, _ = master.communicate(timeout=ENDS_SECONDS)
        codes = [worker.wait(timeout=ENDS_SECONDS) for worker in workers]
    history = load_history([tmp_path / "histories"])

    assert master.returncode in {0, INVALID}, said  # a busy machine may call its own run invalid
    assert [0, 0] == codes
    assert "4 requests" in said
    assert 4 == len(set(server.traffic.request_ids)) == len(server.traffic.request_ids)
    assert [0, 1, 2, 3] == [record.sequence for record in history.records]
    assert 2 == len(history.efforts)


def test_a_worker_that_dies_ends_the_run_as_invalid_and_the_other_ones_records_stay(tmp_path: Path) -> None:
    with null_site() as (port, _):
        arguments = ["--host", f"http://127.0.0.1:{port}/v1", "--duration", "4", "--arrivals", "constant"]
        master, workers = distributed(tmp_path, *arguments)
        while len(list(tmp_path.glob("histories/*.history"))) < 2:
            assert master.poll() is None
            time.sleep(0.05)
        workers[0].kill()
        said, _ = master.communicate(timeout=ENDS_SECONDS)
        for worker in workers:
            worker.wait(timeout=ENDS_SECONDS)

    assert INVALID == master.returncode, said
    assert "a load process died" in said
    assert load_history([tmp_path / "histories"]).records


def test_the_web_page_starts_a_run_and_shows_its_numbers(tmp_path: Path) -> None:
    web = f"http://127.0.0.1:{(web_port := _free_port())}"
    with null_site() as (port, server):
        arguments = ["--no-calibrate", "--web-host", "127.0.0.1", "--web-port", str(web_port), "--only-summary"]
        locust = subprocess.Popen(
            [*LOCUST, *arguments], cwd=tmp_path, stderr=subprocess.DEVNULL, stdout=subprocess.PIPE
        )
        page = _page(web, patience_seconds=ENDS_SECONDS)
        form = {"user_count": "1", "spawn_rate": "1", "host": f"http://127.0.0.1:{port}/v1", "rate": "20"}
        form |= {"duration": "0.2", "arrivals": "constant"}
        started = json.loads(_page(f"{web}/swarm", form=form))
        deadline = time.monotonic() + ENDS_SECONDS
        while (shown := json.loads(_page(f"{web}/stats/requests")))["state"] != "stopped":
            assert time.monotonic() < deadline
            time.sleep(0.1)
        locust.send_signal(signal.SIGTERM)
        locust.communicate(timeout=ENDS_SECONDS)

    assert all(f'"{name}"' in page for name in ("model_name", "prompt_tokens", "rate"))
    assert started["success"]
    assert 4 == len(server.traffic.request_ids)
    counts = {row["name"]: row["num_requests"] for row in shown["stats"]}
    assert (4, 4) == (counts["end to end"], counts["time to first token"])


@pytest.fixture(scope="module")
def badly_fed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, tuple[int, str]]]:
    """What Locust says and returns in each case; all run at the same time, for starting is what takes long."""
    directory = tmp_path_factory.mktemp("badly_fed")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(self_signed(directory))
    with (
        null_site(key="the-right-key") as (port, _),
        null_site(tls=context) as (tls_port, _),
        null_site() as (open_port, _),
    ):
        url, open_url = f"http://127.0.0.1:{port}/v1", f"http://127.0.0.1:{open_port}/v1"
        cases = {
            "wrong key": ["--host", url],
            "no such model": ["--host", open_url, "--model-name", "null?fault=missing"],
            "down": ["--host", f"http://127.0.0.1:{_free_port()}/v1"],
            "html": ["--host", open_url, "--model-name", "null?fault=html"],
            "never ends": ["--host", open_url, "--model-name", "null?fault=endless", "--patience", "1"],
            "tls": ["--host", f"https://127.0.0.1:{tls_port}/v1"],
            "dns": ["--host", "http://no-such-host.invalid/v1"],
            "no server named": [],
            "no such load file": ["--load", "no-such.yml"],
        }

        def run(name: str) -> tuple[int, str]:
            command = [*LOCUST, *QUICK, "--histories", str(directory / name.replace(" ", "-")), *cases[name]]
            done = subprocess.run(
                command,
                cwd=directory,
                env=os.environ | {"LLM_API_KEY": "the-wrong-key"},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
                timeout=ENDS_SECONDS,
            )
            return done.returncode, done.stdout

        with ThreadPoolExecutor(max_workers=3) as pool:
            yield dict(zip(cases, pool.map(run, cases), strict=True))


@pytest.mark.parametrize(
    ("case", "code", "words"),
    [
        ("wrong key", FAILED, r"failed: \d+ unauthorized \(HTTP 401 or 403\)"),
        ("no such model", FAILED, r"failed: \d+ not_found \(HTTP 404: no such model or path\)"),
        ("down", FAILED, r"failed: \d+ refused \(nothing listens there"),
        ("html", FAILED, r"failed: \d+ not_a_stream \(HTTP 200 with HTML"),
        ("never ends", FAILED, r"failed: \d+ endless \(not over after the longest time"),
        ("tls", FAILED, r"failed: \d+ tls \(the TLS handshake or certificate failed\)"),
        ("dns", FAILED, r"failed: \d+ dns \(the host name does not resolve\)"),
        ("no server named", WRONG, r"name the server: --host"),
        ("no such load file", WRONG, r"no-such.yml: no such file"),
    ],
)
def test_bad_input_is_named_by_class_the_run_ends_and_its_exit_code_is_not_zero(
    badly_fed: dict[str, tuple[int, str]], case: str, code: int, words: str
) -> None:
    returned, said = badly_fed[case]

    assert re.search(words, said), said
    assert returned in {code, INVALID}  # a busy machine may call its own run invalid first
    assert "the-wrong-key" not in said


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _page(url: str, *, form: dict[str, str] | None = None, patience_seconds: float = ENDS_SECONDS) -> str:
    deadline = time.monotonic() + patience_seconds
    data = urllib.parse.urlencode(form).encode() if form else None
    while True:
        try:
            with urllib.request.urlopen(url, data=data, timeout=ENDS_SECONDS) as answer:  # noqa: S310  loopback
                return str(answer.read().decode())
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)

"""Clients that do not stream: the same JSON as vLLM's own, through faults too, and the other paths."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from relay.ledger_reader import read_all
from tests.relay.two_engines import CHAT, HASTY, KEY, TEXT, TwoEngines

ASKED: dict[str, Any] = {"model": "fault", "temperature": 0, "max_tokens": 40}
TOOLS = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoEngines]:
    with TwoEngines(tmp_path_factory.mktemp("site")) as running:
        yield running


@pytest.fixture(scope="module")
def hasty_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoEngines]:
    with TwoEngines(tmp_path_factory.mktemp("hasty"), **HASTY) as running:
        yield running


def chat(prompt: str, **more: Any) -> dict[str, Any]:
    return ASKED | {"messages": [{"role": "user", "content": prompt}]} | more


def essence(body: dict[str, Any]) -> dict[str, Any]:
    choices = [
        (
            choice["index"],
            (choice.get("message") or {}).get("content"),
            choice.get("text"),
            choice["finish_reason"],
            choice["stop_reason"],
        )
        for choice in body["choices"]
    ]
    counts = {key: body["usage"][key] for key in ("prompt_tokens", "completion_tokens", "total_tokens")}
    return {"choices": choices, "usage": counts, "object": body["object"], "model": body["model"]}


@pytest.mark.parametrize("fault", ["cut", "stall", "error_event", "false_end", "500", "reset"])
@pytest.mark.parametrize(
    ("path", "special"),
    [
        (CHAT, {}),
        (TEXT, {"prompt": "얼마나? 🎉"}),
        (CHAT, {"stop": [" th", "ing"]}),
        (CHAT, {"tools": TOOLS}),
        (CHAT, {"temperature": 0.5, "seed": 3}),
    ],
    ids=["chat", "completion", "stop", "tools", "a seed"],
)
def test_a_whole_answer_survives_a_fault(
    site: TwoEngines, hasty_site: TwoEngines, path: str, special: dict[str, Any], fault: str
) -> None:
    site = hasty_site if fault == "stall" else site
    body = chat(f"{fault} {len(special)}", **special) if path == CHAT else ASKED | special
    right = site.undisturbed(path, body).body
    site.heal()
    site.engines["a"].control.inject(fault, after_tokens=12, requests=1)

    heard = site.ask(path, body)

    assert 200 == heard.status
    assert essence(right) == essence(heard.body)


def test_the_bill_counts_each_token_once_and_is_written_before_the_client_has_its_answer(site: TwoEngines) -> None:
    site.heal()
    site.engines["a"].control.inject("cut", after_tokens=12, requests=1)
    site.engines["b"].control.inject("cut", after_tokens=12, requests=1)

    heard = site.ask(CHAT, chat("the bill"), **{"X-Request-Id": "call-5-0a0b0c0d"})

    records = [
        record
        for path in site.folder.glob("*")
        if path.is_file() and "relay." not in path.name
        for record in read_all(path)
    ]
    bill = next(one for one in records if one["kind"] == "end" and one["request"] == "call-5-0a0b0c0d")
    usage = heard.body["usage"]
    assert (usage["prompt_tokens"], 40) == (bill["prompt_tokens"], bill["completion_tokens"])
    assert "completed" == bill["outcome"]
    assert 40 == sum(leg["completion_tokens"] for leg in bill["legs"])
    assert ["fault", "fault", "completed"] == [leg["outcome"] for leg in bill["legs"]]


def test_a_probe_is_in_no_bill(site: TwoEngines) -> None:
    site.heal()
    site.engines["a"].control.inject("500", requests=1)
    site.ask(CHAT, chat("a probe follows"))
    site.wait_for(a="serving")

    text = "".join(
        path.read_text(errors="replace") for path in site.folder.glob("*") if path.is_file() and path.suffix != ".log"
    )

    assert "relay-probe" not in text


def test_models_name_the_served_one_with_its_window(site: TwoEngines) -> None:
    models = site.client.get(f"{site.address}/v1/models").json()

    assert [("fault", 8192)] == [(model["id"], model["max_model_len"]) for model in models["data"]]


def test_strangers_are_refused_before_anything_is_read(site: TwoEngines) -> None:
    answers = [
        site.client.post(f"{site.address}{path}", headers={"Authorization": authorization}, content=b"{")
        for path in (CHAT, "/v1/embeddings", "/relay/replicas/a/drain")
        for authorization in ("Bearer wrong", "", f"Basic {KEY}")
    ]

    assert {401} == {answer.status_code for answer in answers}


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff", b'{"a":' * 5000])
def test_a_body_that_is_no_request_is_refused_as_the_clients_mistake(site: TwoEngines, content: bytes) -> None:
    answer = site.client.post(f"{site.address}{CHAT}", content=content)

    assert 400 == answer.status_code
    assert "BadRequestError" == answer.json()["error"]["type"]


def test_figures_are_prometheus_text_and_count_requests(site: TwoEngines) -> None:
    site.heal()
    site.ask(CHAT, chat("count me"))

    page = site.client.get(f"{site.address}/metrics").text

    rows = dict(line.rsplit(" ", 1) for line in page.splitlines() if not line.startswith("#"))
    assert float(rows['relay_requests_total{outcome="completed"}']) >= 1
    assert {"1"} == {rows[f'relay_replica_serving{{replica="{name}"}}'] for name in ("a", "b")}
    assert float(rows["process_resident_memory_bytes"]) > 1_000_000


def test_what_has_not_happened_yet_is_counted_as_zero_so_that_its_first_time_is_an_increase(tmp_path: Path) -> None:
    with TwoEngines(tmp_path) as site:
        page = site.client.get(f"{site.address}/metrics").text

    rows = {line for line in page.splitlines() if line.startswith(("relay_requests_total", "relay_resumed_total"))}
    outcomes = ("completed", "client_left", "refused", "engines_failed", "no_replica", "too_long")
    assert {f'relay_requests_total{{outcome="{outcome}"}} 0' for outcome in outcomes} | {
        f'relay_resumed_total{{how="{how}"}} 0' for how in ("continue", "replay")
    } == rows


def test_a_configuration_with_a_mistake_is_one_line_and_exit_2(tmp_path: Path) -> None:
    import subprocess
    import sys

    path = tmp_path / "relay.yaml"
    path.write_text(json.dumps({"schema_version": 1, "group": "g", "stall_secs": 3}), encoding="utf-8")

    ended = subprocess.run(
        [sys.executable, "-m", "relay", "--config", str(path), "--check"], capture_output=True, text=True, check=False
    )

    assert 2 == ended.returncode
    assert 1 == len(ended.stderr.splitlines())
    assert "stall_secs" in ended.stderr


@pytest.mark.parametrize("wrong", [{"max_tokens": -1_000_000, "n": 2}, {"n": "two"}, {"stop": 5}])
def test_numbers_that_no_engine_takes_are_the_clients_mistake_and_cost_no_engine(
    site: TwoEngines, wrong: dict[str, Any]
) -> None:
    site.heal()
    faults = len([line for line in site.log() if line["event"] in {"fault", "bug"}])

    heard = site.ask(CHAT, chat("what?", temperature=0.5, **wrong))

    assert 400 == heard.status
    assert faults == len([line for line in site.log() if line["event"] in {"fault", "bug"}])
    assert {"serving"} == set(site.states().values())
    assert [(0, 0)] * 2 == [
        (one["outstanding_requests"], one["outstanding_tokens"]) for one in site.status()["replicas"]
    ]

"""The judge: a site that is as planned passes, and each deviation fails the check that is about it, and no other."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sizing.errors import DocumentError
from sizing.judge import judge
from sizing.observation import Observation
from sizing.plan import Plan
from sizing.report import Report
from sizing.verify import run
from tests.fakes.lab_site import GEMMA, QWEN, RUN, observation_content, plan_content

Seen = dict[str, Any]


def judged(change: Callable[[Seen], object] | None = None, plan: dict[str, Any] | None = None) -> Report:
    seen = copy.deepcopy(observation_content())
    if change is not None:
        change(seen)
    return judge(Plan.parse(plan or plan_content(), origin="plan"), Observation.parse(seen, origin="observation"))


def failed(report: Report) -> set[tuple[str, str]]:
    return {(check.id, check.subject) for check in report.failed}


def call(seen: Seen, model: str, kind: str) -> dict[str, Any]:
    calls: list[dict[str, Any]] = seen["gateways"]["h1"]["calls"]
    return next(one for one in calls if (one["model"], one["kind"]) == (model, kind))


def gemma(seen: Seen) -> dict[str, Any]:
    engine: dict[str, Any] = seen["engines"]["h3"][1]
    return engine


def test_a_site_that_is_as_planned_passes_every_check() -> None:
    report = judged()

    assert () == report.failed
    # 3 hosts, 7 checks of each of 3 engines, 3 of each of 2 relays, 3 of the gateway, 6 of each of 2 models, the
    # control, spend of 2 models and of the key
    assert 3 + 3 * 7 + 2 * 3 + 3 + 2 * 6 + 1 + 2 + 1 == len(report.checks)


DEVIATIONS: dict[str, tuple[Callable[[Seen], object], set[tuple[str, str]]]] = {
    "a smaller window of an engine": (
        lambda seen: gemma(seen).update(max_model_len=512),
        {("engine.window", f"h3/{GEMMA}"), ("model.window", GEMMA)},
    ),
    "fewer KV tokens": (lambda seen: gemma(seen).update(kv_cache_tokens=31299), {("engine.kv-tokens", f"h3/{GEMMA}")}),
    "more KV tokens than planned, on a CPU": (
        lambda seen: gemma(seen).update(kv_cache_tokens=31301),
        {("engine.kv-tokens", f"h3/{GEMMA}")},
    ),
    "another block count": (lambda seen: gemma(seen).update(block_count=243), {("engine.kv-blocks", f"h3/{GEMMA}")}),
    "another block size": (
        lambda seen: gemma(seen).update(block_size_tokens=16),
        {("engine.kv-blocks", f"h3/{GEMMA}")},
    ),
    "models listed without a key": (
        lambda seen: gemma(seen).update(keyless_models_status=200),
        {("engine.locked", f"h3/{GEMMA}")},
    ),
    "a chat without a key at an engine": (
        lambda seen: gemma(seen).update(keyless_chat_status=200),
        {("engine.locked", f"h3/{GEMMA}")},
    ),
    "no first token though healthy": (
        lambda seen: gemma(seen).update(first_token_status=500, first_token_count=None),
        {("engine.first-token", f"h3/{GEMMA}")},
    ),
    "another vLLM": (lambda seen: gemma(seen).update(version="0.31.0"), {("engine.version", f"h3/{GEMMA}")}),
    "a failed unit": (lambda seen: gemma(seen).update(active_state="failed"), {("engine.unit", f"h3/{GEMMA}")}),
    "an engine that was not observed": (
        lambda seen: seen["engines"]["h2"].clear(),
        {("engine.unit", f"h2/{QWEN}"), ("journal.control", "engines")},
    ),
    "a gateway that cannot make keys": (
        lambda seen: seen["gateways"]["h1"].update(error="/key/generate: 500 no db", calls=[], key_hash=""),
        {("gateway.ready", "h1")},
    ),
    "an open gateway": (
        lambda seen: seen["gateways"]["h1"].update(keyless_status=200),
        {("gateway.locked", "h1")},
    ),
    "another LiteLLM": (
        lambda seen: seen["gateways"]["h1"].update(version="1.108.0"),
        {("gateway.version", "h1")},
    ),
    "a window declared too large": (
        lambda seen: seen["gateways"]["h1"]["declared"][1].update(max_input_tokens=1024),
        {("model.window", GEMMA)},
    ),
    "no window declared": (
        lambda seen: seen["gateways"]["h1"]["declared"][1].update(max_input_tokens=None),
        {("model.window", GEMMA)},
    ),
    "a gateway that goes past the relay": (
        lambda seen: seen["gateways"]["h1"]["declared"][0].update(api_base="http://10.77.0.12:8001/v1"),
        {("model.deployments", QWEN)},
    ),
    "a relay that does not answer": (
        lambda seen: seen["relays"]["h1"][0].update(status=None, error="Connection refused"),
        {("relay.answers", f"h1/{QWEN}")},
    ),
    "a relay that was not observed": (
        lambda seen: seen["relays"]["h1"].pop(0),
        {("relay.answers", f"h1/{QWEN}")},
    ),
    "an open relay": (
        lambda seen: seen["relays"]["h1"][0].update(keyless_status=200),
        {("relay.locked", f"h1/{QWEN}")},
    ),
    "an engine that its relay has ejected": (
        lambda seen: seen["relays"]["h1"][0]["replicas"][1].update(state="ejected"),
        {("relay.replicas", f"h1/{QWEN}")},
    ),
    "an engine that its relay does not know": (
        lambda seen: seen["relays"]["h1"][0]["replicas"].pop(),
        {("relay.replicas", f"h1/{QWEN}")},
    ),
    "a chat without text": (lambda seen: call(seen, GEMMA, "chat").update(text_characters=0), {("model.chat", GEMMA)}),
    "a chat answered by a fallback": (
        lambda seen: call(seen, QWEN, "chat").update(attempted_fallbacks_count=1),
        {("model.chat", QWEN)},
    ),
    "a stream that breaks and still says DONE": (
        lambda seen: call(seen, GEMMA, "stream").update(error="Connection error."),
        {("model.stream", GEMMA)},
    ),
    "a stream without DONE": (
        lambda seen: call(seen, GEMMA, "stream").update(done_after_finish=False),
        {("model.stream", GEMMA)},
    ),
    "an over-long prompt refused without figures": (
        lambda seen: call(seen, GEMMA, "over-long").update(message="too long"),
        {("model.over-long", GEMMA)},
    ),
    "an over-long prompt refused by an engine": (
        lambda seen: gemma(seen).update(refused_chat_count=3),
        {("model.over-long", GEMMA)},
    ),
    "an over-long prompt that an engine logged": (
        lambda seen: gemma(seen)["journal_request_ids"].append(f"{RUN}-007"),
        {("model.over-long", GEMMA)},
    ),
    "an answer beyond the window that was cut": (
        lambda seen: call(seen, GEMMA, "over-window").update(status=200, message=""),
        {("model.over-window", GEMMA)},
    ),
    "an answer beyond the window that an engine logged": (
        lambda seen: gemma(seen)["journal_request_ids"].append(f"{RUN}-008"),
        {("model.over-window", GEMMA)},
    ),
    "journals without request ids": (
        lambda seen: gemma(seen)["journal_request_ids"].clear(),
        {("journal.control", "engines")},
    ),
    "a call that was not booked": (
        lambda seen: seen["spend"]["rows"].pop(),
        {("spend.calls", GEMMA)},
    ),
    "a call booked twice": (
        lambda seen: seen["spend"]["rows"].append(seen["spend"]["rows"][0]),
        {("spend.calls", QWEN)},
    ),
    "other tokens booked than the client saw": (
        lambda seen: seen["spend"]["rows"][0].update(completion_tokens=15),
        {("spend.calls", QWEN)},
    ),
    "another price": (
        lambda seen: seen["spend"]["rows"][0].update(spend=0.000067),
        {("spend.calls", QWEN)},
    ),
    "a key without its spend": (
        lambda seen: seen["spend"]["key_spend"].update(cafe=0.0),
        {("spend.key", "key of verify at h1")},
    ),
    "a key that is not in PostgreSQL": (
        lambda seen: seen["spend"]["key_spend"].clear(),
        {("spend.key", "key of verify at h1")},
    ),
    "a database that does not answer": (
        lambda seen: seen["spend"].update(error="psql: connection refused", rows=[], key_spend={}),
        {("spend.readable", "PostgreSQL")},
    ),
}


@pytest.mark.parametrize("deviation", DEVIATIONS)
def test_one_deviation_fails_its_own_check(deviation: str) -> None:
    change, expected = DEVIATIONS[deviation]

    report = judged(change)

    assert expected == failed(report)
    assert all(check.advice and check.seen for check in report.failed)


def test_a_host_that_is_down_is_one_failed_check_and_its_engines_are_left_out() -> None:
    def h3_is_down(seen: Seen) -> None:
        seen["unanswered"]["h3"] = "Failed to connect to the host via ssh: No route to host"
        del seen["engines"]["h3"]
        del seen["counters"]["h3"]
        call(seen, QWEN, "stream").update(request_id=f"{RUN}-001")
        seen["gateways"]["h1"]["calls"] = [one for one in seen["gateways"]["h1"]["calls"] if one["model"] == QWEN]
        seen["gateways"]["h1"]["calls"][1]["response_id"] = f"chatcmpl-{RUN}-002"

    report = judged(h3_is_down)

    first = report.failed[0]
    assert ("host.answers", "h3") == (first.id, first.subject)
    assert first.seen.startswith("h3 did not answer: Failed to connect to the host via ssh")
    assert not [check for check in report.checks if check.group == "engine" and check.subject.startswith("h3")]


def test_a_host_left_out_by_limit_is_not_taken_as_verified() -> None:
    def only_h1_and_h2(seen: Seen) -> None:
        del seen["engines"]["h3"]

    report = judged(only_h1_and_h2)

    assert ("host.answers", "h3") in failed(report)


def test_a_gpu_engine_may_hold_more_tokens_than_planned_and_not_fewer() -> None:
    plan = plan_content()
    gpu = {
        "index": 0,
        "uuid": "GPU-1",
        "name": "NVIDIA H100",
        "memory_total_bytes": 85520809984,
        "memory_reserved_bytes": 500000000,
        "compute_capability": [9, 0],
    }
    engine = plan["hosts"]["h2"]["engines"][0]
    engine.update(gpu_uuids=["GPU-1"], cpu_cores=[])
    plan["hosts"]["h2"].update(accelerator="cuda", gpus=[gpu])

    more = judged(lambda seen: seen["engines"]["h2"][0].update(kv_cache_tokens=43649, block_count=342), plan)
    fewer = judged(lambda seen: seen["engines"]["h2"][0].update(kv_cache_tokens=43647), plan)

    assert set() == failed(more)
    assert {("engine.kv-tokens", f"h2/{QWEN}")} == failed(fewer)


def test_a_refused_call_is_served_by_nobody_even_if_a_header_names_a_deployment() -> None:
    report = judged(lambda seen: call(seen, GEMMA, "over-long").update(deployment_id=f"h3-{GEMMA}"))

    served = {(one.model, one.kind): one.served_by for one in report.calls}
    assert served[GEMMA, "over-long"] is None
    assert f"h3/{GEMMA}" == served[GEMMA, "chat"]


def test_run_writes_the_report_beside_the_observation(tmp_path: Path) -> None:
    site = site_directory(tmp_path)
    seen = tmp_path / "reports" / "one" / "observation.json"
    seen.parent.mkdir(parents=True)
    seen.write_text(Observation.parse(observation_content(), origin="").to_json())

    report = run(site, observation=seen, report_directory=None)

    assert report == Report.load(seen.parent / "report.json")
    assert (seen.parent / "report.html").read_text().startswith("<!doctype html>")


def test_an_observation_of_another_site_is_refused(tmp_path: Path) -> None:
    site = site_directory(tmp_path)
    seen = tmp_path / "observation.json"
    seen.write_text(Observation.parse({**observation_content(), "site": "berlin"}, origin="").to_json())

    with pytest.raises(DocumentError, match="was made at site berlin, but the plan is for lab"):
        run(site, observation=seen, report_directory=None)


def site_directory(tmp_path: Path) -> Path:
    site = tmp_path / "site"
    variables = site / "group_vars" / "all"
    variables.mkdir(parents=True)
    plan = Plan.parse(plan_content(), origin="plan")
    (variables / "appliance_plan.json").write_text(plan.to_group_vars())
    return site

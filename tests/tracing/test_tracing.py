"""Real LiteLLM tells Langfuse and a collector of requests; two further receivers are gone and deaf all the while.

One worker, no database: what is judged is the hook, by what the receivers were told.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.gateway import processes
from tests.gateway.conftest import render, role_variables
from tests.gateway.processes import FILES, Answer, Gateway
from tests.gateway.stub_relay import StubRelay
from tests.prisma_engine.postgres import free_port
from tests.tracing.receivers import Span, TraceReceivers

pytestmark = pytest.mark.lab


@dataclass(frozen=True, kw_only=True)
class Site:
    """A gateway before an engine that does as it is told. `internal` is marked so; `broken` falls back to `chat`."""

    gateway: Gateway
    stub: StubRelay
    receivers: TraceReceivers

    def chat(self, words: str, *, model: str = "chat", headers: dict[str, str] | None = None, **more: Any) -> Answer:
        body = {"model": model, "max_tokens": 4, "messages": [{"role": "user", "content": words}], **more}
        return self.gateway.post("/v1/chat/completions", body, headers=headers or {})


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("tracing")
    try:
        venv = processes.virtual_environment()
    except processes.Unavailable as reason:
        pytest.skip(str(reason))
    stub, receivers = StubRelay.start(free_port()), TraceReceivers.start()
    gateway = Gateway(directory=directory, venv=venv, config=directory / "config.yaml", port=free_port(),
                      environment=environment(directory, venv) | receivers.keys)  # fmt: skip
    (directory / "config.yaml").write_text(yaml.safe_dump(configuration(stub.port, free_port())))
    (directory / "tracing.json").write_text(
        render("tracing.json.j2", role_variables(gateway_tracing=receivers.declared))
    )
    (directory / "data_fence.json").write_text(json.dumps({"internal": ["internal", "internal-1"], "inside": []}))
    try:
        gateway.start()
        yield Site(gateway=gateway, stub=stub, receivers=receivers)
    finally:
        if gateway.program is not None:
            gateway.program.end()
        stub.stop()
        receivers.stop()


def environment(directory: Path, venv: Path) -> dict[str, str]:
    return {
        "PATH": f"{venv}/bin:/usr/bin:/bin",
        "HOME": str(directory),
        "PYTHONPATH": str(FILES),
        "PYTHONDONTWRITEBYTECODE": "1",
        "LITELLM_MASTER_KEY": processes.MASTER_KEY,
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_LOG": "WARNING",
        "TRACE_EXPORT_CONFIG": str(directory / "tracing.json"),
        "DATA_FENCE_CONFIG": str(directory / "data_fence.json"),
        "LANG": os.environ.get("LANG", "C.UTF-8"),
    }


def configuration(engine_port: int, nobody_port: int) -> dict[str, Any]:
    return {
        "model_list": [
            {
                "model_name": model,
                "litellm_params": {"model": "hosted_vllm/tiny", "api_base": f"http://127.0.0.1:{port}/v1",
                                   "api_key": "none", "max_retries": 0},
                "model_info": {"id": f"{model}-1", "input_cost_per_token": 0.001, "output_cost_per_token": 0.002},
            }
            for model, port in (("chat", engine_port), ("internal", engine_port), ("broken", nobody_port))
        ],
        "router_settings": {"num_retries": 0, "fallbacks": [{"broken": ["chat"]}], "allowed_fails": 1000},
        # As the role has it where one receiver is sent content; what the other one hears is the hook's own doing.
        "litellm_settings": {"callbacks": ["trace_export.instance"], "turn_off_message_logging": False},
        "general_settings": {"master_key": "os.environ/LITELLM_MASTER_KEY"},
    }  # fmt: skip


def trace_of(answer: Answer) -> str:
    names = {name.lower(): value for name, value in answer.headers.items()}
    return names["x-litellm-call-id"].replace("-", "")


def of(trace: str) -> Any:
    return lambda span: span.trace_id == trace


@pytest.mark.parametrize("stream", [False, True])
def test_both_are_told_who_asked_which_model_and_what_it_took(site: Site, stream: bool) -> None:
    answer = site.chat("How are you?", stream=stream, metadata={"tags": ["night"]})

    assert 200 == answer.status
    collected = site.receivers.told("collector", of(trace_of(answer)))[0]
    about = collected.attributes
    assert ("chat chat", "llm-gateway", False, "") == (
        collected.name, collected.service, collected.failed, collected.parent_id
    )  # fmt: skip
    assert ("chat", "chat", "chat-1", stream, ["night"]) == (
        about["gen_ai.operation.name"], about["gen_ai.request.model"], about["gateway.deployment"],
        about["gateway.streamed"], about["gateway.tags"],
    )  # fmt: skip
    read, made = about["gen_ai.usage.input_tokens"], about["gen_ai.usage.output_tokens"]
    assert read > 0
    assert made > 0
    assert abs(about["gateway.cost"] - (read * 0.001 + made * 0.002)) < 1e-9
    assert (("first token",) if stream else ()) == collected.events

    in_langfuse = site.receivers.told("langfuse", of(trace_of(answer)))[0].attributes
    assert ("generation", f'{{"input": {read}, "output": {made}}}') == (
        in_langfuse["langfuse.observation.type"], in_langfuse["langfuse.observation.usage_details"]
    )  # fmt: skip
    assert "How are you?" in in_langfuse["langfuse.observation.input"]
    assert ("piece-3" if stream else "as told") in in_langfuse["langfuse.observation.output"]


def test_a_client_that_traces_finds_the_gateway_in_its_own_trace(site: Site) -> None:
    trace, parent = uuid.uuid4().hex, uuid.uuid4().hex[:16]

    assert 200 == site.chat("Hello", headers={"traceparent": f"00-{trace}-{parent}-01"}).status

    assert parent == site.receivers.told("collector", of(trace))[0].parent_id


def test_content_goes_to_whom_it_was_declared_for_and_is_cut(site: Site) -> None:
    secret = f"word-{uuid.uuid4().hex}"
    tool = {"type": "function", "function": {"name": "look", "description": f"tool {secret}", "parameters": {}}}
    asked = [
        site.chat(f"first {secret} " + "long " * 1000),
        site.chat(secret, stream=True, stop=[f"stop {secret}"],
                  headers={"litellm-disable-message-redaction": "true"}),
        site.chat(secret, tools=[tool], metadata={"note": secret, "trace_name": secret}),
        site.chat(secret, model="broken"),
    ]  # fmt: skip

    for answer in asked:
        site.receivers.told("collector", of(trace_of(answer)))
        site.receivers.told("langfuse", of(trace_of(answer)))
    assert secret.encode() not in site.receivers.all_bytes("collector")
    cut = site.receivers.told("langfuse", of(trace_of(asked[0])))[0].attributes["langfuse.observation.input"]
    assert secret in cut
    assert len(cut.encode()) <= 2000


def test_a_fallback_shows_both_attempts_and_a_failure_its_kind_alone(site: Site) -> None:
    secret = f"word-{uuid.uuid4().hex}"
    fallen = site.chat(secret, model="broken")
    site.stub.told("500")
    failed = site.chat(secret)
    site.stub.told("answer")

    assert (200, 500) == (fallen.status, failed.status)
    spans = site.receivers.told("collector", of(trace_of(fallen)), count=2)
    assert {("broken", True), ("chat", False)} == {
        (span.attributes["gen_ai.request.model"], span.failed) for span in spans
    }
    error = site.receivers.told("collector", of(trace_of(failed)))[0]
    assert error.failed
    assert error.attributes["error.type"]
    assert secret.encode() not in site.receivers.all_bytes("collector")


def test_a_request_that_was_refused_is_told_too(site: Site) -> None:
    secret = f"word-{uuid.uuid4().hex}"
    refused = site.chat(secret, model="nobody-serves-it")

    assert 400 == refused.status
    told = site.receivers.told("collector", lambda span: span.name == "chat nobody-serves-it")[0]
    assert told.failed
    assert 400 == told.attributes["http.response.status_code"]
    assert secret.encode() not in site.receivers.all_bytes("collector")


def test_of_an_internal_model_nobody_outside_hears(site: Site) -> None:
    internal = site.chat("Stay here", model="internal")
    site.receivers.told("collector", of(trace_of(internal)))
    later = site.chat("Go anywhere")  # of the same worker, so what came before it was sent

    assert (200, 200) == (internal.status, later.status)
    site.receivers.told("langfuse", of(trace_of(later)))
    assert trace_of(internal).encode() not in site.receivers.all_bytes("langfuse")
    assert b"Stay here" not in site.receivers.all_bytes("langfuse")


def test_receivers_that_are_gone_or_deaf_fail_no_request(site: Site) -> None:
    answers = [site.chat(f"question {number}") for number in range(40)]

    assert [200] * 40 == [answer.status for answer in answers]
    traces = {trace_of(answer) for answer in answers}
    told: list[Span] = site.receivers.told("collector", lambda span: span.trace_id in traces, count=40)
    assert traces == {span.trace_id for span in told}
    log = (site.gateway.directory / "litellm.log").read_text()
    assert "receiver gone of traces does not answer" in log
    assert "could not be told" not in log

"""What receivers of traces are told, and that nobody waits for them."""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

FILES = Path(__file__).resolve().parents[2] / "roles" / "gateway" / "files"
ENDS_SECONDS = 20.0
CALL_ID = "2f1c1b1e-7a55-4c3b-9f0e-3d1a2b4c5d6e"


@pytest.fixture(autouse=True)
def _the_gateways_library(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(FILES))
    yield
    for name in ("trace_export", "trace_sender", "trace_spans", "data_fence"):
        sys.modules.pop(name, None)


def payload(**more: Any) -> dict[str, Any]:
    return {
        "litellm_call_id": CALL_ID, "call_type": "acompletion", "status": "success", "stream": True,
        "startTime": 1000.0, "completionStartTime": 1000.25, "endTime": 1002.0, "model": "tiny", "model_group": "chat",
        "model_id": "chat-relay", "api_base": "http://me:word@10.0.0.1:8000/v1?x=1",
        "prompt_tokens": 7, "completion_tokens": 5, "response_cost": 0.5, "request_tags": ["night"], "end_user": "eve",
        "custom_llm_provider": "hosted_vllm",
        "metadata": {"user_api_key_alias": "search", "user_api_key_user_id": "u-1"}, "cache_hit": None,
        "messages": [{"role": "user", "content": "가나다 secret"}],
        "response": {"choices": [{"message": "answer"}]}, **more,
    }  # fmt: skip


def plain(span: dict[str, Any]) -> dict[str, Any]:
    return {one["key"]: next(iter(one["value"].values())) for one in span["attributes"]}


def call(content_bytes_max: int = 0, headers: dict[str, str] | None = None, **more: Any) -> Any:
    from trace_spans import call_of

    return call_of(payload(**more), headers=headers or {}, content_bytes_max=content_bytes_max)


def test_a_span_has_names_times_and_numbers_and_no_words() -> None:
    from trace_spans import request_of, span_of

    span = span_of(call(), langfuse=True, content=True)
    about = plain(span)

    assert ("2f1c1b1e7a554c3b9f0e3d1a2b4c5d6e", "chat chat", {"code": 0}) == (
        span["traceId"], span["name"], span["status"]
    )  # fmt: skip
    assert ("1000000000000", "1002000000000") == (span["startTimeUnixNano"], span["endTimeUnixNano"])
    assert ("7", "5", 0.25, "10.0.0.1", "8000") == (
        about["gen_ai.usage.input_tokens"], about["gen_ai.usage.output_tokens"],
        about["gen_ai.response.time_to_first_chunk"], about["server.address"], about["server.port"],
    )  # fmt: skip
    assert "1970-01-01T00:16:40.250Z" == about["langfuse.observation.completion_start_time"]
    sent = request_of([span], {"service.name": "llm-gateway"})
    assert b"secret" not in sent and b"word" not in sent and b"answer" not in sent


def test_content_is_cut_by_bytes_and_stays_readable() -> None:
    from trace_spans import span_of

    about = plain(span_of(call(content_bytes_max=40), langfuse=False, content=True))

    assert len(about["gen_ai.input.messages"].encode()) <= 40
    assert '[{"role": "user", "content": "가나'[:36] in about["gen_ai.input.messages"]
    assert '["answer"]' == about["gen_ai.output.messages"]


def test_a_failure_has_its_kind_and_never_its_message() -> None:
    from trace_spans import span_of

    error = {
        "error_class": "BadRequestError",
        "error_code": "400",
        "error_message": "no: secret",
        "traceback": "secret",
    }
    span = span_of(call(status="failure", error_information=error), langfuse=True, content=False)

    assert {"code": 2, "message": "BadRequestError"} == span["status"]
    assert "400" == plain(span)["http.response.status_code"]
    assert "secret" not in json.dumps(span)


def test_the_trace_of_a_client_goes_on_and_nonsense_does_not() -> None:
    good = call(headers={"traceparent": "00-" + "a" * 32 + "-" + "b" * 16 + "-01"})
    bad = call(headers={"traceparent": "00-xyz"})

    assert ("a" * 32, "b" * 16) == (good.trace_id, good.parent_id)
    assert ("2f1c1b1e7a554c3b9f0e3d1a2b4c5d6e", None) == (bad.trace_id, bad.parent_id)


class Post:
    """In the place of a receiver: does as `behave` says, keeps what it took."""

    def __init__(self, behave: Callable[[int], None]) -> None:
        self.behave, self.times, self.spans = behave, 0, list[str]()

    def __call__(self, receiver: Any, body: bytes) -> None:  # noqa: ARG002
        self.times += 1
        self.behave(self.times)
        told = json.loads(body)["resourceSpans"][0]["scopeSpans"][0]["spans"]
        self.spans += [span["name"] for span in told]


def sender_to(post: Post, **more: Any) -> Any:
    from trace_sender import Sender, receiver_of

    declared = {"name": "c", "kind": "opentelemetry", "url": "http://c:4318", "headers": {}, "key": None}
    return Sender(receiver_of(declared, {}), resource={}, post=post, batch_seconds=0.01, **more)


def eventually(holds: Callable[[], bool]) -> None:
    ends_at = time.monotonic() + ENDS_SECONDS
    while not holds():
        assert time.monotonic() < ends_at
        time.sleep(0.01)


def test_what_a_receiver_missed_it_is_told_when_it_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    import trace_sender

    monkeypatch.setattr(trace_sender, "WAIT_SECONDS", (0.01, 0.02))

    def away_at_first(times: int) -> None:
        if times < 4:
            raise ConnectionRefusedError("nobody there")

    post = Post(away_at_first)
    sender = sender_to(post)
    for number in range(5):
        assert sender.tell(call(model_group=f"m{number}"))

    eventually(lambda: len(post.spans) == 5)
    assert [f"chat m{number}" for number in range(5)] == post.spans
    assert 0 == sender.dropped
    sender.end()


def test_a_receiver_that_speaks_no_http_at_first_is_told_when_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    import trace_sender

    monkeypatch.setattr(trace_sender, "WAIT_SECONDS", (0.01, 0.02))
    answers = [b"what is this?\r\n\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"]
    asked = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            for answer in answers:
                connection, _ = listening.accept()
                with connection:
                    asked.append(connection.recv(65536))
                    connection.sendall(answer)

        serving = threading.Thread(target=serve, daemon=True)
        serving.start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        declared = {"name": "c", "kind": "opentelemetry", "url": url, "headers": {}, "key": None}
        sender = trace_sender.Sender(trace_sender.receiver_of(declared, {}), resource={}, batch_seconds=0.01)
        sender.tell(call(model_group="first"))
        eventually(lambda: len(asked) == 2)
        sender.end()
        serving.join(ENDS_SECONDS)

    assert not serving.is_alive()
    assert 0 == sender.dropped


def test_a_receiver_that_hangs_fills_a_bounded_queue_and_nobody_waits() -> None:
    lets_go = threading.Event()
    post = Post(lambda _: (lets_go.wait(ENDS_SECONDS), None)[1])
    sender = sender_to(post, held_bytes_max=10_000)

    taken = [sender.tell(call(model_group=f"m{number}")) for number in range(1000)]

    assert sender.dropped == taken.count(False) > 900
    lets_go.set()
    eventually(lambda: len(post.spans) == taken.count(True))
    sender.end()


def test_what_a_receiver_refuses_is_dropped_and_counted() -> None:
    from trace_sender import Refused

    def refuses(times: int) -> None:
        if times == 1:
            raise Refused("HTTP 401")

    post = Post(refuses)
    sender = sender_to(post)
    sender.tell(call(model_group="first"))
    eventually(lambda: sender.dropped == 1)
    sender.tell(call(model_group="second"))

    eventually(lambda: post.spans == ["chat second"])
    sender.end()


def test_the_address_and_the_key_are_the_kinds_own() -> None:
    from trace_sender import receiver_of

    environment = {"TRACING_KEY_L": "pk:sk", "TRACING_KEY_C": "Bearer x"}
    langfuse = receiver_of({"name": "l", "kind": "langfuse", "url": "https://l", "key": "TRACING_KEY_L"}, environment)
    collector = receiver_of(
        {"name": "c", "kind": "opentelemetry", "url": "http://c/mine", "headers": {"x-key": "TRACING_KEY_C"}},
        environment,
    )

    assert "https://l/api/public/otel/v1/traces" == langfuse.address
    assert "Basic cGs6c2s=" == langfuse.headers["Authorization"]
    assert ("http://c/mine", {"x-key": "Bearer x"}) == (collector.address, collector.headers)


def test_internal_models_are_told_inside_only_also_after_a_fallback() -> None:
    from data_fence import Fence
    from trace_export import TraceExport

    told: dict[str, list[str]] = {"in": [], "out": []}

    class Told:
        def __init__(self, name: str, *, inside: bool) -> None:
            self.name = name
            self.receiver = type("R", (), {"inside": inside, "content": False})()

        def tell(self, one: Any) -> bool:
            told[self.name].append(one.model)
            return True

    senders: Any = [Told("in", inside=True), Told("out", inside=False)]
    export = TraceExport(senders, fence=Fence(internal=frozenset({"hr"}), inside=frozenset()), content_bytes_max=100)
    export.begins({"model": "hr", "litellm_call_id": "one"})
    for model, call_id in (("hr", "one"), ("chat", "one"), ("chat", "two")):
        export.ended({"standard_logging_object": payload(model_group=model, litellm_call_id=call_id)})

    assert {"in": ["hr", "chat", "chat"], "out": ["chat"]} == told


def test_what_litellm_logs_in_another_shape_fails_no_request(caplog: pytest.LogCaptureFixture) -> None:
    from data_fence import Fence
    from trace_export import TraceExport

    export = TraceExport([], fence=Fence(internal=frozenset(), inside=frozenset()), content_bytes_max=0)
    export.ended({})
    export.ended({"standard_logging_object": {"status": "success"}})

    assert "could not be told" in caplog.text

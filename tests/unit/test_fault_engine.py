"""The fault engine speaks as vLLM does, continues exactly where asked to, and has the faults it is told to have."""

import http.client
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.fault_engine import model
from benchmarks.fault_engine.process import FaultProcess

RECORDED = Path(__file__).parents[1] / "fakes" / "recorded" / "stream.txt"
KEY = "a-key-of-this-test"
QUESTION = {"messages": [{"role": "user", "content": "Explain caching. 한국어로 😀"}], "temperature": 0}


@pytest.fixture(scope="module")
def engines() -> Iterator[list[FaultProcess]]:
    """Two engines with the same weights."""
    quick = ("--ttft-ms", "1", "--itl-ms", "1")
    with (
        FaultProcess.start(*quick, key=KEY, name="a") as first,
        FaultProcess.start(*quick, key=KEY, name="b") as second,
    ):
        yield [first, second]


@pytest.fixture
def engine(engines: list[FaultProcess]) -> Iterator[FaultProcess]:
    """One of them, healed afterwards."""
    yield engines[0]
    engines[0].control.heal()


class Answer:
    """A read stream."""

    def __init__(self, engine: FaultProcess, path: str, body: dict[str, Any], *, wait: float = 60.0) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", engine.port, timeout=wait)
        connection.request("POST", path, json.dumps({"model": "fault", "stream": True, **body}), headers(engine))
        answer = connection.getresponse()
        self.status, self.cut = answer.status, False
        try:
            raw = answer.read()
        except http.client.IncompleteRead as error:
            self.cut, raw = True, error.partial
        connection.close()
        self.raw = raw.decode()
        said = [event.removeprefix("data: ") for event in self.raw.split("\n\n") if event]
        self.done = said[-1:] == ["[DONE]"]
        self.events: list[dict[str, Any]] = [json.loads(event) for event in said if event != "[DONE]"]
        choices = [choice for event in self.events for choice in event.get("choices", [])]
        self.texts = [choice.get("text", choice.get("delta", {}).get("content")) or "" for choice in choices]
        self.ids = [token for choice in choices for token in choice.get("token_ids") or []]
        self.finish = [choice["finish_reason"] for choice in choices if choice["finish_reason"]]

    @property
    def text(self) -> str:
        return "".join(self.texts)


def headers(engine: FaultProcess) -> dict[str, str]:
    return {"Authorization": f"Bearer {engine.key}", "X-Request-Id": "r1"}


def chat(engine: FaultProcess, **options: Any) -> Answer:
    return Answer(engine, "/v1/chat/completions", {**QUESTION, "max_tokens": 40, **options})


def test_another_engine_continues_from_the_ids_to_the_same_text_wherever_the_seam_is(
    engines: list[FaultProcess],
) -> None:
    whole = chat(engines[0], return_token_ids=True)
    prompt = whole.events[0]["prompt_token_ids"]

    for seam in (1, 7, 20, 39):
        rest = Answer(
            engines[1],
            "/v1/completions",
            {"prompt": prompt + whole.ids[:seam], "max_tokens": 40 - seam, "temperature": 0, "return_token_ids": True},
        )
        assert whole.ids[seam:] == rest.ids


def test_the_text_of_an_answer_does_not_tokenize_to_its_own_ids(engine: FaultProcess) -> None:
    whole = chat(engine, return_token_ids=True)

    again = model.encode(whole.text)

    assert b"".join(map(model.piece_of, again)) == whole.text.encode()
    assert again != whole.ids


def test_characters_of_several_tokens_go_out_whole_and_their_first_tokens_without_text(engine: FaultProcess) -> None:
    whole = chat(engine, return_token_ids=True, max_tokens=300)

    silent = [event for event, text in zip(whole.events[1:], whole.texts[1:], strict=True) if text == ""]

    assert "\ufffd" not in whole.text
    assert re.search("[가-힣]", whole.text)
    assert re.search("[\U0001f300-\U0001f6ff]", whole.text)
    assert silent
    assert all(event["choices"][0]["token_ids"] for event in silent)


def test_a_chat_stream_has_the_fields_of_a_recorded_one_in_the_same_order(engine: FaultProcess) -> None:
    recorded = [event for event in RECORDED.read_text().split("\n\n") if event.strip()]

    said = chat(engine, max_tokens=3, stream_options={"include_usage": True}).raw.split("\n\n")[:-1]

    def shape(event: str) -> list[str]:
        return re.findall(r'"(\w+)":', event)

    assert len(recorded) == len(said)
    assert [shape(event) for event in recorded] == [shape(event) for event in said]


def test_a_stop_string_is_never_seen_not_even_its_beginning(engine: FaultProcess) -> None:
    whole = chat(engine)
    stop = whole.text[20:26]

    stopped = chat(engine, stop=[stop])

    assert whole.text[: whole.text.index(stop)] == stopped.text
    assert ["stop"] == stopped.finish
    assert stop == stopped.events[-1]["choices"][0]["stop_reason"]


def test_penalties_count_generated_tokens_only_so_that_a_resume_by_prompt_differs(engine: FaultProcess) -> None:
    whole = chat(engine, return_token_ids=True, frequency_penalty=0.5)
    body = {"temperature": 0, "return_token_ids": True, "frequency_penalty": 0.5, "max_tokens": 30}

    rest = Answer(engine, "/v1/completions", {"prompt": whole.events[0]["prompt_token_ids"] + whole.ids[:10], **body})

    assert whole.ids[10:] != rest.ids


def test_usage_counts_the_prompt_once_and_each_choice_in_full(engine: FaultProcess) -> None:
    answer = chat(engine, n=2, temperature=1, seed=3, max_tokens=5, stream_options={"include_usage": True})

    usage = answer.events[-1]["usage"]

    assert 10 == usage["completion_tokens"]
    assert usage["prompt_tokens"] + 10 == usage["total_tokens"]


def test_a_request_without_the_key_or_for_another_model_or_too_long_is_refused(engine: FaultProcess) -> None:
    stranger = FaultProcess(process=engine.process, port=engine.port, key="wrong", arguments=())

    assert 401 == chat(stranger).status
    assert 404 == chat(engine, model="another").status
    assert 400 == chat(engine, max_tokens=9000).status


@pytest.mark.parametrize(("fault", "status"), [("500", 500), ("503", 503), ("429", 429)])
def test_a_refusing_engine_refuses_until_healed(engine: FaultProcess, fault: str, status: int) -> None:
    engine.control.inject(fault)
    refused = chat(engine)

    engine.control.heal()

    assert status == refused.status
    assert 200 == chat(engine).status


def test_a_cut_stream_ends_without_a_finish_and_without_done(engine: FaultProcess) -> None:
    engine.control.inject("cut", after_tokens=5)

    answer = chat(engine, return_token_ids=True)

    assert answer.cut
    assert not answer.done
    assert 5 == len(answer.ids)


def test_an_error_event_is_followed_by_done_as_if_all_were_well(engine: FaultProcess) -> None:
    engine.control.inject("error_event", after_tokens=5)

    answer = chat(engine)

    assert answer.done
    assert 500 == answer.events[-1]["error"]["code"]
    assert [] == answer.finish


@pytest.mark.parametrize("fault", ["stall", "mute", "hang"])
def test_a_silent_engine_goes_on_where_it_was_once_healed(engine: FaultProcess, fault: str) -> None:
    undisturbed = chat(engine).text
    connection = http.client.HTTPConnection("127.0.0.1", engine.port, timeout=0.2)
    engine.control.inject(fault, **({"after_tokens": 3} if fault == "stall" else {}))
    body = {"model": "fault", **QUESTION, "max_tokens": 40}
    connection.request("POST", "/v1/chat/completions", json.dumps(body), headers(engine))
    with pytest.raises(TimeoutError):
        connection.sock.recv(1)

    engine.control.heal()
    connection.sock.settimeout(60)
    with connection.getresponse() as response:
        answer = json.load(response)

    assert undisturbed == answer["choices"][0]["message"]["content"]


def test_a_reset_request_gets_no_answer_at_all(engine: FaultProcess) -> None:
    engine.control.inject("reset")

    with pytest.raises(ConnectionError):
        chat(engine)


def test_only_as_many_streams_are_hit_as_were_asked_for(engine: FaultProcess) -> None:
    engine.control.inject("cut", requests=1)

    assert [True, False] == [chat(engine).cut, chat(engine).cut]


def test_a_client_that_leaves_stops_the_generation(engine: FaultProcess) -> None:
    engine.control.become(itl_ms=50)
    connection = http.client.HTTPConnection("127.0.0.1", engine.port, timeout=60)
    body = {"model": "fault", **QUESTION, "max_tokens": 1000, "stream": True}
    connection.request("POST", "/v1/chat/completions", json.dumps(body), headers(engine))
    connection.getresponse().readline()

    connection.close()
    deadline = time.monotonic() + 60
    while engine.control.status()["running"] and time.monotonic() < deadline:
        time.sleep(0.01)
    engine.control.become(itl_ms=1)

    assert 0 == engine.control.status()["running"]
    assert "abort" == engine.control.requests()[-1]["outcome"]

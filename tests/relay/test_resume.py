"""No client sees an engine die: what it hears through a fault is what it would have heard without one."""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.relay.two_engines import CHAT, HASTY, TEXT, TwoEngines

GREEDY = {
    "model": "fault",
    "temperature": 0,
    "max_tokens": 60,
    "stream": True,
    "stream_options": {"include_usage": True},
}
TOOLS = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}]
FORCED = {"type": "function", "function": {"name": "look"}}
KINDS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "a chat": (CHAT, {}),
    "a completion": (TEXT, {}),
    "a chat without usage": (CHAT, {"stream_options": None}),
    "a chat with usage in every chunk": (
        CHAT,
        {"stream_options": {"include_usage": True, "continuous_usage_stats": True}},
    ),
    "stop strings": (CHAT, {"stop": ["ee", "다 ", "</b>", " th", "ing a"]}),
    "stop strings that are shown": (CHAT, {"stop": ["e ", "다", "한국"], "include_stop_str_in_output": True}),
    "one-letter stop strings after min_tokens": (CHAT, {"stop": ["e"], "min_tokens": 45}),
    "min_tokens": (TEXT, {"min_tokens": 50, "stop": [" a"]}),
    "token ids that the client wants": (CHAT, {"return_token_ids": True}),
    "log probabilities": (CHAT, {"logprobs": True, "top_logprobs": 2}),
    "log probabilities of a completion": (TEXT, {"logprobs": 1}),
    "penalties": (CHAT, {"frequency_penalty": 0.5, "presence_penalty": 0.2}),
    "two choices": (CHAT, {"n": 2, "temperature": 0.7, "seed": 5}),
    "a seed": (TEXT, {"temperature": 0.7, "seed": 7}),
    "tools": (CHAT, {"tools": TOOLS}),
    "a call that is made": (CHAT, {"tools": TOOLS, "tool_choice": FORCED}),
    "token ids of a call that is made": (CHAT, {"tools": TOOLS, "tool_choice": FORCED, "return_token_ids": True}),
    "token ids and log probabilities": (CHAT, {"logprobs": True, "return_token_ids": True}),
    "structured output": (CHAT, {"response_format": {"type": "json_object"}}),
    "an image": (
        CHAT,
        {"_content": [{"type": "text", "text": "what is this?"}, {"type": "image_url", "image_url": {}}]},
    ),
    "two prompts": (TEXT, {"prompt": ["one", "두 번째"]}),
}
FAULTS = ("cut", "error_event", "false_end", "stall")
SILENT = frozenset({"stall", "mute"})


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoEngines]:
    with TwoEngines(tmp_path_factory.mktemp("site")) as running:
        yield running


@pytest.fixture(scope="module")
def hasty_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoEngines]:
    with TwoEngines(tmp_path_factory.mktemp("hasty"), **HASTY) as running:
        yield running


@pytest.fixture
def site_for(site: TwoEngines, hasty_site: TwoEngines, fault: str) -> TwoEngines:
    return hasty_site if fault in SILENT else site


def request_of(kind: str, *, number: int) -> tuple[str, dict[str, Any]]:
    path, special = KINDS[kind]
    prompt = f"설명해 주세요 {kind} {number} 🎉"
    body = GREEDY | {key: value for key, value in special.items() if not key.startswith("_")}
    if path == CHAT:
        body["messages"] = [{"role": "user", "content": special.get("_content", prompt)}]
    else:
        body.setdefault("prompt", prompt)
    return path, {key: value for key, value in body.items() if value is not None}


@pytest.mark.parametrize("kind", KINDS)
def test_an_undisturbed_answer_is_what_the_engine_says(site: TwoEngines, kind: str) -> None:
    path, body = request_of(kind, number=0)
    right = site.undisturbed(path, body).told

    heard = site.ask(path, body)

    assert right == heard.told


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_goes_on_as_if_nothing_had_happened(site_for: TwoEngines, kind: str, fault: str) -> None:
    site, number = site_for, FAULTS.index(fault)
    path, body = request_of(kind, number=number)
    right = site.undisturbed(path, body).told
    site.heal()
    site.first_fault(fault, after_tokens=(3, 17, 31, 44)[(number + len(kind)) % 4])

    heard = site.ask(path, body)

    assert right == heard.told


def test_a_tool_call_that_takes_longer_than_the_stall_timer_is_no_stall(hasty_site: TwoEngines) -> None:
    path, body = request_of("a call that is made", number=7)
    body["max_tokens"] = 1200  # 2.4 seconds in which the engine says nothing but ids
    right = hasty_site.undisturbed(path, body).told
    hasty_site.heal()

    heard = hasty_site.ask(path, body)

    assert right == heard.told


def test_two_faults_in_one_answer_are_two_seams(site: TwoEngines) -> None:
    path, body = request_of("a chat", number=9)
    right = site.undisturbed(path, body).told
    site.heal()
    site.engines["a"].control.inject("cut", after_tokens=10, requests=1)
    site.engines["b"].control.inject("cut", after_tokens=10, requests=1)

    heard = site.ask(path, body)

    assert right == heard.told


@pytest.mark.parametrize("fault", ["500", "503", "429", "reset", "mute"])
def test_an_engine_that_refuses_is_not_seen_by_the_client(site_for: TwoEngines, fault: str) -> None:
    site = site_for
    path, body = request_of("a chat", number=10)
    right = site.undisturbed(path, body).told
    site.heal()
    site.first_fault(fault, after_tokens=0)
    site.engines["b"].control.heal()

    heard = [site.ask(path, body) for _ in range(2)]

    assert [right, right] == [one.told for one in heard]


def test_sampling_without_a_seed_goes_on_validly_and_says_so(site: TwoEngines) -> None:
    path, body = request_of("a chat", number=11)
    site.heal()
    site.engines["a"].control.inject("cut", after_tokens=20, requests=1)

    heard = site.ask(path, body | {"temperature": 0.8})

    marks = [chunk["relay"] for chunk in heard.chunks if "relay" in chunk]
    assert [{"legs": 2, "exact": False}] == marks
    assert heard.done
    assert 60 == heard.usage[0]["completion_tokens"]


def test_a_replica_that_answers_otherwise_ends_a_replay_with_an_error_and_no_end_mark(site: TwoEngines) -> None:
    path, body = request_of("tools", number=12)
    right = site.undisturbed(path, body)
    site.heal()
    for engine in site.engines.values():
        engine.control.inject("cut", after_tokens=20, requests=1)
    site.engines["b"].control.become(weights=1)

    heard = site.ask(path, body)

    site.engines["b"].control.become(weights=0)
    assert not heard.done
    assert heard.error is not None
    assert "answers differently" in heard.error["message"]
    assert heard.texts[0, "content"] != right.texts[0, "content"]


def test_a_client_error_is_passed_on_and_not_tried_again(site: TwoEngines) -> None:
    path, body = request_of("a chat", number=13)
    site.heal()

    heard = site.ask(path, body | {"model": "nope"})

    faults = [line for line in site.log() if line["event"] == "fault" and "404" in line["reason"]]
    assert (404, "NotFoundError") == (heard.status, heard.body["error"]["type"])
    assert [] == faults


def test_the_window_bounds_a_continued_answer_too(site: TwoEngines) -> None:
    path, body = request_of("a chat", number=14)
    del body["max_tokens"]
    for engine in (*site.engines.values(), site.right):
        engine.control.become(max_model_len=120)
    try:
        right = site.undisturbed(path, body)
        site.heal()
        site.first_fault("cut", after_tokens=30)

        # The relay's own window is larger: the engine's is reached first, as in vLLM where both are the same.
        heard = site.ask(path, body | {"max_tokens": right.usage[0]["completion_tokens"]})
    finally:
        for engine in (*site.engines.values(), site.right):
            engine.control.become(max_model_len=8192)

    assert right.told == heard.told


def test_every_fault_is_one_line_with_request_replica_reason_and_leg(site: TwoEngines) -> None:
    path, body = request_of("a chat", number=15)
    site.heal()
    site.engines["a"].control.inject("cut", after_tokens=20, requests=1)

    site.ask(path, body, **{"X-Request-Id": "the-call-1234"})

    lines = [line for line in site.log() if line.get("request") == "the-call-1234"]
    assert ["fault", "resumed"] == [line["event"] for line in lines]
    assert 1 == lines[0]["leg"]
    assert "connection" in lines[0]["reason"]
    assert {lines[0]["replica"], lines[1]["replica"]} == {"a", "b"}
    assert lines[1]["gap_seconds"] >= 0

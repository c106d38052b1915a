"""How a request goes on after a fault, decided from its JSON alone."""

from typing import Any

import pytest

from relay.asking import BadRequest, asked_of

MESSAGES = [{"role": "user", "content": "hi"}]


@pytest.mark.parametrize(
    "field",
    [
        {},
        {"temperature": 0.7},
        {"temperature": 0, "seed": 3},
        {"stop": ["a"]},
        {"min_tokens": 4},
        {"repetition_penalty": 1.1},
        {"logit_bias": {"5": 1}},
        {"n": 1, "logprobs": False, "tools": [], "presence_penalty": 0, "response_format": {"type": "text"}},
        {"chat_template_kwargs": {"enable_thinking": False}},
    ],
)
def test_what_does_not_look_back_is_continued_by_ids(field: dict[str, Any]) -> None:
    assert "continue" == asked_of({"messages": MESSAGES} | field, chat=True).how


@pytest.mark.parametrize(
    "field",
    [
        {"presence_penalty": 1.5},
        {"frequency_penalty": 0.1},
        {"logprobs": True},
        {"n": 2},
        {"tools": [{"type": "function"}]},
        {"response_format": {"type": "json_object"}},
        {"structured_outputs": {"choice": ["a"]}},
        {"temperature": 0.7, "seed": 3},
        {"bad_words": ["x"]},
        {"a_field_of_tomorrow": 1},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
        {"include_reasoning": False},
    ],
)
def test_what_looks_back_is_replayed(field: dict[str, Any]) -> None:
    assert "replay" == asked_of({"messages": MESSAGES} | field, chat=True).how


def test_log_probabilities_without_alternatives_are_log_probabilities() -> None:
    assert "replay" == asked_of({"prompt": "a", "logprobs": 0}, chat=False).how


def test_sampling_that_must_repeat_gets_a_seed_and_greedy_or_seeded_does_not() -> None:
    sampled = asked_of({"messages": MESSAGES, "presence_penalty": 1.5}, chat=True)
    greedy = asked_of({"messages": MESSAGES, "presence_penalty": 1.5, "temperature": 0}, chat=True)
    seeded = asked_of({"messages": MESSAGES, "presence_penalty": 1.5, "seed": 9}, chat=True)

    assert sampled.first_leg()["seed"] == sampled.seed
    assert "seed" not in greedy.first_leg()
    assert 9 == seeded.first_leg()["seed"]


def test_a_continuing_leg_gets_what_is_left_and_nothing_that_is_spent() -> None:
    asked = asked_of(
        {"messages": MESSAGES, "max_tokens": 100, "min_tokens": 30, "top_p": 0.9, "model": "m", "stream": True},
        chat=True,
    )

    body = asked.next_leg(delivered_count=12, prompt_count=50, window=2048)

    assert (88, 18, 0.9, "m") == (body["max_tokens"], body["min_tokens"], body["top_p"], body["model"])
    assert "messages" not in body


def test_without_a_limit_the_window_is_the_limit() -> None:
    asked = asked_of({"messages": MESSAGES}, chat=True)

    assert 2048 - 50 - 12 == asked.next_leg(delivered_count=12, prompt_count=50, window=2048)["max_tokens"]


def test_a_completion_without_a_limit_has_vllms_sixteen_tokens() -> None:
    assert 4 == asked_of({"prompt": "a"}, chat=False).tokens_left(12, 50, 2048)


def test_a_body_that_is_no_object_is_the_clients_mistake() -> None:
    with pytest.raises(BadRequest, match="JSON object"):
        asked_of([1], chat=True)


@pytest.mark.parametrize("limit", ["100", 100.0])
def test_a_limit_that_engines_read_as_a_number_holds_across_the_seam(limit: Any) -> None:
    asked = asked_of({"messages": MESSAGES, "max_tokens": limit}, chat=True)

    assert 88 == asked.next_leg(delivered_count=12, prompt_count=50, window=2048)["max_tokens"]


@pytest.mark.parametrize("stop", [5, True, 0.5, {"a": 1}, [5], None, ""])
def test_stop_strings_that_are_none_are_left_to_the_engine_to_refuse(stop: Any) -> None:
    assert () == asked_of({"messages": MESSAGES, "stop": stop}, chat=True).stop

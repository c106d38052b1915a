"""What a replayed answer has used when its client leaves, or its engine dies, before the engine has told the sum."""

import json
from typing import Any

from relay.asking import asked_of
from relay.replay import Replay


def begun(body: dict[str, Any]) -> Replay:
    answer = Replay(asked_of({"stream": True, "temperature": 1.0} | body, chat=False), write=lambda _: None)
    answer.next_request()
    return answer


def piece(index: int, text: str, *, prompt: int, done: int, finish: str | None = None) -> bytes:
    choice = {"index": index, "text": text, "logprobs": None, "finish_reason": finish}
    usage = {"prompt_tokens": prompt, "completion_tokens": done, "total_tokens": prompt + done}
    head = {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "m"}
    return b"data: " + json.dumps(head | {"choices": [choice], "usage": usage}).encode()


def test_two_choices_have_used_what_both_have_and_read_the_prompt_once() -> None:
    answer = begun({"prompt": "p", "n": 2})

    for event in (piece(0, "a", prompt=9, done=1), piece(1, "b", prompt=9, done=1), piece(0, "cd", prompt=9, done=3)):
        assert answer.feed(event) is None

    assert (9, 4) == (answer.prompt_tokens, answer.completion_tokens)


def test_two_prompts_are_two_that_were_read() -> None:
    answer = begun({"prompt": ["p", "pp"]})

    for event in (piece(0, "a", prompt=9, done=1), piece(1, "b", prompt=10, done=2)):
        assert answer.feed(event) is None

    assert (19, 3) == (answer.prompt_tokens, answer.completion_tokens)


def test_what_another_leg_generates_again_is_used_once() -> None:
    answer = begun({"prompt": "p", "n": 2})
    for event in (piece(0, "ab", prompt=9, done=2), piece(1, "b", prompt=9, done=1)):
        assert answer.feed(event) is None

    answer.next_request()
    for event in (piece(0, "a", prompt=9, done=1), piece(1, "bc", prompt=9, done=2)):
        assert answer.feed(event) is None

    assert (9, 4) == (answer.prompt_tokens, answer.completion_tokens)

"""The gateway's hook with the real service and without LiteLLM: what it changes, refuses, and in which words."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from guard.rules import Rules
from tests.guardrails.guard_service import ROOT, running_guard

OWN = """
def find(text, role):
    if "BREAK" in text:
        raise ValueError(text)
    at = text.find("secret")
    return [(at, at + 6, "SECRET")] if at >= 0 else []
"""


class Refusal(Exception):
    """What a client would get."""

    def __init__(self, message: str, word: str, status: int) -> None:
        super().__init__(message)
        self.word, self.status = word, status


@pytest.fixture(scope="module")
def hook() -> Any:
    spec = importlib.util.spec_from_file_location("guardrails_hook", ROOT / "roles/gateway/files/guardrails.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def guarding(hook: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    directory = tmp_path_factory.mktemp("hook")
    (directory / "own.py").write_text(OWN)
    own = {"kind": "custom", "file": str(directory / "own.py"), "timeout_seconds": 30}
    rules = [
        {"name": "own", **own, "directions": ["in", "out"], "except_keys": ["opened", "inward"]},
        {"name": "own-open", **own, "on_failure": "open", "keys": ["opened"]},
        {"name": "inward", **own, "keys": ["inward"]},
        {"name": "heron", "kind": "words", "words": ["heron"], "action": "block", "directions": ["in", "out"],
         "timeout_seconds": 30},
    ]  # fmt: skip
    with running_guard(directory, rules, python=Path(sys.executable)) as living:
        yield hook.Guarding(Rules.load(living.config), Refusal)


def key(alias: str = "anybody") -> Any:
    return SimpleNamespace(key_alias=alias)


def request(**fields: Any) -> dict[str, Any]:
    """As LiteLLM hands it to hooks: what the client sent lies beside it once more."""
    log = SimpleNamespace(messages=["the secret"])
    log.update_messages = lambda asked: setattr(log, "messages", asked)
    data = {"model": "m", **fields}
    return {**data, "proxy_server_request": {"body": dict(data)}, "litellm_logging_obj": log, "litellm_call_id": "c-1"}


def ask(guarding: Any, data: dict[str, Any], *, alias: str = "anybody", kind: str = "acompletion") -> dict[str, Any]:
    asyncio.run(guarding.mask_request(key(alias), data, kind))
    return data


def test_engine_body_and_log_get_the_masked_text(guarding: Any) -> None:
    data = ask(guarding, request(messages=[{"role": "user", "content": "my secret is"}], stop="secret"))

    masked = [{"role": "user", "content": "my <SECRET> is"}]
    assert masked == data["messages"] == data["proxy_server_request"]["body"]["messages"]
    assert masked == data["litellm_logging_obj"].messages
    assert "<SECRET>" == data["stop"]


def test_a_refusal_names_the_guardrail_and_leaves_nothing_to_be_logged(guarding: Any) -> None:
    data = request(messages=[{"role": "user", "content": "a Heron of ours"}])

    with pytest.raises(
        Refusal, match=r"The guardrail heron refuses this request. Nothing was sent to a model"
    ) as refused:
        ask(guarding, data)

    assert ("guardrail_refused", 400) == (refused.value.word, refused.value.status)
    assert "Heron" not in str(refused.value)
    assert [] == data["litellm_logging_obj"].messages


def test_a_failure_stops_the_request_or_lets_it_pass_as_declared(guarding: Any) -> None:
    with pytest.raises(Refusal, match=r"could not look at this request \(it failed with ValueError\)") as refused:
        ask(guarding, request(prompt="BREAK it"), kind="atext_completion")
    assert ("guardrail_unavailable", 503) == (refused.value.word, refused.value.status)

    assert "BREAK it" == ask(guarding, request(prompt="BREAK it"), alias="opened", kind="atext_completion")["prompt"]


@pytest.mark.parametrize(
    ("fields", "kind", "words"),
    [
        ({"messages": [], "stream": True}, "anthropic_messages", "Ask without `stream`"),
        ({"input": "hi", "stream": True}, "aresponses", "Ask without `stream`"),
        ({"messages": [], "logprobs": True}, "acompletion", "`logprobs` would give them unmasked"),
        ({"messages": [], "extra_body": {"return_token_ids": True}}, "acompletion", "`return_token_ids`"),
        ({"prompt": "hi"}, "aimage_generation", r"requests of this kind \(aimage_generation\)"),
        ({"prompt": [1, 2]}, "atext_completion", "cannot look at token ids"),
    ],
)
def test_what_cannot_be_masked_is_refused(guarding: Any, fields: dict[str, Any], kind: str, words: str) -> None:
    with pytest.raises(Refusal, match=words):
        ask(guarding, request(**fields), kind=kind)


def test_each_key_has_its_own_guardrails_in_each_direction(guarding: Any) -> None:
    assert [["inward", "heron"], ["heron"]] == [
        [rule.name for rule in guarding.concerned(key("inward"), way)] for way in ("in", "out")
    ]


def test_a_whole_answer_is_masked_in_place(guarding: Any) -> None:
    answer = {
        "choices": [{"message": {"role": "assistant", "content": "the secret", "reasoning_content": "a secret?"}}]
    }

    asyncio.run(guarding.mask_answer(key(), answer, "c-1"))

    message = answer["choices"][0]["message"]
    assert ("the <SECRET>", "a <SECRET>?") == (message["content"], message["reasoning_content"])


def streamed(guarding: Any, *pieces: str) -> str:
    async def source() -> AsyncIterator[Any]:
        for number, piece in enumerate(pieces, start=1):
            finish = "stop" if number == len(pieces) else None
            yield SimpleNamespace(choices=[SimpleNamespace(index=0, finish_reason=finish, text=piece)], usage=None)

    async def run() -> str:
        chunks = guarding.mask_stream(key(), source(), "c-1")
        return "".join([chunk.choices[0].text async for chunk in chunks])

    return asyncio.run(run())


def test_a_stream_is_masked_and_ends_at_what_is_refused(guarding: Any) -> None:
    assert "it is a <SECRET>." == streamed(guarding, "it is a se", "cre", "t.")
    with pytest.raises(Refusal, match="The guardrail heron refuses this answer"):
        streamed(guarding, "a he", "ron")
    with pytest.raises(Refusal, match="could not look at this answer"):
        streamed(guarding, "BRE", "AK")

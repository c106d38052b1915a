"""The gateway counts what engines count: every expected number here was stated by a real vLLM 0.32.0."""

import copy
import importlib.util
import json
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytest.importorskip("transformers", reason="the tokenizer library of gateway hosts is not installed here")

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden" / "gateway_tokens"
MODELS = ("tiny-qwen3", "tiny-gemma3")
WINDOW_TOKENS = 2048


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "roles" / "gateway" / "files" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


prompt_ruler = _load("prompt_ruler")


@cache
def _ruler(model: str, template: str) -> Any:
    ruler = prompt_ruler.load_ruler(GOLDEN / model, window_tokens=WINDOW_TOKENS, max_input_tokens=WINDOW_TOKENS - 1)
    if template == "own":
        return ruler
    ruler.tokenizer.chat_template = (GOLDEN / f"{template}.jinja").read_text(encoding="utf-8")
    takes_parts = prompt_ruler._takes_content_parts(ruler.tokenizer.apply_chat_template)
    return replace(ruler, takes_content_parts=takes_parts)


def _recorded() -> list[tuple[str, str, str, dict[str, Any], int | str]]:
    cases = json.loads((GOLDEN / "requests.json").read_text(encoding="utf-8"))
    recorded = []
    for model in MODELS:
        counts = json.loads((GOLDEN / model / "vllm-0.32.0.json").read_text(encoding="utf-8"))["prompt_tokens"]
        for case in cases:
            request = copy.deepcopy(case["request"])
            if "repeat" in case:
                request["messages"][0]["content"] *= case["repeat"]
            recorded += [
                (model, template, case["name"], request, count) for template, count in counts[case["name"]].items()
            ]
    return recorded


@pytest.mark.parametrize(
    ("model", "template", "request_body", "stated"),
    [
        pytest.param(model, template, body, count, id=f"{model}, {template} template: {name}")
        for model, template, name, body, count in _recorded()
        if isinstance(count, int)
    ],
)
def test_it_counts_what_a_real_engine_counted(
    model: str, template: str, request_body: dict[str, Any], stated: int
) -> None:
    ruler = _ruler(model, template)

    counted = ruler.completion(request_body) if "prompt" in request_body else ruler.chat(request_body)

    assert prompt_ruler.Measurement(tokens=stated) == counted


def test_a_template_that_refuses_a_conversation_refuses_it_here_too() -> None:
    ruler = _ruler("tiny-gemma3", "own")
    two_questions = {"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]}

    with pytest.raises(Exception, match="roles must alternate"):
        ruler.chat(two_questions)


def test_text_that_could_never_fit_is_not_tokenized() -> None:
    ruler = _ruler("tiny-qwen3", "own")  # its longest token has 13 characters

    measured = ruler.completion({"prompt": "x" * (2048 * 13 + 1)})

    assert prompt_ruler.Measurement(tokens=2049, exact=False) == measured


def test_the_longest_of_several_prompts_counts() -> None:
    ruler = _ruler("tiny-qwen3", "own")

    assert 4 == ruler.completion({"prompt": [[1, 2], [1, 2, 3, 4], [1]]}).tokens
    assert 14 == ruler.completion({"prompt": ["Once", "Once upon a time"]}).tokens


def test_parts_that_are_not_text_are_left_to_the_engine() -> None:
    ruler = _ruler("tiny-qwen3", "own")
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    parts = [{"type": "text", "text": "Hello, how are you?"}, picture]

    measured = ruler.chat({"messages": [{"role": "user", "content": parts}]})

    assert 24 == measured.tokens


def test_a_directory_without_a_tokenizer_is_named_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "tokenizer_config.json").write_text("{}")

    with pytest.raises(prompt_ruler.RulerError) as caught:
        prompt_ruler.load_ruler(tmp_path, window_tokens=2048, max_input_tokens=1536)

    assert str(caught.value).startswith(f"{tmp_path}: no usable tokenizer (")
    assert "\n" not in str(caught.value)


def test_a_tokenizer_without_a_chat_template_is_refused(tmp_path: Path) -> None:
    for name in ("tokenizer.json", "config.json"):
        (tmp_path / name).write_text((GOLDEN / "tiny-qwen3" / name).read_text())
    settings = json.loads((GOLDEN / "tiny-qwen3" / "tokenizer_config.json").read_text())
    del settings["chat_template"]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))

    with pytest.raises(prompt_ruler.RulerError, match="has no chat template"):
        prompt_ruler.load_ruler(tmp_path, window_tokens=2048, max_input_tokens=1536)


def test_a_model_of_vectors_needs_no_chat_template_and_is_counted_all_the_same(tmp_path: Path) -> None:
    for name in ("tokenizer.json", "config.json"):
        (tmp_path / name).write_text((GOLDEN / "tiny-qwen3" / name).read_text())
    settings = json.loads((GOLDEN / "tiny-qwen3" / "tokenizer_config.json").read_text())
    del settings["chat_template"]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))

    ruler = prompt_ruler.load_ruler(tmp_path, window_tokens=2048, max_input_tokens=2048, chats=False)

    whole = _ruler("tiny-qwen3", "own").completion({"prompt": "Explain caching."})
    assert whole == ruler.completion({"prompt": ["Hi.", "Explain caching."]})


@pytest.mark.parametrize(
    ("request_body", "short"),
    [
        ({"messages": [{"role": "user", "content": "x" * 1900}]}, True),
        ({"messages": [{"role": "user", "content": "x" * 2001}]}, False),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "x" * 2001}]}]}, False),
        ({"messages": [{"role": "user", "content": "x"}] * 1000}, False),
        ({"messages": [], "tools": [{"function": {"description": "x" * 2001}}]}, False),
        ({"prompt": ["x" * 700] * 3}, False),
        ({"input": "x", "proxy_server_request": {"body": "x" * 9000}}, True),
        ({}, True),
    ],
)
def test_only_a_short_request_is_counted_where_others_wait(request_body: dict[str, Any], short: bool) -> None:
    assert short is prompt_ruler.is_short(request_body)

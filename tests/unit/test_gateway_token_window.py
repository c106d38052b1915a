"""What the gateway's hook refuses, what it lets through, and the words it uses."""

import asyncio
import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = ROOT / "roles" / "gateway" / "files"
GOLDEN = ROOT / "tests" / "golden" / "gateway_tokens"


def _load(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, FILES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


prompt_ruler = _load("prompt_ruler")
chat_forms = _load("chat_forms")
token_window = _load("token_window")
Measurement = prompt_ruler.Measurement


def _refusal(tokens: int, asked: int | None, *, exact: bool = True) -> str | None:
    measured = Measurement(tokens=tokens, exact=exact)
    refusal: str | None = token_window.refusal(
        measured, model="qwen", window_tokens=2048, max_input_tokens=1700, asked_tokens=asked
    )
    return refusal


def test_prompt_and_answer_that_fill_the_window_exactly_pass() -> None:
    assert _refusal(1616, 432) is None


def test_one_token_too_many_is_refused_with_the_numbers() -> None:
    assert _refusal(1616, 433) == (
        "qwen has a window of 2048 tokens; your prompt has 1616 and max_tokens asks for 433: 1 too many. "
        "Shorten the prompt or ask for at most 432."
    )


def test_a_large_answer_is_refused_with_the_numbers() -> None:
    assert _refusal(1616, 1000) == (
        "qwen has a window of 2048 tokens; your prompt has 1616 and max_tokens asks for 1000: 568 too many. "
        "Shorten the prompt or ask for at most 432."
    )


def test_a_prompt_as_long_as_declared_passes_without_max_tokens() -> None:
    assert _refusal(1700, None) is None


def test_a_longer_prompt_than_declared_is_refused_even_if_its_answer_would_fit() -> None:
    assert _refusal(1701, 1) == (
        "qwen takes prompts of at most 1700 tokens (the other 348 of its window of 2048 are kept for the answer); "
        "your prompt has 1701: 1 too many. Shorten the prompt."
    )


def test_a_prompt_that_was_not_counted_to_its_end_is_called_at_least_so_long() -> None:
    refusal = _refusal(900000, None, exact=False)

    assert refusal is not None and "your prompt has at least 900000" in refusal


@pytest.mark.parametrize(
    ("data", "asked"),
    [
        ({"max_tokens": 5}, 5),
        ({"max_tokens": 5, "max_completion_tokens": 7}, 7),
        ({"max_output_tokens": 9}, 9),
        ({"max_tokens": None}, None),
        ({"max_tokens": True}, None),
        ({}, None),
    ],
)
def test_the_size_of_the_answer_is_found_under_each_of_its_names(data: dict[str, Any], asked: int | None) -> None:
    assert asked == token_window.asked_output_tokens(data)


def test_an_engine_request_id_begins_with_the_calls_own_and_is_never_the_same_twice() -> None:
    first, second = token_window.engine_request_id("call-1"), token_window.engine_request_id("call-1")

    assert first.startswith("call-1-") and second.startswith("call-1-") and first != second


def test_what_could_break_a_log_line_is_taken_out_of_an_engine_request_id() -> None:
    assert token_window.engine_request_id("a b\r\nc").startswith("a_b__c-")


def test_a_missing_configuration_is_one_clear_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["token_window.py", str(tmp_path / "absent.json")])

    status = token_window.main()

    assert 1 == status
    lines = capsys.readouterr().err.splitlines()
    assert 1 == len(lines)
    assert lines[0].startswith(f"token_window: {tmp_path}/absent.json: FileNotFoundError")


def test_a_model_without_its_tokenizer_is_one_clear_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("transformers", reason="the tokenizer library of gateway hosts is not installed here")
    config = tmp_path / "token_window.json"
    _write_config(config, directory=tmp_path / "nowhere")
    monkeypatch.setattr(sys, "argv", ["token_window.py", str(config)])

    status = token_window.main()

    assert 1 == status
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"token_window: model qwen: {tmp_path}/nowhere: no such directory; "
        "the role copies the tokenizer there from the model store"
    )


def _write_config(path: Path, *, directory: Path) -> None:
    model = {
        "max_input_tokens": 1536,
        "max_output_tokens": 512,
        "tokenizer_directory": str(directory),
        "deployments": ["qwen-a"],
    }
    path.write_text(json.dumps({"models": {"qwen": model}}))


@pytest.fixture(scope="module")
def hook(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    pytest.importorskip("transformers", reason="the tokenizer library of gateway hosts is not installed here")
    pytest.importorskip("litellm", reason="LiteLLM is installed on gateway hosts only")
    config = tmp_path_factory.mktemp("gateway") / "token_window.json"
    _write_config(config, directory=GOLDEN / "tiny-qwen3")
    yield token_window.make_hook(token_window.load_rulers(config))


def _call(hook: Any, data: dict[str, Any], call_type: str = "acompletion") -> dict[str, Any]:
    asyncio.run(hook.async_pre_call_hook(user_api_key_dict=None, cache=None, data=data, call_type=call_type))
    return data


def _hello(**more: Any) -> dict[str, Any]:
    return {"model": "qwen", "messages": [{"role": "user", "content": "Hello, how are you?"}], **more}


def test_a_request_that_fits_goes_on_with_its_id_for_the_engine(hook: Any) -> None:
    data = _call(hook, _hello(max_tokens=2024, litellm_call_id="call-1", extra_headers={"x-tenant": "a"}))

    assert data["extra_headers"]["x-request-id"].startswith("call-1-")
    assert "a" == data["extra_headers"]["x-tenant"]
    assert [{"role": "user", "content": "Hello, how are you?"}] == data["messages"]


def test_a_request_that_does_not_fit_is_answered_as_openai_answers(hook: Any) -> None:
    with pytest.raises(Exception) as caught:
        _call(hook, _hello(max_tokens=2025))

    assert "400" == caught.value.code  # type: ignore[attr-defined]
    assert {
        "message": "qwen has a window of 2048 tokens; your prompt has 24 and max_tokens asks for 2025: 1 too many. "
        "Shorten the prompt or ask for at most 2024.",
        "type": "invalid_request_error",
        "param": "messages",
        "code": "context_length_exceeded",
    } == caught.value.to_dict()  # type: ignore[attr-defined]


@pytest.mark.parametrize("model", ["qwen-a", "other, qwen"])
def test_no_way_of_naming_a_model_goes_round_the_window(hook: Any, model: str) -> None:
    with pytest.raises(Exception, match="has a window of 2048 tokens"):
        _call(hook, _hello(max_tokens=5000) | {"model": model})


def test_a_model_that_is_not_ours_is_left_alone(hook: Any) -> None:
    _call(hook, _hello(max_tokens=5000) | {"model": "other"})


def test_a_prompt_that_cannot_be_counted_goes_to_the_engine_with_a_line_in_the_log(
    hook: Any, caplog: pytest.LogCaptureFixture
) -> None:
    _call(hook, {"model": "qwen", "messages": [{"content": "no role"}], "litellm_call_id": "call-1"})

    assert [
        "call call-1: a prompt for qwen could not be counted (KeyError: 'role'); it goes on and the engine judges it"
    ] == [record.getMessage() for record in caplog.records if record.name == "token_window"]


def test_the_system_prompt_and_the_history_of_a_messages_call_count(hook: Any) -> None:
    anthropic = {
        "model": "qwen",
        "system": "You are brief.",
        "max_tokens": 5000,
        "messages": [
            {"role": "user", "content": "Why?"},
            {"role": "assistant", "content": "Because."},
            {"role": "user", "content": "Why not?"},
        ],
    }

    with pytest.raises(Exception, match="your prompt has 68 and max_tokens asks for 5000"):
        _call(hook, anthropic, "anthropic_messages")


def test_the_instructions_and_the_input_of_a_responses_call_count(hook: Any) -> None:
    responses = {"model": "qwen", "input": "Hello, how are you?", "max_output_tokens": 5000}

    with pytest.raises(Exception, match="your prompt has 24 and max_tokens asks for 5000"):
        _call(hook, responses, "aresponses")


@pytest.mark.usefixtures("hook")
def test_what_litellm_takes_out_of_a_tool_is_not_counted() -> None:
    def tool(**more: Any) -> dict[str, Any]:
        parameters = {"type": "object", "properties": {"a": {"type": "string"}}, **more}
        return {"type": "function", "function": {"name": "f", "parameters": parameters}}

    bare = chat_forms.as_engines_see_it(_hello(tools=[tool()]))
    strict = chat_forms.as_engines_see_it(_hello(tools=[tool(additionalProperties=False)]))

    assert bare["tools"] == strict["tools"]


def test_token_ids_are_refused_in_words_because_litellm_would_fail_on_them(hook: Any) -> None:
    with pytest.raises(Exception, match="does not pass on prompts given as token ids"):
        _call(hook, {"model": "qwen", "prompt": [1, 2, 3]}, "atext_completion")


def test_a_call_without_a_prompt_is_left_alone(hook: Any) -> None:
    _call(hook, {"model": "qwen"}, "aembedding")


def test_of_texts_to_embed_each_must_fit_and_not_all_together(hook: Any) -> None:
    fits, too_long = "word " * 300, "word " * 3000

    _call(hook, {"model": "qwen", "input": [fits, fits, fits, fits]}, "aembedding")

    with pytest.raises(Exception, match=r"too many\. Shorten the prompt"):
        _call(hook, {"model": "qwen", "input": ["short", too_long]}, "aembedding")

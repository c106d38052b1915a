"""The short way for plain pieces of text: clients and books get what LiteLLM gives without it, chunk by chunk."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.gateway import processes
from tests.gateway.processes import FILES

pytestmark = pytest.mark.lab
HEAD = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1700000000, "model": "tiny"}
ROLE = {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}, "logprobs": None,
                     "finish_reason": None}]}  # fmt: skip
END = {"choices": [{"index": 0, "delta": {"content": ""}, "logprobs": None, "finish_reason": "stop",
                    "stop_reason": None}]}  # fmt: skip
USAGE = {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8,
                                  "prompt_tokens_details": {"cached_tokens": 2}}}  # fmt: skip


def line(chunk: dict[str, Any], *, ascii_only: bool = False) -> str:
    text = json.dumps({**HEAD, **chunk}, separators=(",", ":"), ensure_ascii=ascii_only)
    return f"data: {text}"


def piece(text: str | None, kind: str = "content", **more: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {kind: text}, "logprobs": None, "finish_reason": None, **more}]}


def stream(*chunks: dict[str, Any] | str, **options: Any) -> dict[str, Any]:
    lines = [chunk if isinstance(chunk, str) else line(chunk) for chunk in (ROLE, *chunks)]
    return {"lines": [*lines, "data: [DONE]"], "options": options}


TOOL = {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "id": "c1", "type": "function", "function":
        {"name": "f", "arguments": "{}"}}]}, "logprobs": None, "finish_reason": None}]}  # fmt: skip
LOGPROBS = {"content": [{"token": "a", "logprob": -0.1, "bytes": [97], "top_logprobs": []}]}
STREAMS = {
    "plain": stream(*(piece(text) for text in ("one", " two", " three", " three", " three")), END),
    "with usage": stream(*map(piece, ("a", "b", "c", "d")), END, USAGE, stream_options={"include_usage": True}),
    "the same for ever": stream(*(piece("again") for _ in range(9)), END),
    "escapes": stream(
        *map(piece, ('say "a', '"', "\\", "\n", "\t", '"}}]}', ' "delta":{"content":"x"', "\u0000", " end")), END
    ),
    "korean, emoji, halves of one": stream(
        *map(piece, ("안녕", "하세요", "🙂", " 끝")),
        *(line(piece(text), ascii_only=True) for text in ("가", "🙂", "나")),
        line(piece("X")).replace("X", "\\ud83d"),
        line(piece("X")).replace("X", "\\ude42"),
        END,
    ),
    "empty and missing texts": stream(*map(piece, ("a", "", "b", None, "c", "d")), END),
    "thought, then answer": stream(
        *(piece(text, "reasoning") for text in ("hm", " so", " then")),
        *(piece(text, "reasoning_content") for text in ("old", " way", " too")),
        *map(piece, ("the", " answer", " is", " 4")),
        END,
    ),
    "thought merged into the text": stream(
        *(piece(text, "reasoning") for text in ("hm", " so", " then")),
        *map(piece, ("4", " it", " is")),
        END,
        merge_reasoning_content_in_choices=True,
    ),
    "tool call between texts": stream(*map(piece, ("a", "b", "c")), TOOL, *map(piece, ("d", "e", "f")), END),
    "log probabilities": stream(*(piece(text, logprobs=LOGPROBS) for text in ("a", "a", "b")), END),
    "ids and unknown fields": stream(*(piece(text, token_ids=None, stop_reason=None) for text in "abcd"), END),
    "unknown field with content": stream(*(piece(text, more={"x": [1]}) for text in "abcd"), END),
    "another id halfway": stream(
        *map(piece, "abc"), *(line(piece(text)).replace("chatcmpl-1", "chatcmpl-2") for text in "def"), END
    ),
    "fingerprint halfway": stream(
        *map(piece, "abc"), *({**piece(text), "system_fingerprint": "fp_1"} for text in "def"), END
    ),
    "two choices": stream(*(piece(text, index=at) for at in (0, 1, 0, 1) for text in "ab"), END),
    "text with the end": stream(*map(piece, "abc"), piece("d", finish_reason="length")),
    "text behind the end": stream(*map(piece, "abc"), END, piece("d"), piece("e")),
    "no end": stream(*map(piece, "abc")),
    "an error in between": stream(*map(piece, "abc"), 'data: {"error":{"message":"gone","code":500}}', piece("d")),
    "given up": stream(*map(piece, "abc"), piece("", finish_reason="abort")),
    "no JSON": stream(*map(piece, "abc"), line(piece("d"))[:-3], line(piece("x\\"))[:-2], piece("e"), END),
    "comments": stream(piece("a"), ": ping", piece("b"), "", piece("c"), "event: message", piece("d"), END),
}
# Which texts take the short way. Each kind of line goes the long way first; what has more than a text always does.
SHORT = {
    "plain": [" two", " three", " three", " three"],
    "with usage": ["b", "c", "d"],
    "the same for ever": ["again"] * 3,
    "escapes": ['"', "\\", "\n", "\t", '"}}]}', ' "delta":{"content":"x"', "\u0000", " end"],
    "korean, emoji, halves of one": ["하세요", "🙂", " 끝", "가", "🙂", "나", "\ud83d", "\ude42"],
    "empty and missing texts": ["b", "c", "d"],
    "thought, then answer": [" so", " then", " way", " too", " answer", " is", " 4"],
    "tool call between texts": ["b", "c", "d", "e", "f"],
    "ids and unknown fields": ["b", "c", "d"],
    "another id halfway": ["b", "c", "e", "f"],
    "fingerprint halfway": ["b", "c", "e", "f"],
    "two choices": ["b", "b", "b", "b"],
    "text with the end": ["b", "c"],
    "text behind the end": ["b", "c"],
    "no end": ["b", "c"],
    "an error in between": ["b", "c"],
    "given up": ["b", "c"],
    "no JSON": ["b", "c", "e"],
    "comments": ["b", "c", "d"],
}


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Any:
    directory = tmp_path_factory.mktemp("plain")
    try:
        python = processes.virtual_environment() / "bin" / "python"
    except processes.Unavailable as reason:
        pytest.skip(str(reason))
    environment = {
        "PATH": os.environ["PATH"], "HOME": str(directory), "PYTHONPATH": str(FILES), "LITELLM_LOG": "CRITICAL",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True", "REPEATED_STREAMING_CHUNK_LIMIT": "4",
    }  # fmt: skip
    script = str(Path(__file__).with_name("plain_chunks_twice.py"))
    done = subprocess.run(
        [str(python), script], input=json.dumps(STREAMS), capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_is_the_same_the_short_way(told: Any, name: str) -> None:
    assert told[name]["chunks"] > 0
    assert told[name]["after"] == told[name]["before"]


@pytest.mark.parametrize("name", STREAMS)
def test_texts_go_the_short_way_once_their_kind_is_known(told: Any, name: str) -> None:
    assert told[name]["taken"] == SHORT.get(name, [])


def test_what_is_kept_for_the_books_is_one_text_for_each_run_of_a_kind(told: Any) -> None:
    long, short = told["plain"]["kept"]
    assert (long, short) == (7, 4)  # the role, "one", the rest of the text, the end
    assert told["plain"]["after"][2]["choices"][0]["message"]["content"] == "one two three three three"
    assert told["tool call between texts"]["after"][2]["choices"][0]["message"]["content"] == "abcdef"
    assert told["thought, then answer"]["after"][2]["choices"][0]["message"]["reasoning_content"] == (
        "hm so thenold way too"
    )


def test_a_model_that_repeats_itself_is_stopped_as_before(told: Any) -> None:
    assert "repeating the same chunk = again" in told["the same for ever"]["after"][1]


def test_the_lock_file_has_the_version_that_the_short_way_was_made_for() -> None:
    (version,) = re.findall(r'^MADE_FOR = "(.+)"$', (FILES / "plain_chunks.py").read_text(), re.MULTILINE)
    assert f"litellm=={version} " in processes.LOCK.read_text()

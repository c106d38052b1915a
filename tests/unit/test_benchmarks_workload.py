"""What requests say: seeded, shared out without change, and never by accident from a cache."""

import json
import statistics
from pathlib import Path
from random import Random
from typing import Any

import pytest

from benchmarks.corpus import corpus
from benchmarks.load import Load
from benchmarks.tokens import Exact
from benchmarks.workload import Call, Workload


def load(**workload: Any) -> Load:
    return Load.parse({"target": {"base_url": "http://h/v1", "model": "m"}, "workload": workload}, origin="test")


def prompt(call: Call) -> str:
    return str(json.loads(call.body)["messages"][-1]["content"])


def test_a_request_is_the_same_whoever_makes_it_and_in_whatever_order() -> None:
    spec = load(language="mixed")

    forward = [Workload(spec, run_id="r").first(number).body for number in range(5)]
    backward = [Workload(spec, run_id="r").first(number).body for number in reversed(range(5))]

    assert forward == backward[::-1]


def test_every_prompt_begins_with_a_nonce_that_no_other_run_has() -> None:
    spec = load()

    starts = {prompt(Workload(spec, run_id=run).first(number))[:14] for run in ("a", "b") for number in range(50)}

    assert 100 == len(starts)


def test_half_of_each_prompt_is_common_when_asked_and_the_nonce_follows_it() -> None:
    spec = load(shared_prefix_ratio=0.5, prompt={"mean_tokens": 200})
    workload = Workload(spec, run_id="r")

    one, two = prompt(workload.first(1)), prompt(workload.first(2))
    common = next(index for index, (left, right) in enumerate(zip(one, two, strict=False)) if left != right)

    assert 440 == one.index("\n[")  # 100 tokens of 4.4 characters
    assert 442 <= common < 456


def test_lengths_have_the_asked_mean_and_spread() -> None:
    workload = Workload(load(prompt={"mean_tokens": 400, "spread_ratio": 0.5}), run_id="r")

    lengths = [workload.first(number).prompt_tokens for number in range(3000)]

    assert 385 < statistics.mean(lengths) < 415
    assert 180 < statistics.stdev(lengths) < 220


def test_lengths_never_pass_their_maximum() -> None:
    workload = Workload(load(output={"mean_tokens": 100, "spread_ratio": 2, "maximum_tokens": 150}), run_id="r")

    assert 150 == max(workload.first(number).output_tokens for number in range(300))


def test_a_conversation_carries_its_whole_history_and_ends_after_its_turns() -> None:
    workload = Workload(load(turns=2), run_id="r")

    first = workload.first(0)
    second = workload.following(first, "an answer")

    assert second is not None
    assert ["user", "assistant", "user"] == [message["role"] for message in second.messages]
    assert first.messages[0] == second.messages[0]
    assert "an answer" == second.messages[1]["content"]
    assert "r-0-1" == second.request_id
    assert workload.following(second, "more") is None


def test_korean_particles_follow_the_final_consonant() -> None:
    text = corpus("ko").text_of(20_000, Random(1))

    assert "선장은" in text
    assert "정원사는" in text
    assert "선장는" not in text
    assert "정원사은" not in text
    assert "[" not in text


@pytest.mark.parametrize("language", ["en", "ko"])
def test_text_has_exactly_the_asked_length_and_does_not_repeat_soon(language: str) -> None:
    text = corpus(language).text_of(5000, Random(2))

    assert 5000 == len(text)
    assert text.count(text[:120]) == 1


def test_lengths_are_the_models_own_tokens_where_its_tokenizer_is_given(tmp_path: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=600, show_progress=False)
    tokenizer.train_from_iterator([corpus("en").text_of(20_000, Random(9))], trainer)
    tokenizer.save(str(tmp_path / "tokenizer.json"))

    workload = Workload(load(prompt={"mean_tokens": 300}, tokenizer=str(tmp_path)), run_id="r")
    counted = [Exact(tmp_path).count(prompt(workload.first(number)), corpus("en")) for number in range(5)]

    assert all(297 <= count <= 302 for count in counted), counted

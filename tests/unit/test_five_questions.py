"""The five questions: the pages say what sizing says now, and the tokens are vLLM's own."""

import pytest

from tools.make_five_questions import PAGE, README, five_questions, own_answer, page, readme_with_table


def test_the_pages_are_not_stale() -> None:
    readme = README.read_text(encoding="utf-8")

    assert page() == PAGE.read_text(encoding="utf-8"), "run `python -m tools.make_five_questions`"
    assert readme == readme_with_table(readme), "run `python -m tools.make_five_questions`"


@pytest.mark.parametrize(("key", "tokens"), [("b", 77_703), ("c", 1_472_464), ("d", 58_032), ("e", 2_445_215)], ids=str)
def test_the_same_bytes_give_the_tokens_of_vllms_own_code(key: str, tokens: int) -> None:
    # The reference's bytes and tokens: 77.7k, 1.47M, 58k and 2.45M, by vLLM 0.32.0's kv_cache_utils.
    data = five_questions()
    question = next(one for one in data.questions if one.key == key)

    assert tokens == own_answer(question, data.window_tokens).kv_cache_tokens


def test_the_first_question_is_answered_with_no_where_most_tools_say_yes() -> None:
    data = five_questions()

    answer = own_answer(data.questions[0], data.window_tokens, utilization=0.9)

    assert "does_not_fit" == answer.verdict


def test_every_tool_has_an_answer_to_every_question() -> None:
    data = five_questions()

    keys = [question.key for question in data.questions]
    assert all(keys == list(peer.answers) for peer in data.peers)
    assert keys == list(data.readme_peers)

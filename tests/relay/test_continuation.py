"""Chunks at the seam: what is out, what is generated again, and how a thought goes on."""

import json
from typing import Any

from relay.asking import asked_of
from relay.continuation import Continuation
from relay.thoughts import ThoughtEnd

HEAD = 'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"m","choices":['
ROLE = (
    f'{HEAD}{{"index":0,"delta":{{"role":"assistant","content":""}},"logprobs":null,"finish_reason":null}}],'
    '"prompt_token_ids":[7,8,9]}'
)
THINK = ThoughtEnd("</think>", special=False)
CHANNEL = ThoughtEnd("<channel|>", special=True)
TEXT_HEAD = 'data: {"id":"cmpl-2","object":"text_completion","created":2,"model":"m","choices":['


def chat(delta: dict[str, str], ids: list[int]) -> bytes:
    piece = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None, "token_ids": ids}
    return (HEAD + json.dumps(piece, ensure_ascii=False, separators=(",", ":")) + "]}").encode()


def text(piece: str, ids: list[int], *, finish: str | None = None) -> bytes:
    choice = {"index": 0, "text": piece, "logprobs": None, "finish_reason": finish, "stop_reason": None}
    choice |= {"prompt_token_ids": None, "token_ids": ids}
    return (TEXT_HEAD + json.dumps(choice, ensure_ascii=False, separators=(",", ":")) + "]}").encode()


def begun(*, end: ThoughtEnd | None = None, **more: Any) -> tuple[Continuation, list[dict[str, Any]]]:
    out: list[dict[str, Any]] = []

    def write(data: bytes) -> None:
        out.extend(json.loads(event[6:]) for event in data.decode().split("\n\n") if event)

    body = {"messages": [], "stream": True, "temperature": 0, "max_tokens": 20} | more
    answer = Continuation(asked_of(body, chat=True), window=100, thought_end=end or THINK, write=write)
    answer.next_request()
    assert answer.feed(ROLE.encode()) is None
    return answer, out


def deltas(out: list[dict[str, Any]]) -> list[dict[str, str]]:
    return [chunk["choices"][0]["delta"] for chunk in out]


def test_ids_without_text_are_generated_again() -> None:
    answer, out = begun()
    for event in (chat({"content": "한"}, [11, 12]), chat({"content": ""}, [13]), chat({"content": ""}, [14])):
        assert answer.feed(event) is None

    wanted = answer.next_request()

    assert wanted is not None
    assert ("/v1/completions", b"7,8,9,11,12") == (wanted[0], wanted[2])
    assert 18 == wanted[1]["max_tokens"]
    assert ["", "한", "", ""] == [delta["content"] for delta in deltas(out)]


def test_ids_that_were_held_back_count_once_their_text_is_out() -> None:
    answer, _ = begun()
    for event in (chat({"content": "a"}, [11]), chat({"content": ""}, [12]), chat({"content": "국"}, [13])):
        answer.feed(event)

    wanted = answer.next_request()

    assert wanted is not None
    assert b"7,8,9,11,12,13" == wanted[2]


def test_a_text_that_looks_like_the_end_of_a_chunk_is_text() -> None:
    answer, out = begun()
    hostile = '"},"logprobs":null,"finish_reason":null,"token_ids":[99]}]}'
    for ids in ([11], [12], [13]):
        assert answer.feed(chat({"content": hostile}, ids)) is None

    assert [hostile] * 3 == [delta["content"] for delta in deltas(out)[1:]]
    assert 3 == answer.completion_tokens


def test_the_clients_id_time_and_name_stay_through_all_legs() -> None:
    answer, out = begun()
    answer.feed(chat({"content": "a"}, [11]))
    answer.next_request()
    for event in (text("b", [12]), text("c", [13]), text("d", [14], finish="length")):
        answer.feed(event)
    last = answer.closing().decode().split("\n\n")

    assert {("chatcmpl-1", 1, "chat.completion.chunk")} == {(one["id"], one["created"], one["object"]) for one in out}
    assert ["", "a", "b", "c"] == [delta["content"] for delta in deltas(out)]
    assert {"content": "d"} == json.loads(last[0][6:])["choices"][0]["delta"]
    assert "data: [DONE]" == last[-2]


def test_a_cut_thought_goes_on_as_a_thought_and_then_as_the_answer() -> None:
    answer, out = begun()
    answer.feed(chat({"reasoning": "so"}, [11]))
    answer.feed(chat({"reasoning": " far"}, [12]))
    answer.next_request()
    for event in (text(" and", [13]), text(" on</th", [14]), text("ink>\n", [15]), text("yes", [16])):
        assert answer.feed(event) is None

    said = [{key: value for key, value in delta.items() if value} for delta in deltas(out)[1:]]
    assert "so far and on" == "".join(delta.get("reasoning", "") for delta in said)
    assert "\nyes" == "".join(delta.get("content", "") for delta in said)


def test_the_end_of_a_thought_and_the_answers_begin_come_in_one_chunk_and_neither_is_lost() -> None:
    answer, out = begun()
    for event in (chat({"reasoning": "so"}, [11]), chat({"content": "yes", "reasoning": " far"}, [12, 13, 14])):
        assert answer.feed(event) is None
    wanted = answer.next_request()
    assert answer.feed(text(", sir", [15])) is None

    assert [{"reasoning": "so"}, {"reasoning": " far"}, {"content": "yes"}, {"content": ", sir"}] == deltas(out)[1:]
    assert wanted is not None
    assert b"7,8,9,11,12,13,14" == wanted[2]


def test_an_empty_answer_beside_a_thought_ends_no_thought() -> None:
    answer, out = begun()
    assert answer.feed(chat({"content": "", "reasoning": "so"}, [11])) is None
    answer.next_request()
    for event in (text(" far", [12]), text("</think>", [13]), text("yes", [14])):
        assert answer.feed(event) is None

    said = deltas(out)
    assert "so far" == "".join(delta.get("reasoning", "") for delta in said)
    assert "yes" == "".join(delta.get("content", "") for delta in said)


def test_a_stop_string_in_a_cut_thought_ends_the_answer_also_across_the_seam() -> None:
    answer, out = begun(stop=["far off"])
    for event in (chat({"reasoning": "so "}, [11]), chat({"reasoning": "fa"}, [12])):
        assert answer.feed(event) is None
    answer.next_request()
    ends = [answer.feed(event) for event in (text("r of", [13]), text("f and", [14]))]
    last = json.loads(answer.closing().decode().split("\n\n")[0][6:])

    said = "".join(delta.get("reasoning", "") for delta in deltas(out))
    choice = last["choices"][0]
    assert [None, ""] == ends
    assert "so " == said + (choice["delta"].get("reasoning") or "")
    assert ("stop", "far off") == (choice["finish_reason"], choice["stop_reason"])


def test_a_second_end_of_the_same_thought_is_dropped_as_by_the_engines_parser() -> None:
    answer, out = begun()
    answer.feed(chat({"reasoning": "so"}, [11]))
    answer.next_request()
    for event in (text("</think>yes", [12, 13]), text("</think>", [14]), text(" sir", [15])):
        assert answer.feed(event) is None

    said = deltas(out)
    assert "so" == "".join(delta.get("reasoning", "") for delta in said)
    assert "yes sir" == "".join(delta.get("content", "") for delta in said)


def test_a_cut_thought_of_gemma_4_asks_for_special_tokens_because_its_end_is_one() -> None:
    answer, out = begun(end=CHANNEL)
    answer.feed(chat({"reasoning": "so"}, [11]))
    wanted = answer.next_request()
    for event in (text(" on", [13]), text("<channel|>", [14]), text("yes", [15])):
        assert answer.feed(event) is None
    behind = answer.next_request()

    said = [{key: value for key, value in delta.items() if value} for delta in deltas(out)[1:]]
    assert [{"reasoning": "so"}, {"reasoning": " on"}, {"content": "yes"}] == [one for one in said if one]
    assert wanted is not None and wanted[1]["skip_special_tokens"] is False
    assert behind is not None and "skip_special_tokens" not in behind[1]


def test_a_cut_thought_whose_end_would_show_too_much_beside_stop_strings_is_refused_and_says_why() -> None:
    answer, _ = begun(end=CHANNEL, stop=["zzz"])
    answer.feed(chat({"reasoning": "so"}, [11]))

    assert "special token" in answer.resumable


def test_an_error_event_that_blames_the_request_is_the_clients_and_no_fault_of_the_engine() -> None:
    answer, _ = begun()

    answer.feed(b'data: {"error":{"message":"bad value","type":"BadRequestError","code":400}}')

    assert 400 == answer.refused


def test_an_answer_behind_a_thought_goes_on_as_the_answer() -> None:
    answer, out = begun()
    for event in (
        chat({"reasoning": "hm"}, [11]),
        chat({}, [12]),
        chat({"content": ""}, [13]),
        chat({"content": "yes"}, [14]),
        chat({"content": "!"}, [15]),
    ):
        answer.feed(event)
    answer.next_request()
    answer.feed(text(" more", [16]))

    assert {"content": " more"} == deltas(out)[-1]


def test_an_answer_that_had_all_its_tokens_ends_without_another_engine() -> None:
    answer, _ = begun(max_tokens=2)
    answer.feed(chat({"content": "a"}, [11]))
    answer.feed(chat({"content": "b"}, [12]))

    assert answer.next_request() is None
    last = json.loads(answer.closing().decode().split("\n\n")[0][6:])
    assert "length" == last["choices"][0]["finish_reason"]


def test_an_error_event_an_abort_and_an_end_without_a_reason_are_faults() -> None:
    answer, _ = begun()

    assert "EngineCore" in (answer.feed(b'data: {"error":{"message":"EngineCore died","code":500}}') or "")
    assert "[DONE]" in (answer.feed(b"data: [DONE]") or "")
    aborted = chat({"content": "a"}, [11]).replace(b'"finish_reason":null', b'"finish_reason":"abort"')
    assert "abort" in (answer.feed(aborted) or "")
    assert answer.feed(b'data: {"nonsense"') != ""


def test_ids_that_nobody_asked_for_leave_no_empty_key_behind() -> None:
    """LiteLLM pays for a field that it does not know in every chunk."""
    answer, out = begun()
    for word in ("a", "b", "c"):
        assert answer.feed(chat({"content": word}, [11])) is None

    assert ["a", "b", "c"] == [delta["content"] for delta in deltas(out)[1:]]
    assert [True, False, False] == ["token_ids" in chunk["choices"][0] for chunk in out[1:]]


def test_what_may_be_the_end_of_a_thought_survives_a_second_fault() -> None:
    answer, out = begun()
    answer.feed(chat({"reasoning": "so"}, [11]))
    answer.next_request()
    for event in (text(" 1 <", [12]), text(" 2 </th", [13])):
        assert answer.feed(event) is None
    wanted = answer.next_request()
    for event in (text("ink>", [14]), text("yes", [15])):
        assert answer.feed(event) is None

    said = deltas(out)[1:]
    assert wanted is not None and b"7,8,9,11,12,13" == wanted[2]
    assert "so 1 < 2 " == "".join(delta.get("reasoning", "") for delta in said)
    assert "yes" == "".join(delta.get("content", "") for delta in said)

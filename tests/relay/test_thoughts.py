"""A model that thinks aloud loses its engine, within the thought or behind it: both parts are what they were."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.relay.two_engines import CHAT, Heard, TwoEngines

FAULTS = ("cut", "error_event", "false_end")
PLACES = (1, 4, 9, 14, 19, 24, 29, 40)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoEngines]:
    with TwoEngines(tmp_path_factory.mktemp("site"), character=("--reasoning-every", "20")) as running:
        yield running


def question(place: int, **more: Any) -> dict[str, Any]:
    asked = {"model": "fault", "temperature": 0, "max_tokens": 60, "stream": True} | more
    asked |= {"stream_options": {"include_usage": True}, "ignore_eos": True}
    return asked | {"messages": [{"role": "user", "content": f"생각해 봐 {place} 🎉 think about it"}]}


def told(heard: Heard) -> tuple[Any, ...]:
    """What engines say of a thought's share of the tokens is theirs; the sums must agree."""
    counts = [{key: usage[key] for key in ("prompt_tokens", "completion_tokens")} for usage in heard.usage]
    return heard.done, heard.error, heard.texts, heard.finish, counts


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("special", [{}, {"logprobs": True}], ids=["continued", "replayed"])
def test_a_thought_and_its_answer_go_on_as_if_nothing_had_happened(
    site: TwoEngines, special: dict[str, Any], fault: str
) -> None:
    thoughts = answers = 0
    for place in PLACES:
        right = site.undisturbed(CHAT, question(place, **special))
        site.heal()
        site.first_fault(fault, after_tokens=place)

        heard = site.ask(CHAT, question(place, **special))

        assert told(right) == told(heard)
        thoughts += (0, "reasoning") in heard.texts
        answers += (0, "content") in heard.texts

    assert thoughts > 0
    assert answers > 0

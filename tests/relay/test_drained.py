"""What a relay keeps of an operator's orders: whole or not at all, shared with its stand-in, never a reason to stop."""

import json
from pathlib import Path

import pytest

from relay.drained import Drained


def test_what_one_process_kept_is_news_to_the_other_and_not_to_itself(tmp_path: Path) -> None:
    relay, standin = Drained(tmp_path / "chat.json"), Drained(tmp_path / "chat.json")

    kept = relay.keep(["chat@h5", "chat@h4"])

    assert kept
    assert relay.news() is None
    assert frozenset({"chat@h4", "chat@h5"}) == standin.news()
    assert standin.news() is None
    assert {"schema_version": 1, "drained": ["chat@h4", "chat@h5"]} == json.loads((tmp_path / "chat.json").read_bytes())
    assert ["chat.json"] == [path.name for path in tmp_path.iterdir()]


def test_each_order_replaces_the_one_before(tmp_path: Path) -> None:
    relay = Drained(tmp_path / "chat.json")
    relay.keep(["chat@h4"])
    relay.keep([])

    assert frozenset() == Drained(tmp_path / "chat.json").news()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"drained": 3}', "\xff"])
def test_a_file_that_makes_no_sense_drains_nobody_and_does_not_stop_a_relay(tmp_path: Path, content: str) -> None:
    (tmp_path / "chat.json").write_text(content, encoding="latin-1")

    assert frozenset() == Drained(tmp_path / "chat.json").news()


def test_a_place_that_cannot_be_written_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    relay = Drained(tmp_path / "absent" / "chat.json")

    assert not relay.keep(["chat@h4"])
    assert relay.news() is None
    assert [] == list(tmp_path.iterdir())


def test_without_a_place_nothing_is_kept_and_nothing_is_news() -> None:
    relay = Drained(None)

    assert not relay.keep(["chat@h4"])
    assert relay.news() is None

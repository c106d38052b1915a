"""guardrails.yml: what is understood, what is refused before anything changes, and what the service reads of it."""

import json
from pathlib import Path
from typing import Any

import pytest

from guard.errors import GuardError
from guard.rules import Rules
from sizing.cli import run
from sizing.errors import DocumentError
from sizing.guardrails import Guardrails, load_guardrails

EXAMPLE = Path(__file__).resolve().parents[2] / "inventories/example/group_vars/all/guardrails.yml.example"


def site_with(directory: Path, content: str) -> Path:
    everything = directory / "group_vars" / "all"
    everything.mkdir(parents=True)
    (everything / "guardrails.yml").write_text(content, encoding="utf-8")
    return directory


def test_a_site_that_declares_nothing_has_no_guardrails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert load_guardrails(tmp_path) is None
    assert 0 == run(["guardrails", str(tmp_path), "--json"])
    assert {} == json.loads(capsys.readouterr().out)


def test_the_example_is_understood_by_the_service_as_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    site = site_with(tmp_path, EXAMPLE.read_text("utf-8"))

    assert 0 == run(["guardrails", str(site), "--json"])
    path = tmp_path / "rules.json"
    path.write_text(capsys.readouterr().out)
    rules = Rules.load(path)

    assert Path("/run/guard.socket") == rules.socket
    assert [("personal-data", "mask", "closed"), ("code-names", "block", "closed"), ("take-over", "block", "open")] == [
        (rule.name, rule.action, rule.on_failure) for rule in rules.rules
    ]
    personal, names, _ = rules.rules
    assert personal.concerns(alias=None, direction="out")
    assert not names.concerns(alias=None, direction="out")
    assert not names.concerns(alias="search-prod", direction="in")
    assert (True, 0) == (personal.hold.numbers, personal.hold.characters)


def test_a_guardrail_for_named_keys_is_for_nobody_else(tmp_path: Path) -> None:
    path = tmp_path / "rules.json"
    rule = {"name": "a", "kind": "injection", "keys": ["mine"]}
    path.write_text(json.dumps({"socket": "/s", "processes": 1, "unreadable": "pass", "rules": [rule]}))

    (read,) = Rules.load(path).rules

    assert [True, False, False] == [read.concerns(alias=alias, direction="in") for alias in ("mine", "theirs", None)]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("guardrails: {rules: []}", "rules: Tuple should have at least 1 item"),
        ("rules: [{name: a, kind: words, words: [x]}]", "expected the single top-level key guardrails"),
        ("guardrails: {rules: [{name: a, kind: words}]}", "guardrail a: it looks for nothing"),
        ("guardrails: {rules: [{name: a, kind: magic}]}", "does not match any of the expected tags"),
        (
            "guardrails: {rules: [{name: a, kind: words, words: [x], on_fail: open}]}",
            "on_fail: Extra inputs are not permitted",
        ),
        (
            "guardrails: {rules: [{name: a, kind: words, words: [x], on_failure: maybe}]}",
            "should be 'open' or 'closed'",
        ),
        ("guardrails: {rules: [{name: a, kind: words, patterns: ['(']}]}", "is no regular expression"),
        ("guardrails: {rules: [{name: a, kind: words, patterns: ['x*']}]}", "fits where nothing is"),
        ("guardrails: {rules: [{name: a, kind: words, words: [x], timeout_seconds: 0}]}", "timeout_seconds"),
        ("guardrails: {rules: [{name: a, kind: injection, directions: [out]}]}", "directions"),
        ("guardrails: {rules: [{name: a, kind: injection, action: mask}]}", "action"),
        ("guardrails: {rules: [{name: a, kind: custom, file: here.py}]}", "file"),
        ("guardrails: {rules: [{name: a, kind: personal_data, entities: []}]}", "it looks for nothing"),
        ("guardrails: {rules: [{name: a, kind: words, words: [x], keys: [k], except_keys: [k]}]}", "keep one"),
        (
            "guardrails: {rules: [{name: a, kind: words, words: [x]}, {name: a, kind: injection}]}",
            "guardrail a is declared twice",
        ),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(tmp_path: Path, content: str, words: str) -> None:
    with pytest.raises(DocumentError, match=words) as refused:
        load_guardrails(site_with(tmp_path, content))

    assert 1 == len(str(refused.value).splitlines())


def test_keys_that_nobody_declared_are_refused() -> None:
    declared = Guardrails.model_validate({"rules": [{"name": "a", "kind": "injection", "keys": ["ghost"]}]})

    with pytest.raises(DocumentError, match=r"guardrails: a: key ghost is not among the keys of access\.yml"):
        declared.check(aliases={"real"})
    declared.check(aliases=None)


def test_answers_that_are_masked_go_to_no_receiver_of_traces_as_they_were() -> None:
    masks = {"name": "a", "kind": "personal_data", "directions": ["in", "out"]}

    with pytest.raises(DocumentError, match=r"a looks at answers, and tracing\.yml sends langfuse answers as engines"):
        Guardrails.model_validate({"rules": [masks]}).check(aliases=None, traced="langfuse")
    Guardrails.model_validate({"rules": [masks | {"directions": ["in"]}]}).check(aliases=None, traced="langfuse")


@pytest.mark.parametrize(
    "content", [{}, {"socket": "/s", "processes": 1, "unreadable": "pass", "rules": [{"nonsense": 1}]}]
)
def test_the_service_refuses_a_file_that_nobody_made_for_it(tmp_path: Path, content: dict[str, Any]) -> None:
    path = tmp_path / "rules.json"
    path.write_text(json.dumps(content))

    with pytest.raises(GuardError, match=r"rules\.json"):
        Rules.load(path)

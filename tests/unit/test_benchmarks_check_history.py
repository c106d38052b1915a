"""The history checker finds every defect that is seeded, names it, and finds nothing in sound histories."""

from collections.abc import Callable

import pytest

from benchmarks.check_history import RULES, check, reference_of
from benchmarks.driver import Effort
from benchmarks.history import History
from tests.fakes.forged_history import DONE, ERROR, event, history, record, tokens, usage, words
from tests.fakes.null_site import carry_out, load_for, null_site

OWN, OTHER = "run-0-0", "run-1-0"
FIVE = tokens(OWN, 5)
COUNTED = [usage(OWN, 5), DONE]
TEXT = "the piano stood in the harbour until somebody moved it to the chapel"


def test_sound_histories_have_no_defects() -> None:
    verdict = check(history(record(0), record(1), record(2)))

    assert [] == list(verdict.defects)
    assert {"numbered": 3} == verdict.evidence


SEEDED: dict[str, tuple[str, Callable[[], History]]] = {
    "a token sent twice": ("duplicate", lambda: history(record(said=[*FIVE[:3], *FIVE[2:]], ending=COUNTED))),
    "two tokens sent again after a resume": (
        "duplicate",
        lambda: history(record(said=[*FIVE[:4], *FIVE[2:]], ending=COUNTED)),
    ),
    "a token left out": ("missing", lambda: history(record(said=[*FIVE[:2], *FIVE[3:]], ending=COUNTED))),
    "the last token left out": ("missing", lambda: history(record(said=FIVE[:4], ending=COUNTED))),
    "the first token left out": ("missing", lambda: history(record(said=FIVE[1:], ending=COUNTED))),
    "two tokens in the wrong order": (
        "duplicate",
        lambda: history(record(said=[FIVE[0], FIVE[2], FIVE[1], *FIVE[3:]], ending=COUNTED)),
    ),
    "an end without a finish reason": (
        "unfinished",
        lambda: history(record(ending=[usage(OWN, 5, finish_reason=None), DONE])),
    ),
    "text of another request under the own id": (
        "foreign",
        lambda: history(record(said=[*FIVE[:2], event(OWN, {"content": f" {OTHER}.2"}), *FIVE[3:]], ending=COUNTED)),
    ),
    "a chunk with another request's id": (
        "foreign",
        lambda: history(record(said=[*FIVE[:2], tokens(OTHER, 3)[2], *FIVE[3:]], ending=COUNTED, keep=False)),
    ),
    "a stream cut without an error": ("lost", lambda: history(record(ending=[], outcome="cut"))),
    "a stream that fell silent": ("lost", lambda: history(record(said=FIVE[:1], ending=[], outcome="silent"))),
    "a request answered 200 with not one token": (
        "lost",
        lambda: history(record(said=[], ending=[], outcome="cut", times_ms=[], ended_ns=10**9)),
    ),
    "an error with [DONE] after it": (
        "done_after_error",
        lambda: history(record(said=FIVE[:2], ending=[ERROR, DONE], outcome="error_event")),
    ),
    "an error counted as a success": ("false_success", lambda: history(record(said=FIVE[:2], ending=[ERROR, DONE]))),
    "a success without [DONE]": ("false_success", lambda: history(record(ending=[usage(OWN, 5)]))),
    "text after [DONE]": ("after_done", lambda: history(record(ending=[usage(OWN, 5), DONE, FIVE[0]]))),
    "a gap of six seconds": ("gap", lambda: history(record(times_ms=[20, 30, 6040, 6050, 6060, 6070, 6080]))),
    "one request recorded twice": ("twice", lambda: history(record(0), record(0))),
    "an arrival without a record": ("unmade", lambda: history(record(0), scheduled=2)),
    "times that run backwards": ("disorder", lambda: history(record(times_ms=[20, 30, 25, 40, 50, 60, 70]))),
    "sent before it was started": ("disorder", lambda: history(record(started_ns=5_000_000))),
    "kept text that was changed afterwards": (
        "damaged",
        lambda: history(record(body=b"data: {}\n\n" * 7)),
    ),
    "more pieces of text than counted tokens": (
        "duplicate",
        lambda: history(record(said=words(OWN, "a b b c"), ending=[usage(OWN, 3), DONE], keep=False)),
    ),
}


@pytest.mark.parametrize("name", SEEDED)
def test_a_seeded_defect_is_found(name: str) -> None:
    rule, forge = SEEDED[name]

    found = check(forge()).defects

    assert rule in {defect.rule for defect in found}, found


REFERENCE = {(0, 0): " " + TEXT}


@pytest.mark.parametrize(
    ("text", "rules"),
    [
        (TEXT, []),
        (TEXT.replace("somebody moved ", ""), ["missing"]),
        (TEXT.removesuffix(" chapel"), ["missing"]),
        (TEXT.replace("until", "until until"), ["duplicate"]),
        (TEXT.replace("in the harbour", "in the harbour in the harbour"), ["duplicate"]),
        (TEXT.replace("harbour", "station"), ["altered"]),
        ("an entirely different answer of some length", ["altered"]),
    ],
)
def test_text_is_compared_with_the_undisturbed_run(text: str, rules: list[str]) -> None:
    said = words(OWN, text)
    forged = history(record(said=said, ending=[usage(OWN, len(said)), DONE]))

    verdict = check(forged, reference=REFERENCE)

    assert rules == [defect.rule for defect in verdict.defects]
    assert {"reference": 1} == verdict.evidence


def test_every_rule_has_a_seeded_defect() -> None:
    assert set(RULES) == {rule for rule, _ in SEEDED.values()} | {"altered"}


def test_a_refused_connection_is_a_failure_and_not_a_lost_request() -> None:
    refused = record(said=[], ending=[], outcome="refused", status=0, times_ms=[], sent_ns=0, first_byte_ns=0)

    assert [] == list(check(history(refused)).defects)


@pytest.mark.parametrize(
    ("fault", "rules"),
    [
        ("", set()),
        ("duplicate", {"duplicate"}),
        ("skip", {"missing"}),
        ("foreign", {"foreign"}),
        ("foreign_text", {"foreign"}),
        ("error", {"done_after_error", "missing"}),
        ("cut", {"lost"}),
    ],
)
def test_defects_of_a_living_server_are_found_in_its_recorded_history(fault: str, rules: set[str]) -> None:
    with null_site() as (port, _):
        records = carry_out(load_for(port, model=f"null?fault={fault}", requests=3, keep_bodies=True))

    verdict = check(history(*records, efforts=[Effort()]))

    assert rules == {defect.rule for defect in verdict.defects}
    assert len(rules) * 3 == len(verdict.defects)


def test_a_run_gives_the_reference_for_another_with_the_same_nonce() -> None:
    with null_site() as (port, _):
        first = carry_out(load_for(port, nonce="same", keep_bodies=True))
        again = carry_out(load_for(port, nonce="same", keep_bodies=True), run_id="other")

    assert {(0, 0)} == set(reference_of(history(*first)))
    assert first[0].prompt_tokens == again[0].prompt_tokens

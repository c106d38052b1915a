"""Check history: what no stream may ever do, checked on recorded lives, whoever recorded them and whenever.

Evidence for the text itself, strongest first: *numbered* (the null server's tokens carry stream and number),
*reference* (the same prompt's answer in an undisturbed run, where the engine is deterministic), *counted* (more
events than the server's own token count can only be repetition). Everything else (order, ids, [DONE], gaps,
checksums) holds for every stream.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from zlib import crc32

from benchmarks import events
from benchmarks.history import History
from benchmarks.metrics import token_times, usage_of
from benchmarks.record import OK, Record
from benchmarks.text_of_stream import texts_of

GAP_SECONDS = 5.0
RULES: Mapping[str, str] = {
    "lost": "an acknowledged request never came to its end",
    "unmade": "an arrival of the schedule has no record",
    "twice": "two records of one request",
    "duplicate": "a token came twice",
    "missing": "a token never came",
    "foreign": "text or id of another request",
    "altered": "the text differs from the undisturbed run",
    "gap": "silence inside a stream for longer than allowed",
    "false_success": "counted as a success without [DONE], or in spite of an error",
    "done_after_error": "the server said [DONE] after an error, which most clients take for success",
    "unfinished": "[DONE] without a finish reason: an answer that was cut short and does not say so",
    "after_done": "the server went on after [DONE]",
    "disorder": "times that run backwards",
    "damaged": "checksums and kept text disagree",
}
_NUMBERED = re.compile(r" (\S+)\.(\d+)")
_FINISHED = re.compile(rb'"finish_reason"\s*:\s*"')
_NEVER_ACKNOWLEDGED = ("dns", "refused", "connect_timeout", "tls", "client")


@dataclass(frozen=True, kw_only=True)
class Defect:
    """One broken rule."""

    rule: str
    request_id: str
    sentence: str


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What was checked, by which evidence, and what was found."""

    streams: int
    evidence: dict[str, int]  # streams per kind of evidence for their text
    defects: Sequence[Defect]


Reference = Mapping[tuple[int, int], str]  # (sequence, turn) -> text


def check(history: History, *, gap_seconds: float = GAP_SECONDS, reference: Reference | None = None) -> Verdict:
    """Every defect of every stream."""
    defects = list(_of_the_whole(history))
    evidence: Counter[str] = Counter()
    for record in history.records:
        defects.extend(_of_the_order(record))
        defects.extend(_of_the_end(record))
        defects.extend(_of_the_gaps(record, gap_seconds))
        kind, found = _of_the_text(record, (reference or {}).get((record.sequence, record.turn)))
        evidence[kind] += 1
        defects.extend(found)
    return Verdict(streams=len(history.records), evidence=dict(evidence), defects=defects)


def reference_of(history: History) -> dict[tuple[int, int], str]:
    """The texts of an undisturbed run that kept its bodies."""
    return {
        (record.sequence, record.turn): _text(record)
        for record in history.records
        if record.outcome == OK and record.body
    }


def _of_the_whole(history: History) -> Iterator[Defect]:
    for request_id, count in Counter(record.request_id for record in history.records).items():
        if count > 1:
            yield _defect("twice", request_id, f"{count} records")
    made = len({record.sequence for record in history.records})
    if made < history.scheduled_count:
        yield _defect(
            "unmade", history.run_id, f"{history.scheduled_count - made} of {history.scheduled_count} arrivals"
        )


def _of_the_order(record: Record) -> Iterator[Defect]:
    instants = [record.intended_ns, record.started_ns]
    instants += [instant for instant in (record.sent_ns, record.first_byte_ns) if instant]
    instants += list(record.event_times_ns())
    if any(later < earlier for earlier, later in pairwise(instants)):
        yield _defect("disorder", record.request_id, "its recorded times do not ascend")
    if record.body:
        pieces = record.body.replace(b"\r\n", b"\n").split(b"\n\n")[:-1]
        if [crc32(piece) for piece in pieces] != list(record.checksums()):
            yield _defect(
                "damaged", record.request_id, f"{len(pieces)} kept events, {len(record.event_kind)} checksums"
            )


def _of_the_end(record: Record) -> Iterator[Defect]:
    kinds = [kind & events.KIND_MASK for kind in record.event_kind]
    done = kinds.index(events.DONE) if events.DONE in kinds else None
    error = kinds.index(events.ERROR) if events.ERROR in kinds else None
    if record.outcome == OK and (done is None or error is not None):
        yield _defect("false_success", record.request_id, "no [DONE]" if done is None else "an error event inside")
    if done is not None and error is not None and error < done:
        yield _defect("done_after_error", record.request_id, f"error at event {error}, [DONE] at event {done}")
    if record.outcome == OK and record.body and not _FINISHED.search(record.body):
        yield _defect("unfinished", record.request_id, f"[DONE] after {len(token_times(record)[0])} tokens")
    if done is not None and done != len(kinds) - 1:
        yield _defect("after_done", record.request_id, f"{len(kinds) - 1 - done} events after [DONE]")
    acknowledged = record.status == 200 and record.outcome not in _NEVER_ACKNOWLEDGED  # noqa: PLR2004  HTTP OK
    if acknowledged and done is None and record.outcome not in {OK, "abandoned", "not_a_stream"}:
        yield _defect("lost", record.request_id, f"{record.outcome} after {len(token_times(record)[0])} tokens")


def _of_the_gaps(record: Record, gap_seconds: float) -> Iterator[Defect]:
    times, _ = token_times(record)
    if len(times) > 1:
        widest = int((times[1:] - times[:-1]).max()) / 1e9
        if widest > gap_seconds:
            yield _defect("gap", record.request_id, f"{widest:.2f} s without a token (allowed {gap_seconds:g} s)")


def _of_the_text(record: Record, reference: str | None) -> tuple[str, list[Defect]]:
    """(kind of evidence, defects)."""
    found = []
    strangers = [index for index, kind in enumerate(record.event_kind) if kind & events.FOREIGN]
    if strangers:
        found.append(_defect("foreign", record.request_id, f"another stream's id at events {strangers[:5]}"))
    if record.body:
        text = _text(record)
        numbered = [(tag, int(number)) for tag, number in _NUMBERED.findall(text)]
        if numbered and "".join(f" {tag}.{number}" for tag, number in numbered) == text:
            return "numbered", [*found, *_of_the_numbers(record, numbered)]
        if reference is not None:
            return "reference", [*found, *_against(record, text, reference)]
    counted = usage_of(record).get("completion_tokens")
    spoken = len(token_times(record)[0])
    if counted is not None and spoken > int(counted):
        found.append(_defect("duplicate", record.request_id, f"{spoken} pieces of text for {counted} counted tokens"))
    return ("counted" if counted is not None else "none"), found


def _of_the_numbers(record: Record, numbered: list[tuple[str, int]]) -> Iterator[Defect]:
    own, expected = record.request_id.replace(".", "_"), 0
    for tag, number in numbered:
        if tag != own:
            yield _defect("foreign", record.request_id, f"token {expected} is {tag}'s number {number}")
            expected += 1
        elif number < expected:
            yield _defect("duplicate", record.request_id, f"token {number} again")
        else:
            if number > expected:
                yield _defect("missing", record.request_id, f"tokens {expected} to {number - 1}")
            expected = number + 1
    counted = int(usage_of(record).get("completion_tokens", 0))
    if record.outcome == OK and expected < counted:
        yield _defect("missing", record.request_id, f"tokens {expected} to {counted - 1}")


def _against(record: Record, text: str, reference: str) -> Iterator[Defect]:
    if text == reference or (record.outcome != OK and reference.startswith(text)):
        return
    same = next((index for index, pair in enumerate(zip(text, reference, strict=False)) if pair[0] != pair[1]), None)
    at = min(len(text), len(reference)) if same is None else same
    if reference.startswith(text):
        yield _defect("missing", record.request_id, f"its text ends at character {at} of {len(reference)}")
    elif _resumed_early(text, reference, at):
        yield _defect("duplicate", record.request_id, f"text before character {at} is repeated there")
    elif len(text) < len(reference) and reference.endswith(text[at:]):
        yield _defect("missing", record.request_id, f"{len(reference) - len(text)} characters at character {at}")
    else:
        yield _defect("altered", record.request_id, f"from character {at}")


def _resumed_early(text: str, reference: str, at: int) -> bool:
    return (len(text) > len(reference) and reference.endswith(text[at:][-len(reference) :])) or text[at:] in text[:at]


def _text(record: Record) -> str:
    return "".join(reasoning + answer for answer, reasoning in texts_of(record.body))


def _defect(rule: str, request_id: str, sentence: str) -> Defect:
    return Defect(rule=rule, request_id=request_id, sentence=sentence)

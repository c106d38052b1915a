"""Context: does the window hold what was promised, and is what passes it refused before an engine sees it?

Lengths are counted in the model's own tokens: with its tokenizer, plus what the chat template adds, which one short
request tells (the server's count less ours).
"""

from collections.abc import Callable
from pathlib import Path

from benchmarks.load import Arrivals, Lengths, Load, Target, Workload
from benchmarks.metrics import usage_of
from benchmarks.record import OK, Record
from benchmarks.result import Criterion, SuiteResult
from benchmarks.running import Runner
from benchmarks.suites.outcome import Logbook

QUESTION = "Does the whole window work, and is a request beyond it refused by the gateway?"
SHARES = (0.10, 0.50, 0.99, 1.01)
ANSWER_TOKENS = 4
PROBE_TOKENS = 64
INSIDE_SLACK_TOKENS = 3  # cutting text inside a word can leave a prompt this much short


def context(
    run: Runner,
    target: Target,
    *,
    max_input_tokens: int,
    window_tokens: int,
    tokenizer: Path | None,
    seen_by_engine: Callable[[str], bool] | None = None,
) -> SuiteResult:
    """Prompts of 10, 50, 99, 101 % of `max_input_tokens`, and prompt + max_tokens just under and over the window."""
    book = Logbook(suite="context", question=QUESTION)
    if tokenizer is None:
        book.notes.append("no tokenizer was given: prompt lengths are estimates and the edges are not exact")
    if seen_by_engine is None:
        book.notes.append("no engine log was given: that refused requests never reached an engine was not checked")

    def send(name: str, prompt_tokens: int, output_tokens: int) -> Record:
        load = Load(
            name=f"context-{name}",
            target=target,
            arrivals=Arrivals(kind="constant", rate_per_second=1, duration_seconds=0.5),
            workload=Workload(
                prompt=Lengths(mean_tokens=prompt_tokens),
                output=Lengths(mean_tokens=output_tokens),
                tokenizer=tokenizer,
            ),
        )
        return book.add(run(load)).records[0]

    probe = send("probe", PROBE_TOKENS, ANSWER_TOKENS)
    added = int(usage_of(probe).get("prompt_tokens", PROBE_TOKENS)) - PROBE_TOKENS if probe.outcome == OK else 0
    criteria = [_accepted(probe, f"a prompt of {PROBE_TOKENS} tokens")]
    for share in SHARES:
        tokens = round(max_input_tokens * share)
        record = send(f"{share:.0%}".rstrip("%"), max(1, tokens - added), ANSWER_TOKENS)
        what = f"a prompt of {tokens} tokens ({share:.0%} of max_input_tokens)"
        criteria += [_accepted(record, what)] if share < 1 else _refused(record, what, seen_by_engine)
    half = window_tokens // 2
    under = send("window-under", max(1, half - added), window_tokens - half - INSIDE_SLACK_TOKENS)
    criteria.append(_accepted(under, f"prompt and max_tokens just under the window of {window_tokens}"))
    over = send("window-over", max(1, half - added), window_tokens - half + INSIDE_SLACK_TOKENS)
    criteria += _refused(over, f"prompt and max_tokens just over the window of {window_tokens}", seen_by_engine)
    return book.result(criteria)


def _accepted(record: Record, what: str) -> Criterion:
    counted = usage_of(record).get("prompt_tokens", "unknown")
    seen = (
        f"answered, {counted} prompt tokens counted"
        if record.outcome == OK
        else f"{record.outcome}: {record.detail[:160]}"
    )
    return Criterion(name=what, agreed="answered", seen=seen, passed=record.outcome == OK)


def _refused(record: Record, what: str, seen_by_engine: Callable[[str], bool] | None) -> list[Criterion]:
    refused = record.status == 400  # noqa: PLR2004  HTTP Bad Request
    seen = f"HTTP {record.status} ({record.outcome}) {record.detail[:160]}".strip()
    found = [Criterion(name=what, agreed="refused with HTTP 400", seen=seen, passed=refused)]
    if seen_by_engine is not None:
        reached = seen_by_engine(record.request_id)
        place = "found" if reached else "absent"
        found.append(
            Criterion(name=f"{what}: request id in the engines' logs", agreed="absent", seen=place, passed=not reached)
        )
    return found

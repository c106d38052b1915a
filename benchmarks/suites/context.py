"""Context: does the window hold what was promised, and is what passes it refused before an engine sees it?

Lengths are counted in the model's own tokens: with its tokenizer, plus what the chat template adds, which one short
request tells (the server's count less ours). That a refused request's id is absent from the engines' logs proves
something only if the ids of accepted ones are in them, so that is asked first.
"""

import time
from pathlib import Path

from benchmarks.load import Arrivals, Lengths, Load, Target, Workload
from benchmarks.metrics import usage_of
from benchmarks.probes import EngineLogContains
from benchmarks.record import OK, Record
from benchmarks.result import Criterion, SuiteResult
from benchmarks.running import Runner
from benchmarks.suites.outcome import Logbook
from benchmarks.validity import Capacity

QUESTION = "Does the whole window work, and is a request beyond it refused by the gateway?"
SHARES = (0.10, 0.50, 0.99, 1.01)
ANSWER_TOKENS = 4
PROBE_TOKENS = 64
INSIDE_SLACK_TOKENS = 3  # cutting text inside a word can leave a prompt this much short
TEMPERATURE = 1.0  # a model that repeats itself is cut off by the gateway, and that is another matter
LOG_SECONDS = 2.0  # until a log holds what happened; vLLM writes at once, journals within a second


def context(
    run: Runner,
    target: Target,
    *,
    max_input_tokens: int,
    window_tokens: int,
    tokenizer: Path | None,
    engine_log_contains: EngineLogContains | None = None,
    log_seconds: float = LOG_SECONDS,
    capacity: Capacity | None = None,
) -> SuiteResult:
    """Prompts of 10, 50, 99, 101 % of `max_input_tokens`, and prompt + max_tokens just under and over the window."""
    book = Logbook(suite="context", question=QUESTION, capacity=capacity, timed=False)
    if tokenizer is None:
        book.notes.append("no tokenizer was given: prompt lengths are estimates and the edges are not exact")
    if engine_log_contains is None:
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
                temperature=TEMPERATURE,
            ),
        )
        return book.add(run(load)).records[0]

    probe = send("probe", PROBE_TOKENS, ANSWER_TOKENS)
    added = _counted(probe) - probe.prompt_tokens if _counted(probe) else 0
    accepted = {f"a prompt of {PROBE_TOKENS} tokens": probe}
    refused: dict[str, Record] = {}
    wanted: list[tuple[Record, int]] = []
    for share in SHARES:
        tokens = round(max_input_tokens * share)
        record = send(f"{share:.0%}".rstrip("%"), max(1, tokens - added), ANSWER_TOKENS)
        (accepted if share < 1 else refused)[f"a prompt of {tokens} tokens ({share:.0%} of max_input_tokens)"] = record
        wanted.append((record, tokens))
    half = window_tokens // 2
    within = window_tokens - half - INSIDE_SLACK_TOKENS
    under = send("window-under", max(1, half - added), within)
    over = send("window-over", max(1, half - added), window_tokens - half + INSIDE_SLACK_TOKENS)
    accepted[f"prompt and max_tokens just under the window of {window_tokens}"] = under
    refused[f"prompt and max_tokens just over the window of {window_tokens}"] = over
    criteria = [_accepted(record, what) for what, record in accepted.items()]
    if tokenizer is not None:
        criteria.append(_as_long_as_meant([*wanted, (under, half)]))
    criteria += [_refused(record, what) for what, record in refused.items()]
    if engine_log_contains is not None:
        time.sleep(log_seconds)
        criteria += _in_the_logs(engine_log_contains, accepted, refused)
    return book.result(criteria)


def _counted(record: Record) -> int:
    """The server's count of the prompt; 0 where it gave none."""
    return int(usage_of(record).get("prompt_tokens", 0)) if record.outcome == OK else 0


def _accepted(record: Record, what: str) -> Criterion:
    seen = (
        f"answered, {_counted(record) or 'unknown'} prompt tokens counted"
        if record.outcome == OK
        else f"{record.outcome}: {record.detail[:160]}"
    )
    return Criterion(name=what, agreed="answered", seen=seen, passed=record.outcome == OK)


def _as_long_as_meant(wanted: list[tuple[Record, int]]) -> Criterion:
    counted = [(tokens, _counted(record)) for record, tokens in wanted if _counted(record)]
    return Criterion(
        name="prompts are as long as meant, by the server's count",
        agreed=f"at most {INSIDE_SLACK_TOKENS} tokens shorter, none longer",
        seen=", ".join(f"{found} for {meant}" for meant, found in counted) or "nothing was counted",
        passed=bool(counted) and all(0 <= meant - found <= INSIDE_SLACK_TOKENS for meant, found in counted),
    )


def _refused(record: Record, what: str) -> Criterion:
    seen = f"HTTP {record.status} ({record.outcome}) {record.detail[:160]}".strip()
    return Criterion(
        name=what,
        agreed="refused with HTTP 400",
        seen=seen,
        passed=record.status == 400,  # noqa: PLR2004  HTTP Bad Request
    )


def _in_the_logs(
    contains: EngineLogContains, accepted: dict[str, Record], refused: dict[str, Record]
) -> list[Criterion]:
    answered = [record.request_id for record in accepted.values() if record.outcome == OK]
    logged = sum(contains(request_id) for request_id in answered)
    found = [
        Criterion(
            name="accepted requests: request ids in the engines' logs",
            agreed="all found",
            seen=f"{logged} of {len(answered)} found",
            passed=bool(answered) and logged == len(answered),
        )
    ]
    for what, record in refused.items():
        reached = contains(record.request_id)
        seen = "found" if reached else "absent" if logged else "absent, but so are those of accepted requests"
        name = f"{what}: request id in the engines' logs"
        found.append(Criterion(name=name, agreed="absent", seen=seen, passed=not reached and logged > 0))
    return found

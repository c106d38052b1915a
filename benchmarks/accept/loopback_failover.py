"""Loopback failover: the part of the failover suite that breaks nothing of the site. The appliance's relay, and its
LiteLLM where that is at hand, run on the load machine before fault engines that break on command, in kinds and numbers
that real engines cannot be asked for; LiteLLM with its defaults runs beside, in the same run and under the same load.
"""

import os
from collections.abc import Callable
from math import ceil
from pathlib import Path

from benchmarks.failover import loopback
from benchmarks.failover.arrangements import Arrangement, side_by_side
from benchmarks.failover.faults import TOLD, Trial
from benchmarks.failover.litellm_program import litellm_program
from benchmarks.load import Lengths, Workload
from benchmarks.result import SuiteResult
from benchmarks.running import inline_runner
from benchmarks.suites.failover import Conditions
from benchmarks.validity import Capacity
from sizing.acceptance_criteria import FailoverCriteria

SUBJECT = "the load machine"
QUESTION = "What do clients see while engines and relays break in every way that can be staged, and what without us?"
ENGINES = 2
RATE_PER_SECOND, SECONDS, INJECT_AT_SECONDS, HEAL_AT_SECONDS = 18.0, 20.0, 5.0, 15.0
PACE = {"itl_ms": 50.0, "tokens_per_chunk": 5}  # 3 s an answer: about fifty run when it breaks
PROMPT_TOKENS, OUTPUT_TOKENS, SPREAD_RATIO = 64, 60, 0.3
STALL_SECONDS = 2.0
SPARE_RATIO = 1.2  # arrivals are random, and the same in every run: this much more than asked for


def loopback_failover(
    directory: Path, agreed: FailoverCriteria, *, capacity: Capacity | None, tell: Callable[[str], None]
) -> SuiteResult:
    """Both arrangements, every fault."""
    key = os.environ[loopback.KEY_VARIABLE] = loopback.fresh_key()
    program = litellm_program(tell)
    repeats = repeats_for(agreed.new_requests_count)
    with loopback.fault_engines(ENGINES, key=key, pace=PACE) as engines:
        result = side_by_side(
            inline_runner(directory),
            directory / "processes",
            Arrangement(
                model=loopback.FAULT_MODEL,
                max_model_len=loopback.FAULT_MODEL_LEN,
                key=key,
                engines=engines,
                litellm=program,
                trial=Trial(stall_seconds=STALL_SECONDS, repeats=repeats),
                whole_gateway=program is not None,
            ),
            conditions_of(agreed),
            capacity=capacity,
            tell=tell,
        )
    way = "LiteLLM with the role's settings and the relay" if program else "the relay alone, without LiteLLM"
    condition = (
        f"{way} before {ENGINES} fault engines of this machine, {RATE_PER_SECOND:g} requests/s, answers of about "
        f"{OUTPUT_TOKENS} tokens at {PACE['itl_ms']:g} ms each, {PACE['tokens_per_chunk']} a chunk, broken from second "
        f"{INJECT_AT_SECONDS:g} to {HEAL_AT_SECONDS:g}, stall timer {STALL_SECONDS:g} s"
    )
    return result.model_copy(
        update={"subject": SUBJECT, "question": QUESTION, "notes": (f"conditions: {condition}", *result.notes)}
    )


def conditions_of(agreed: FailoverCriteria) -> Conditions:
    """Mixed languages, one answer of five in one piece."""
    return Conditions(
        workload=Workload(
            language="mixed",
            prompt=Lengths(mean_tokens=PROMPT_TOKENS, spread_ratio=SPREAD_RATIO),
            output=Lengths(mean_tokens=OUTPUT_TOKENS, spread_ratio=SPREAD_RATIO),
            unstreamed_ratio=0.2,
        ),
        rate_per_second=RATE_PER_SECOND,
        seconds=SECONDS,
        inject_at_seconds=INJECT_AT_SECONDS,
        heal_at_seconds=HEAL_AT_SECONDS,
        allowed_failed_ratio=agreed.allowed_failed_ratio,
        agreed_recovery_seconds=agreed.recovery_seconds,
        agreed_new_requests=agreed.new_requests_count,
    )


def repeats_for(new_requests: int) -> int:
    """Runs of each fault, so that together they make that many new requests."""
    kinds = len(TOLD) + 3  # engine killed, engine frozen, relay killed
    return ceil(SPARE_RATIO * new_requests / (kinds * RATE_PER_SECOND * (HEAL_AT_SECONDS - INJECT_AT_SECONDS)))

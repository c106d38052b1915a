"""The checklist is judged by what a run left behind: clients, journals, spend log. The run here is written by hand."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from benchmarks.accept.budget import BudgetSeen
from benchmarks.accept.calls import Call
from benchmarks.accept.evidence import Seen, judge_items
from benchmarks.accept.witness import Journal
from benchmarks.acceptance import CHECKLIST
from benchmarks.result import Criterion, FaultResult, SuiteResult
from sizing.observation import AuditRow, SpendObservation, SpendRow
from sizing.plan import Plan
from tests.fakes.lab_site import GEMMA, QWEN, plan_content

GATEWAY = "http://10.77.0.11:4000/v1"
KEY, BUDGET_KEY = "a" * 64, "b" * 64
INPUT_PRICE, OUTPUT_PRICE = 0.000001, 0.000002


def call(identity: str, model: str, **changes: Any) -> Call:
    parts: dict[str, Any] = {
        "request_id": identity,
        "model": model,
        "base_url": GATEWAY,
        "key_hash": KEY,
        "status": 200,
        "outcome": "ok",
        "prompt_tokens": 10,
        "completion_tokens": 5,
    }
    return Call.model_validate(parts | changes)


def row(identity: str, model: str, deployment: str | None, **changes: Any) -> SpendRow:
    parts: dict[str, Any] = {
        "request_id": f"chatcmpl-{identity}-0a1b2c3d",
        "call_id": identity,
        "model": model,
        "key_hash": KEY,
        "deployment_id": deployment,
        "status": "success",
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "spend": 0.00002,  # 10 * 0.000001 + 5 * 0.000002
    }
    return SpendRow.model_validate(parts | changes)


def suite(name: str, *, passed: bool = True, criterion: str = "requests that failed", **more: Any) -> SuiteResult:
    parts: dict[str, Any] = {
        "suite": name,
        "subject": QWEN,
        "question": "?",
        "verdict": "passed" if passed else "failed",
        "started_at": "2026-11-21T09:00:00+00:00",
        "duration_seconds": 1.0,
        "criteria": (Criterion(name=criterion, agreed="at most 50 ms", seen="12.3 ms", passed=passed),),
    }
    return SuiteResult.model_validate(parts | more)


def plan(*, fallback: bool = True) -> Plan:
    content = plan_content()
    for model in content["models"]:
        model |= {"input_cost_per_token": INPUT_PRICE, "output_cost_per_token": OUTPUT_PRICE}
    content["models"][0]["fallbacks"] = [GEMMA] if fallback else []
    return Plan.parse(content, origin="test")


def seen(**changes: Any) -> Seen:
    """Three answers, one refusal, a fallback and a spent budget: everything as it should be."""
    budget_calls = [
        call("b-1", QWEN, key_hash=BUDGET_KEY),
        call("b-2", QWEN, key_hash=BUDGET_KEY),
        call("b-3", QWEN, key_hash=BUDGET_KEY, status=422, outcome="budget_exceeded", prompt_tokens=None),
    ]
    refused = call("r-9-0", QWEN, status=400, outcome="rejected", prompt_tokens=None, completion_tokens=None)
    calls = [call("r-1-0", QWEN), call("r-2-0", QWEN), call("r-3-0", GEMMA), call("f-1-0", QWEN), refused]
    straight = call("e-1-0", QWEN, base_url="http://10.77.0.12:8001/v1", key_hash="c" * 64)
    fault = FaultResult(
        name="stopped", injected_seconds=8, requests=1, failed=0, duplicated=0, lost_or_altered=0, recovery_seconds=0
    )
    exercised = suite("fallback", faults=(fault,))
    parts: dict[str, Any] = {
        "plan": plan(),
        "gateway_url": GATEWAY,
        "calls": [*calls, straight, *budget_calls],
        "journals": {
            "h2": {QWEN: Journal(request_ids=("r-1-0-00000001", "e-1-0", "b-1-00000007", "b-2-00000008"))},
            "h3": {
                QWEN: Journal(request_ids=("r-2-0-00000002",)),
                GEMMA: Journal(request_ids=("r-3-0-00000003", "f-1-0-00000004-leg2")),
            },
        },
        "spend": SpendObservation(
            rows=(
                row("r-1-0", QWEN, f"h2-{QWEN}"),
                row("r-2-0", QWEN, f"h3-{QWEN}"),
                row("r-3-0", GEMMA, f"{GEMMA}-relay"),
                row("f-1-0", GEMMA, f"{GEMMA}-relay"),
                row("r-9-0", QWEN, None, status="failure", prompt_tokens=0, completion_tokens=0, spend=0),
                row("b-1", QWEN, f"h2-{QWEN}", key_hash=BUDGET_KEY),
                row("b-2", QWEN, f"h2-{QWEN}", key_hash=BUDGET_KEY),
                row("own", QWEN, None, key_hash=BUDGET_KEY, status="failure", spend=0),
            ),
            key_spend={KEY: 0.00008, BUDGET_KEY: 0.00004},
        ),
        "suites": (suite("gateway_overhead", criterion="added TTFT p50, upper end of its interval"), exercised),
        "fallbacks": (exercised,),
        "budget": BudgetSeen(model=QWEN, budget=0.00003, price_of_one=0.00002, calls=tuple(budget_calls)),
    }
    return Seen(**(parts | changes))


def without(base: Seen, identity: str) -> Seen:
    """The same run with one row of the spend log gone."""
    assert base.spend is not None
    rows = tuple(one for one in base.spend.rows if one.call_id != identity)
    return replace(base, spend=base.spend.model_copy(update={"rows": rows}))


def rebooked(base: Seen, identity: str, **changes: Any) -> Seen:
    assert base.spend is not None
    rows = tuple(one.model_copy(update=changes) if one.call_id == identity else one for one in base.spend.rows)
    return replace(base, spend=base.spend.model_copy(update={"rows": rows}))


def test_a_run_in_which_everything_held_passes_all_eight_items() -> None:
    judged = judge_items(seen())

    assert {"passed"} == {status for status, _ in judged.values()}, judged
    assert set(CHECKLIST) == set(judged)
    assert "6 answers, 90 tokens" in judged["cost_accounting"][1]
    assert "2 chats answered for 4e-05, then 1 refused with HTTP 422 budget_exceeded" in judged["budget_limit"][1]
    assert f"{GEMMA} gave 1 answers, 0 of 1 requests failed" in judged["fallback"][1]


@pytest.mark.parametrize(
    ("item", "spoil", "words"),
    [
        ("single_endpoint", lambda s: replace(s, calls=[one for one in s.calls if one.model == QWEN]), GEMMA),
        ("routing", lambda s: replace(s, plan=plan(fallback=False)), f"f-1-0 to {QWEN} was served by h3/{GEMMA}"),
        ("routing", lambda s: replace(s, journals={"h2": s.journals["h2"]}), "stands in no engine's journal"),
        ("routing", lambda s: rebooked(s, "r-1-0", deployment_id=f"h3-{QWEN}"), "r-1-0 is booked on"),
        ("cost_accounting", lambda s: rebooked(s, "r-1-0", completion_tokens=6), "booked 10 + 6 tokens"),
        ("cost_accounting", lambda s: rebooked(s, "r-1-0", spend=0.000021), "booked 2.1e-05"),
        ("cost_accounting", lambda s: rebooked(s, "r-9-0", spend=0.00001), "was told no usage"),
        ("cost_accounting", lambda s: without(s, "r-3-0"), "r-3-0 has 0 rows"),
        ("audit_trail", lambda s: without(s, "r-9-0"), "1 calls of key aaaaaaaa were refused, 0 are booked"),
        ("audit_trail", lambda s: rebooked(s, "r-2-0", key_hash=BUDGET_KEY), "r-2-0 is not under its key"),
        ("engines_behind_gateway", lambda s: replace(s, journals={}), "r-1-0 stands in no engine's journal"),
    ],
)
def test_each_deviation_fails_its_item_and_is_named(item: str, spoil: Callable[[Seen], Seen], words: str) -> None:
    status, evidence = judge_items(spoil(seen()))[item]

    assert "failed" == status
    assert words in evidence


def test_where_a_site_has_an_audit_it_is_the_trail_and_a_request_that_is_not_in_it_is_named() -> None:
    base = seen()
    assert base.spend is not None
    rows = tuple(
        AuditRow(call_id=one.call_id, key_hash=one.key_hash, model=one.model, result="completed", status=200)
        for one in base.spend.rows
    )
    whole = replace(base, spend=base.spend.model_copy(update={"audit": rows}))
    torn = replace(base, spend=base.spend.model_copy(update={"audit": rows[1:]}))

    assert ("passed", "failed") == (judge_items(whole)["audit_trail"][0], judge_items(torn)["audit_trail"][0])
    assert "stands in the audit under" in judge_items(whole)["audit_trail"][1]
    assert "r-1-0 is not under its key" in judge_items(torn)["audit_trail"][1]


def test_the_sum_of_a_key_must_be_the_sum_of_its_calls() -> None:
    base = seen()
    assert base.spend is not None
    spend = base.spend.model_copy(update={"key_spend": {KEY: 0.00008, BUDGET_KEY: 0.00006}})

    status, evidence = judge_items(replace(base, spend=spend))["cost_accounting"]

    assert "failed" == status
    assert "key bbbbbbbb: spend 6e-05, its calls make 4e-05" in evidence


def test_a_key_that_goes_on_being_answered_after_its_budget_fails() -> None:
    calls = tuple(call(f"b-{number}", QWEN, key_hash=BUDGET_KEY) for number in range(4))
    budget = BudgetSeen(model=QWEN, budget=0.00003, price_of_one=0.00002, calls=calls)

    status, evidence = judge_items(seen(budget=budget))["budget_limit"]

    assert "failed" == status
    assert "2 were answered after the budget was spent" in evidence


def test_another_refusal_is_no_budget_limit() -> None:
    first = call("b-1", QWEN, key_hash=BUDGET_KEY)
    other = call("b-2", QWEN, key_hash=BUDGET_KEY, status=500, outcome="HTTP 500")
    budget = BudgetSeen(model=QWEN, budget=0.00003, price_of_one=0.00002, calls=(first, other))

    assert "failed" == judge_items(seen(budget=budget))["budget_limit"][0]


def test_a_fallback_that_clients_noticed_fails() -> None:
    noticed = suite("fallback", passed=False)

    status, evidence = judge_items(seen(fallbacks=(noticed,)))["fallback"]

    assert "failed" == status
    assert "requests that failed" in evidence


@pytest.mark.parametrize(
    ("item", "changes"),
    [
        ("fallback", {"fallbacks": None}),
        ("fallback", {"plan": plan(fallback=False)}),
        ("cost_accounting", {"spend": None}),
        ("cost_accounting", {"spend": SpendObservation(error="psql: connection refused")}),
        ("audit_trail", {"spend": None}),
        ("budget_limit", {"budget": None}),
        ("added_latency", {"suites": ()}),
        ("added_latency", {"suites": (suite("gateway_overhead", verdict="invalid", objections=("late",)),)}),
        ("added_latency", {"suites": (suite("gateway_overhead"),)}),
    ],
)
def test_what_could_not_be_looked_at_is_not_available(item: str, changes: dict[str, Any]) -> None:
    assert "not available" == judge_items(seen(**changes))[item][0]


def test_latency_beyond_the_agreed_bound_fails() -> None:
    over = suite("gateway_overhead", passed=False, criterion="added TTFT p50, upper end of its interval")

    status, evidence = judge_items(seen(suites=(over,)))["added_latency"]

    assert "failed" == status
    assert "12.3 ms (agreed: at most 50 ms)" in evidence

"""Judging the spend: every answered call is in PostgreSQL with the tokens its client saw, the key has their sum."""

import math
from collections.abc import Iterator
from http import HTTPStatus

from sizing.observation import ACCEPTED_KINDS, CallObservation, Observation, SpendObservation, SpendRow
from sizing.plan import Plan, PlannedModel
from sizing.report import Check
from sizing.verdicts import compare

RELATIVE_TOLERANCE = 1e-9
"""Prices are doubles and are added in another order by LiteLLM; a token more or less is far above this."""

ADVICE = (
    "`journalctl -u litellm | grep -i spend` on the gateway host; LiteLLM writes its log in batches "
    "(proxy_batch_write_at), so a gateway under heavy load may need a second run. A wrong price is from another plan: "
    "run site.yml"
)


def judge_spend(plan: Plan, observation: Observation) -> Iterator[Check]:
    """The checks of every model's answered calls, then of every key."""
    if not any(_answered_calls(observation, model) for model in plan.models):
        return
    spend = observation.spend
    if spend is None or spend.error:
        yield compare(
            "spend.readable",
            "PostgreSQL",
            "the spend log can be read",
            expected="rows",
            seen=spend.error if spend else "PostgreSQL was not asked",
            holds=False,
            advice="on the PostgreSQL host: `systemctl status postgresql`; then run verify again",
        )
        return
    if spend.audit is not None:
        yield compare(
            "audit.watched",
            "PostgreSQL",
            "every change of keys, teams and budgets is recorded",
            expected="a trigger on every table",
            seen=f"none on {', '.join(spend.unwatched)}" if spend.unwatched else "a trigger on every table",
            holds=not spend.unwatched,
            advice="run site.yml --tags audit; `appliance-audit changes --object <table>` says what was done to it",
        )
    for model in plan.models:
        calls = _answered_calls(observation, model)
        if calls:
            yield _calls_are_booked(model, calls, spend)
    for host, gateway in observation.gateways.items():
        if gateway.key_hash:
            yield _key_has_the_sum(plan, host, gateway.key_hash, gateway.calls, spend)


def _calls_are_booked(model: PlannedModel, calls: list[CallObservation], spend: SpendObservation) -> Check:
    wrong = [text for call in calls if (text := _deviation(model, call, spend))]
    tokens_count = sum((call.prompt_tokens or 0) + (call.completion_tokens or 0) for call in calls)
    price = math.fsum(_price(model, call) for call in calls)
    return compare(
        "spend.calls",
        model.name,
        "PostgreSQL holds the answered calls with the tokens that the client saw",
        expected=f"{len(calls)} calls, {tokens_count:,} tokens, {_money(price)}",
        seen="; ".join(wrong) or f"{len(calls)} calls, {tokens_count:,} tokens, {_money(price)}",
        holds=not wrong,
        advice=ADVICE,
    )


def _deviation(model: PlannedModel, call: CallObservation, spend: SpendObservation) -> str:
    """What is wrong with the row of one call, or nothing."""
    rows = [row for row in spend.rows if _is_row_of(row, call)]
    if len(rows) != 1:
        return f"{call.kind}: {len(rows)} rows after {spend.waited_seconds:.0f} s"
    row = rows[0]
    if (row.prompt_tokens, row.completion_tokens) != (call.prompt_tokens, call.completion_tokens):
        return (
            f"{call.kind}: the row says {row.prompt_tokens} + {row.completion_tokens} tokens, "
            f"the client saw {call.prompt_tokens} + {call.completion_tokens}"
        )
    price = _price(model, call)
    if not math.isclose(row.spend, price, rel_tol=RELATIVE_TOLERANCE):
        return f"{call.kind}: the row says {_money(row.spend)}, the plan's prices make {_money(price)}"
    return ""


def _key_has_the_sum(
    plan: Plan, host: str, key_hash: str, calls: tuple[CallObservation, ...], spend: SpendObservation
) -> Check:
    prices = {model.name: model for model in plan.models}
    expected = math.fsum(
        _price(prices[call.model], call) for call in calls if _is_answered(call) and call.model in prices
    )
    seen = spend.key_spend.get(key_hash)
    return compare(
        "spend.key",
        f"key of verify at {host}",
        "the key's spend is the sum of its calls",
        expected=_money(expected),
        seen="the key is not in PostgreSQL" if seen is None else _money(seen),
        holds=seen is not None and math.isclose(seen, expected, rel_tol=RELATIVE_TOLERANCE),
        advice=ADVICE,
    )


def _answered_calls(observation: Observation, model: PlannedModel) -> list[CallObservation]:
    return [
        call
        for gateway in observation.gateways.values()
        for call in gateway.calls
        if call.model == model.name and _is_answered(call)
    ]


def _is_answered(call: CallObservation) -> bool:
    return call.kind in ACCEPTED_KINDS and call.status == HTTPStatus.OK


def _is_row_of(row: SpendRow, call: CallObservation) -> bool:
    return call.request_id == row.call_id or (call.response_id is not None and call.response_id == row.request_id)


def _price(model: PlannedModel, call: CallObservation) -> float:
    return (call.prompt_tokens or 0) * model.input_cost_per_token + (
        call.completion_tokens or 0
    ) * model.output_cost_per_token


def _money(amount: float) -> str:
    return f"{amount:.9f}".rstrip("0").rstrip(".") or "0"

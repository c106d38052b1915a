"""Evidence: the eight items of the checklist, each judged by what this very run left behind - what clients saw, what
the engines' journals hold, what PostgreSQL holds. What could not be looked at is `not available` and never passes.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from benchmarks.accept.budget import BudgetSeen, price_of
from benchmarks.accept.calls import Call
from benchmarks.accept.witness import Journal
from benchmarks.acceptance import ItemStatus
from benchmarks.result import SuiteResult
from sizing.observation import AuditRow, SpendObservation, SpendRow
from sizing.plan import Plan, PlannedModel

Judged = tuple[ItemStatus, str]
RELATIVE_TOLERANCE = 1e-9
"""Prices are doubles and are added in another order by LiteLLM; a token more or less is far above this."""
NAMED = 3
"""So many deviations are named, the rest is counted."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """Everything that the run left behind. `spend` is None where PostgreSQL was not asked."""

    plan: Plan
    gateway_url: str
    calls: Sequence[Call]
    journals: Mapping[str, Mapping[str, Journal]]
    spend: SpendObservation | None
    suites: Sequence[SuiteResult]
    fallbacks: Sequence[SuiteResult] | None  # None = not exercised
    budget: BudgetSeen | None

    @cached_property
    def through_gateway(self) -> list[Call]:
        return [call for call in self.calls if call.base_url == self.gateway_url]

    @cached_property
    def answered(self) -> list[Call]:
        return [call for call in self.through_gateway if call.answered]

    @cached_property
    def rows(self) -> dict[str, list[SpendRow]]:
        """Rows of the spend log by the id that the client gave."""
        found: dict[str, list[SpendRow]] = {}
        for row in self.spend.rows if self.spend else ():
            found.setdefault(row.call_id or row.request_id, []).append(row)
        return found

    @cached_property
    def trail(self) -> tuple[str, list[AuditRow]]:
        """Who called: the audit where the site has one, else LiteLLM's spend log."""
        if self.spend is None:
            return "nothing", []
        if self.spend.audit is not None:
            return "the audit", list(self.spend.audit)
        return "the spend log", [
            AuditRow(
                call_id=row.call_id or row.request_id, key_hash=row.key_hash, model=row.model, result=row.status or ""
            )
            for row in self.spend.rows
        ]

    @cached_property
    def engines(self) -> dict[str, set[str]]:
        """Names (host/engine) of the engines that logged a request, by the id that the client gave."""
        found: dict[str, set[str]] = {}
        for host, journals in self.journals.items():
            for engine, journal in journals.items():
                for call_id in journal.call_ids:
                    found.setdefault(call_id, set()).add(f"{host}/{engine}")
        return found

    @cached_property
    def models(self) -> dict[str, PlannedModel]:
        return {model.name: model for model in self.plan.models}

    @cached_property
    def model_of_engine(self) -> dict[str, str]:
        """Which model an engine (host/engine) serves."""
        return {f"{host}/{engine.name}": engine.model for host, engine in self.plan.engines()}

    def answered_by(self, call: Call) -> str:
        """The model whose engine answered, by the journals; the asked one where they do not say."""
        served = {self.model_of_engine.get(engine, "") for engine in self.engines.get(call.request_id, ())}
        return served.pop() if len(served) == 1 else call.model


def judge_items(seen: Seen) -> dict[str, Judged]:
    """Every item; `acceptance.checklist` puts them in order."""
    return {
        "single_endpoint": _single_endpoint(seen),
        "routing": _routing(seen),
        "fallback": _fallback(seen),
        "cost_accounting": _cost_accounting(seen),
        "budget_limit": _budget_limit(seen),
        "audit_trail": _audit_trail(seen),
        "engines_behind_gateway": _engines_behind_gateway(seen),
        "added_latency": _added_latency(seen),
    }


def _single_endpoint(seen: Seen) -> Judged:
    counts = Counter(call.model for call in seen.answered)
    silent = [name for name, model in seen.models.items() if model.task == "chat" and not counts[name]]
    if silent:
        return "failed", f"{seen.gateway_url} gave no whole answer for {', '.join(silent)}"
    told = ", ".join(f"{name} ({counts[name]:,} answers)" for name in seen.models)
    return "passed", f"{seen.gateway_url} answered for {told}"


def _routing(seen: Seen) -> Judged:
    if not seen.answered:
        return "failed", "nothing was answered"
    wrong: list[str] = []
    used: Counter[str] = Counter()
    for call in seen.answered:
        allowed = {call.model, *seen.models[call.model].fallbacks}
        engines = seen.engines.get(call.request_id, set())
        if not engines:
            wrong.append(f"{call.request_id} stands in no engine's journal")
        wrong += [
            f"{call.request_id} to {call.model} was served by {engine}"
            for engine in sorted(engines)
            if seen.model_of_engine.get(engine) not in allowed
        ]
        booked = {row.deployment_id for row in seen.rows.get(call.request_id, ())}
        for model in seen.plan.models:
            for deployment in model.deployments:
                name = f"{deployment.host}/{deployment.engine}"
                used[deployment.id] += name in engines
                if deployment.id in booked and engines and name not in engines:
                    wrong.append(f"{call.request_id} is booked on {deployment.id} and was served by {sorted(engines)}")
    chats = [model for model in seen.plan.models if model.task == "chat"]
    idle = [deployment.id for model in chats for deployment in model.deployments if not used[deployment.id]]
    wrong += [f"{name} served nothing" for name in idle]
    told = ", ".join(f"{count:,} by {name}" for name, count in used.items())
    if wrong:
        return "failed", _several(wrong)
    strategy = seen.plan.gateway.routing.strategy
    return "passed", (
        f"each of {len(seen.answered):,} answers came from an engine of its model or of the declared fallback, by the "
        f"engines' journals: {told} ({strategy})"
    )


def _fallback(seen: Seen) -> Judged:
    declared = [model for model in seen.plan.models if model.fallbacks]
    if not declared:
        return "not available", "no model declares a fallback"
    if seen.fallbacks is None:
        return "not available", "not exercised: it stops engines, so it runs only with --disturb"
    told, failed = [], []
    for suite in seen.fallbacks:
        model = seen.models[suite.subject]
        fault = suite.faults[0] if suite.faults else None
        calls = [call for call in seen.answered if call.model == model.name and seen.answered_by(call) != model.name]
        by = Counter(seen.answered_by(call) for call in calls)
        if suite.verdict != "passed" or fault is None:
            missed = [f"{one.name}: {one.seen}" for one in suite.criteria if not one.passed] or list(suite.objections)
            failed.append(f"{model.name}: {_several(missed)}")
        elif not by:
            failed.append(f"{model.name}: its engines were stopped and no fallback answered")
        else:
            answers = ", ".join(f"{name} gave {count} answers" for name, count in by.items())
            told.append(
                f"every engine of {model.name} was stopped under load: {answers}, "
                f"{fault.failed} of {fault.requests} requests failed"
            )
    missing = [model.name for model in declared if model.name not in {suite.subject for suite in seen.fallbacks}]
    failed += [f"{name}: its fallback was not exercised" for name in missing]
    return ("failed", _several(failed)) if failed else ("passed", "; ".join(told))


def _cost_accounting(seen: Seen) -> Judged:
    if seen.spend is None or seen.spend.error:
        return "not available", seen.spend.error if seen.spend else "PostgreSQL was not asked"
    wrong: list[str] = []
    expected: dict[str, list[float]] = {}
    tokens = 0
    counted = [call for call in seen.through_gateway if call.prompt_tokens is not None]
    for call in counted:
        rows = [row for row in seen.rows.get(call.request_id, ()) if row.status != "failure"]
        if len(rows) != 1:
            wrong.append(f"{call.request_id} has {len(rows)} rows after {seen.spend.waited_seconds:.0f} s")
            continue
        row, price = rows[0], price_of(call, seen.models[seen.answered_by(call)])
        tokens += (call.prompt_tokens or 0) + (call.completion_tokens or 0)
        expected.setdefault(call.key_hash, []).append(price)
        if (row.prompt_tokens, row.completion_tokens) != (call.prompt_tokens, call.completion_tokens):
            wrong.append(
                f"{call.request_id}: booked {row.prompt_tokens} + {row.completion_tokens} tokens, "
                f"its client saw {call.prompt_tokens} + {call.completion_tokens}"
            )
        elif not math.isclose(row.spend, price, rel_tol=RELATIVE_TOLERANCE, abs_tol=1e-15):
            wrong.append(f"{call.request_id}: booked {row.spend:.9g}, the plan's prices make {price:.9g}")
    known = {call.request_id for call in counted}
    wrong += [
        f"{call_id}: {row.spend:.9g} booked for a call whose client was told no usage"
        for call_id, rows in seen.rows.items()
        for row in rows
        if row.spend and call_id not in known
    ]
    for key_hash, prices in expected.items():
        booked, total = seen.spend.key_spend.get(key_hash), math.fsum(prices)
        if booked is None or not math.isclose(booked, total, rel_tol=RELATIVE_TOLERANCE, abs_tol=1e-15):
            wrong.append(f"key {key_hash[:8]}: spend {booked}, its calls make {total:.9g}")
    if wrong or not known:
        return "failed", _several(wrong or ["nothing was answered"])
    total = math.fsum(price for prices in expected.values() for price in prices)
    return "passed", (
        f"{len(known):,} answers, {tokens:,} tokens counted by clients and booked equally, one row each; the spend of "
        f"{len(expected)} keys is their sum, {total:.9g}"
    )


def _budget_limit(seen: Seen) -> Judged:
    found = seen.budget
    if found is None:
        return (
            "not available",
            "no model costs anything by request.yml, or none answered: nothing to exceed",
        )
    model = seen.models[found.model]
    spent, answered, late = 0.0, 0, 0
    refused = [call for call in found.calls if "budget" in call.outcome]
    for call in found.calls:
        late += call.answered and spent >= found.budget
        answered += call.answered
        spent += price_of(call, model) if call.answered else 0.0
    strange = [call.outcome for call in found.calls if not call.answered and call not in refused]
    told = (
        f"a key with a budget of {found.budget:.6g} ({found.budget / found.price_of_one:g} chats): "
        f"{answered} chats answered for {spent:.6g}, then {len(refused)} refused"
        + (f" with HTTP {refused[0].status} {refused[0].outcome}" if refused else "")
    )
    if late:
        return "failed", f"{told}; {late} were answered after the budget was spent"
    if strange or not refused or found.calls[-1] not in refused or not answered:
        return "failed", told + (f"; others ended with {_several(strange)}" if strange else "")
    return "passed", told


def _audit_trail(seen: Seen) -> Judged:
    if seen.spend is None or seen.spend.error:
        return "not available", seen.spend.error if seen.spend else "PostgreSQL was not asked"
    where, trail = seen.trail
    by_name: dict[tuple[str | None, str | None], list[AuditRow]] = {}
    for row in trail:
        by_name.setdefault((row.call_id, row.key_hash), []).append(row)
    missing: list[str] = []
    nameless: list[Call] = []  # refused before the gateway read the client's id: booked under one of its own making
    for call in seen.through_gateway:
        rows = by_name.get((call.request_id, call.key_hash), [])
        if not rows and not call.answered:
            nameless.append(call)
        elif not rows:
            missing.append(f"{call.request_id} is not under its key")
        elif call.answered and not any(row.model in seen.models for row in rows):
            missing.append(f"{call.request_id} is booked without its model")
    known = {call.request_id for call in seen.through_gateway}
    spare = Counter(row.key_hash for row in trail if row.call_id not in known)
    for key_hash, count in Counter(call.key_hash for call in nameless).items():
        if spare[key_hash] != count:
            missing.append(f"{count} calls of key {key_hash[:8]} were refused, {spare[key_hash]} are booked")
    if missing or not seen.through_gateway:
        return "failed", _several(missing or ["nothing was sent"])
    refused = len(seen.through_gateway) - len(seen.answered)
    return "passed", (
        f"each of {len(seen.through_gateway):,} requests, {refused:,} of them refused, stands in {where} under "
        f"the key that sent it, answers with their model; {len(nameless)} refusals under an id of the gateway's own"
    )


def _engines_behind_gateway(seen: Seen) -> Judged:
    missing = [call.request_id for call in seen.answered if call.request_id not in seen.engines]
    if missing or not seen.answered:
        return "failed", _several([f"{one} stands in no engine's journal" for one in missing] or ["nothing answered"])
    hosts = sorted({engine.partition("/")[0] for call in seen.answered for engine in seen.engines[call.request_id]})
    return "passed", (
        f"each of {len(seen.answered):,} answered request ids stands in the journal of an engine on {', '.join(hosts)}"
    )


def _added_latency(seen: Seen) -> Judged:
    suites = [suite for suite in seen.suites if suite.suite == "gateway_overhead" and suite.verdict != "not available"]
    if not suites:
        return "not available", "the suite gateway_overhead did not run"
    invalid = [suite for suite in suites if suite.verdict == "invalid"]
    if invalid:
        return (
            "not available",
            f"our own load generator was late, so nothing was compared: {_several(list(invalid[0].objections))}",
        )
    bounds = [criterion for suite in suites for criterion in suite.criteria if criterion.name.startswith("added ")]
    if not bounds:
        return "not available", "no bound was agreed"
    told = "; ".join(f"{one.name}: {one.seen} (agreed: {one.agreed})" for one in bounds)
    return ("passed" if all(one.passed for one in bounds) else "failed"), told


def _several(sentences: Sequence[str]) -> str:
    more = len(sentences) - NAMED
    return "; ".join(sentences[:NAMED]) + (f"; and {more:,} more" if more > 0 else "")

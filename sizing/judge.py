"""Judge: plan and observation in, report out. Pure; every rule of `llm-size verify` is called from here.

One thing that is wrong shows as one failed check: a host that did not answer fails `host.answers` and its engines'
other checks are left out, for nothing is known about them.
"""

from collections.abc import Iterator
from http import HTTPStatus

from sizing.judge_edges import judge_edges
from sizing.judge_engines import judge_engine
from sizing.judge_models import judge_journal, judge_model
from sizing.judge_relays import judge_relays
from sizing.judge_spend import judge_spend
from sizing.observation import CallObservation, GatewayObservation, Observation
from sizing.plan import Plan
from sizing.report import CallSeen, Check, EngineSeen, Report
from sizing.verdicts import compare, same_version, status_text


def judge(plan: Plan, observation: Observation) -> Report:
    """Every check of the site, in the order in which a reader would ask."""
    checks = (
        *_hosts(plan, observation),
        *_engines(plan, observation),
        *judge_relays(plan, observation),
        *_gateways(plan, observation),
        *(check for model in plan.models for check in judge_model(plan, model, observation)),
        *judge_journal(observation),
        *judge_spend(plan, observation),
        *judge_edges(observation),
    )
    return Report(
        site=plan.site,
        plan_digest=plan.digest(),
        vllm_version=plan.vllm_version,
        litellm_version=plan.litellm_version,
        observed_at=observation.started_at,
        observed_seconds=observation.seconds,
        checks=checks,
        engines=tuple(_engines_seen(plan, observation)),
        calls=tuple(_calls_seen(observation)),
    )


def _hosts(plan: Plan, observation: Observation) -> Iterator[Check]:
    asked = dict.fromkeys([*plan.gateway.hosts, *plan.hosts, *observation.unanswered])
    for host in asked:
        reason = observation.unanswered.get(host)
        was_asked = host in observation.engines or host in observation.gateways
        if reason is None and not was_asked:
            reason = "was not asked; run verify without --limit"
        yield compare(
            "host.answers",
            host,
            f"{host} answers",
            expected="an answer",
            seen=f"{host} did not answer: {reason}" if reason else "an answer",
            holds=reason is None,
            advice=f"bring {host} back, then run site.yml and verify again",
        )


def _engines(plan: Plan, observation: Observation) -> Iterator[Check]:
    for host, engine in plan.engines():
        if host not in observation.engines:
            continue
        seen = observation.engine(host, engine.name)
        if seen is None:
            yield compare(
                "engine.unit",
                f"{host}/{engine.name}",
                "the unit is active",
                expected="an observation",
                seen="none was made",
                holds=False,
                advice="the observation is older than the plan: run `llm-size verify` again",
            )
            continue
        yield from judge_engine(plan, host, engine, seen)


def _gateways(plan: Plan, observation: Observation) -> Iterator[Check]:
    for host in plan.gateway.hosts:
        gateway = observation.gateways.get(host)
        if gateway is None:
            continue
        yield from _gateway(plan, host, gateway)


def _gateway(plan: Plan, host: str, gateway: GatewayObservation) -> Iterator[Check]:
    yield compare(
        "gateway.ready",
        host,
        "the gateway lists its models and makes a virtual key",
        expected="/model/info and /key/generate answer",
        seen=gateway.error or "both answered",
        holds=not gateway.error,
        advice=f"on {host}: `journalctl -u litellm -n 50`; the gateway needs its database to make keys",
    )
    if gateway.error:
        return
    yield compare(
        "gateway.locked",
        host,
        "a chat without a key is refused",
        expected="401",
        seen=status_text(gateway.keyless_status),
        holds=gateway.keyless_status == HTTPStatus.UNAUTHORIZED,
        advice="the gateway has no master key: anybody may use the models. Run site.yml",
    )
    yield compare(
        "gateway.version",
        host,
        "LiteLLM is the planned release",
        expected=plan.litellm_version,
        seen=gateway.version or "unknown",
        holds=same_version(gateway.version, plan.litellm_version),
        advice="run site.yml; a running gateway takes a new release only when its unit is restarted",
    )


def _engines_seen(plan: Plan, observation: Observation) -> Iterator[EngineSeen]:
    for host, engine in plan.engines():
        seen = observation.engine(host, engine.name)
        yield EngineSeen(
            host=host,
            name=engine.name,
            model=engine.model,
            version=seen.version if seen else None,
            window_tokens=seen.max_model_len if seen else None,
            kv_cache_tokens=seen.kv_cache_tokens if seen else None,
            memory_current_bytes=seen.memory_current_bytes if seen else None,
            restart_count=seen.restart_count if seen else None,
            first_token_seconds=seen.first_token_seconds if seen else None,
        )


def _calls_seen(observation: Observation) -> Iterator[CallSeen]:
    for host, gateway in observation.gateways.items():
        for call in gateway.calls:
            yield CallSeen(
                gateway=host,
                model=call.model,
                kind=call.kind,
                status=call.status,
                served_by=_server_of(call, observation),
                prompt_tokens=call.prompt_tokens,
                completion_tokens=call.completion_tokens,
                first_token_seconds=call.first_token_seconds,
                seconds=call.seconds,
            )


def _server_of(call: CallObservation, observation: Observation) -> str | None:
    """The engine that answered, by its journal; the gateway knows the relay alone. More than one when it was resumed.
    A refusal may name a deployment, too, though none was asked."""
    if call.status != HTTPStatus.OK:
        return None
    return ", ".join(observation.engines_named_by(call.request_id)) or call.deployment_id

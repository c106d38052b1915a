"""Judging the relays: on every gateway host one per model, locked, with the plan's engines as replicas, all serving."""

from collections.abc import Iterator
from http import HTTPStatus

from sizing.observation import Observation, RelayObservation
from sizing.plan import Plan
from sizing.relays import Relay
from sizing.report import Check
from sizing.verdicts import compare, status_text

SERVING = "serving"


def judge_relays(plan: Plan, observation: Observation) -> Iterator[Check]:
    """The checks of every relay of every gateway host that could be asked."""
    for host in plan.gateway.hosts:
        if host in observation.relays:
            for relay in plan.gateway.relays:
                yield from _relay(host, relay, observation.relay(host, relay.group))


def _relay(host: str, relay: Relay, seen: RelayObservation | None) -> Iterator[Check]:
    subject, unit = f"{host}/{relay.group}", f"relay@{relay.group}"
    answers = seen is not None and seen.status == HTTPStatus.OK
    yield compare(
        "relay.answers",
        subject,
        "the relay is active and answers",
        expected="active, 200 from /relay/status",
        seen="no observation was made"
        if seen is None
        else f"{seen.active_state or 'unknown'}, {status_text(seen.status, seen.error)}",
        holds=seen is not None and answers and seen.active_state == "active",
        advice=f"on {host}: `systemctl status {unit}.socket {unit}`, `journalctl -u {unit} -n 50`; then run site.yml",
    )
    if seen is None or not answers:
        return
    yield compare(
        "relay.locked",
        subject,
        "a chat without the engines' key is refused",
        expected="401",
        seen=status_text(seen.keyless_status),
        holds=seen.keyless_status == HTTPStatus.UNAUTHORIZED,
        advice=f"the key did not reach {unit}: look at /etc/relay/{relay.group}.env, run site.yml",
    )
    planned = {replica.id: SERVING for replica in relay.replicas}
    found = {replica.id: replica.state for replica in seen.replicas}
    yield compare(
        "relay.replicas",
        subject,
        "the replicas are the plan's engines of the model, and all serve",
        expected=_states_text(planned),
        seen=_states_text(found) or "none",
        holds=found == planned,
        advice="an ejected engine: its own checks say more; a draining one: playbooks/drain.yml -e drain_state=in; "
        "another set of engines: run site.yml",
    )


def _states_text(states: dict[str, str]) -> str:
    return ", ".join(f"{name} {state}" for name, state in sorted(states.items()))

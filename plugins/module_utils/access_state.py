# Apache License 2.0 (see LICENSE)
"""Declared access against what a gateway holds, and the steps from one to the other.

No network here. A thing is a kind, a name and its fields by LiteLLM's names. What we made carries a mark in its
metadata, and only marked things are changed or removed. Standard library only, because it runs on the hosts.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

MARK = "appliance"
USER_ROLES = {
    "user": "internal_user",
    "viewer": "internal_user_viewer",
    "admin": "proxy_admin",
    "admin-viewer": "proxy_admin_viewer",
}
ALL_MODELS = "all-proxy-models"
CLOCK_SECONDS = 120.0  # two clocks and a slow gateway; a shorter change of an expiry is none


class AccessRefused(Exception):
    """What is asked cannot be done; the message is one line for the operator."""


class GatewayAway(AccessRefused):
    """Nothing answers at the gateway's address."""


@dataclass(frozen=True)
class Thing:
    """One user, team, member or key. `hash` is a key's SHA-256, never its value."""

    kind: str
    name: str
    fields: dict[str, Any]
    ours: bool = True
    hash: str = ""
    spend: float = 0.0
    retired: bool = False


@dataclass(frozen=True)
class Step:
    """One change: what happens to which thing, and what was there before."""

    verb: str  # create, change, rotate, remove
    thing: Thing
    before: Thing | None = None
    changed: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        names = f" ({', '.join(sorted(self.changed))})" if self.changed else ""
        which = "old value of key" if self.thing.retired else self.thing.kind
        return f"{self.verb} {which} {self.thing.name}{names}"


def hash_of(value: str) -> str:
    """What LiteLLM knows a key by."""
    return hashlib.sha256(value.encode()).hexdigest()


def mark_of(metadata: dict[str, Any] | None) -> dict[str, Any]:
    """Our mark in a metadata field; empty where the thing is not ours."""
    mark = (metadata or {}).get(MARK)
    return mark if isinstance(mark, dict) else {}


def declared(access: dict[str, Any], key_values: dict[str, str], *, may_lack_values: bool) -> list[Thing]:
    """Everything that access.yml asks for. Raises AccessRefused when a key has no value, unless it may lack one."""
    groups = access.get("model_groups") or {}
    things = []
    for user in access.get("users") or []:
        fields = {"user_role": USER_ROLES[user.get("role") or "user"]}
        if user.get("email"):  # LiteLLM keeps an address that is taken away, so none is never a difference
            fields["user_email"] = user["email"].lower()
        things.append(Thing("user", user["name"], fields))
    for team in access.get("teams") or []:
        things.append(Thing("team", team["name"], _team_fields(team, groups)))
        for given in team.get("members") or []:
            member = {"user": given} if isinstance(given, str) else given
            limits = {"max_budget_in_team": member.get("budget"), "budget_duration": member.get("budget_period")}
            things.append(Thing("member", f"{team['name']}/{member['user']}", limits))
    for key in access.get("keys") or []:
        alias = key["alias"]
        if not key_values.get(alias) and not may_lack_values:
            raise AccessRefused(f"key {alias} has no value in vault_access_keys; make keys SITE=... makes one")
        things.append(Thing("key", alias, _key_fields(key, groups), hash=hash_of(key_values.get(alias, ""))))
    return things


def steps_between(wanted: list[Thing], present: list[Thing], *, now: datetime) -> list[Step]:
    """What to do, in an order in which each step can succeed: what ends access comes first."""
    there = {(thing.kind, thing.name): thing for thing in present if not thing.retired}
    asked = {(thing.kind, thing.name) for thing in wanted}
    leaving = [thing for thing in present if thing.ours and _must_go(thing, asked, now)]
    steps = [Step("remove", thing) for kind in ("key", "member") for thing in leaving if thing.kind == kind]
    for thing in wanted:
        before = there.get((thing.kind, thing.name))
        if before is None:
            if not _is_past(thing.fields.get("expires"), now):
                steps.append(Step("create", thing, _given_up(thing, present)))
            continue
        if not before.ours:
            raise AccessRefused(
                f"{thing.kind} {thing.name} exists in the gateway and was not made from access.yml; "
                "remove it there, or use another name"
            )
        changed = _differences(thing, before, now)
        if thing.kind == "key" and thing.hash != before.hash:
            steps.append(Step("rotate", thing, before, changed))
        elif changed:
            steps.append(Step("change", thing, before, changed))
    return steps + [Step("remove", thing) for kind in ("team", "user") for thing in leaving if thing.kind == kind]


def _given_up(thing: Thing, present: list[Thing]) -> Thing | None:
    """The old value of a key whose rotation was interrupted before it had a new one: what was spent goes on."""
    retired = [one for one in present if one.retired and one.ours and (one.kind, one.name) == (thing.kind, thing.name)]
    return max(retired, key=lambda one: one.spend, default=None)


def shown(things: list[Thing]) -> dict[str, dict[str, Any]]:
    """What a diff shows: no value of any key, but eight digits of its hash, so that a rotation is seen."""
    content: dict[str, dict[str, Any]] = {}
    for thing in sorted(things, key=lambda one: (one.kind, one.name)):
        fields = {name: value for name, value in sorted(thing.fields.items()) if value not in (None, [], {}, False)}
        if thing.hash:
            fields["value_sha256"] = thing.hash[:8]
        content.setdefault(thing.kind + "s", {})[thing.name] = fields
    return content


def moment(text: Any) -> datetime | None:
    """A moment of access.yml or of LiteLLM. A bare day ends when the day ends, in UTC."""
    if text is None:
        return None
    words = str(text).strip()
    found = datetime.fromisoformat(words.replace("Z", "+00:00").replace(" ", "T", 1))
    if found.tzinfo is None:
        found = found.replace(tzinfo=UTC)
    return found + timedelta(days=1) if len(words) == len("2027-01-31") else found


def _team_fields(team: dict[str, Any], groups: dict[str, list[str]]) -> dict[str, Any]:
    return {
        "team_alias": team["name"],
        "models": _models(team, groups),
        "blocked": bool(team.get("blocked")),
        "metadata": {**(team.get("metadata") or {}), MARK: {"declared": True}},
        **_limits(team),
    }


def _key_fields(key: dict[str, Any], groups: dict[str, list[str]]) -> dict[str, Any]:
    mark = {"declared": True, "tags": sorted(key.get("tags") or [])}
    return {
        "models": _models(key, groups),
        "team_id": key.get("team"),
        "user_id": key.get("user"),
        "max_parallel_requests": key.get("parallel_requests"),
        "expires": moment(key.get("expires")),
        "blocked": bool(key.get("revoked")),
        "metadata": {**(key.get("metadata") or {}), MARK: mark},
        **_limits(key),
    }


def _limits(part: dict[str, Any]) -> dict[str, Any]:
    return {
        "max_budget": part.get("budget"),
        "soft_budget": part.get("soft_budget"),
        "budget_duration": part.get("budget_period"),
        "rpm_limit": part.get("requests_per_minute"),
        "tpm_limit": part.get("tokens_per_minute"),
    }


def _models(part: dict[str, Any], groups: dict[str, list[str]]) -> list[str]:
    """The models behind models and model groups, in order of their names."""
    found: set[str] = set()
    for name in part["models"]:
        found.update(groups.get(name, [name]))
    return sorted(found)


def _must_go(thing: Thing, asked: set[tuple[str, str]], now: datetime) -> bool:
    if thing.retired:
        return _is_past(thing.fields.get("expires"), now) or ("key", thing.name) not in asked
    return (thing.kind, thing.name) not in asked


def _differences(wanted: Thing, before: Thing, now: datetime) -> dict[str, Any]:
    """The fields that differ, with what they should be."""

    def same(name: str, value: Any) -> bool:
        there = before.fields.get(name)
        return _same_moment(value, there, now) if name == "expires" else bool(value == there)

    return {name: value for name, value in wanted.fields.items() if not same(name, value)}


def _same_moment(one: datetime | None, other: datetime | None, now: datetime) -> bool:
    if one is None or other is None:
        return one is other
    return abs((one - other).total_seconds()) <= CLOCK_SECONDS or (one <= now and other <= now)


def _is_past(when: datetime | None, now: datetime) -> bool:
    return when is not None and when <= now

# Apache License 2.0 (see LICENSE)
"""LiteLLM's management API as far as declared access needs it: reading what is there, carrying out one step.

Key values travel in bodies only. Standard library only, because it runs on the hosts.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from ansible.module_utils.access_state import AccessRefused, GatewayAway, Step, Thing, mark_of, moment
from ansible.module_utils.http_exchange import Exchange, exchange

PAGE_SIZE = 100
HTTP_OK = range(200, 300)
OURS_BY_MARK = ("team", "key", "user")
# What LiteLLM itself writes into the metadata of teams and keys.
SYSTEM_METADATA = ("team_member_budget_id", "service_account_id")


class Gateway:
    """One gateway, asked with its master key."""

    def __init__(self, url: str, master_key: str, *, timeout_seconds: float) -> None:
        self.url = url.rstrip("/")
        self.key = master_key
        self.timeout_seconds = timeout_seconds

    def present(self) -> list[Thing]:
        """Every user, team, member and key."""
        users = [_user(row) for row in self._pages("/user/list", "users", size_name="page_size")]
        teams: list[Thing] = []
        for row in self._listed("/team/list", self._get("/team/list", {}).rows()):
            team = _team(row)
            teams += [team, *_members(row, team)]
        keys = [_key(row) for row in self._pages("/key/list", "keys", return_full_object="true")]
        return [*users, *teams, *keys]

    def carry_out(self, step: Step, *, key_values: dict[str, str], grace: str | None) -> None:
        """One step; raises AccessRefused with the gateway's own words when it does not succeed."""
        now = datetime.now(UTC)
        act = getattr(self, f"_{step.verb}_{step.thing.kind}")
        if step.thing.kind == "key" and step.verb in ("create", "rotate"):
            act(step, key_values[step.thing.name], grace, now)
        elif step.thing.kind == "key":
            act(step, now)
        else:
            act(step)

    def _create_user(self, step: Step) -> None:
        mark = {"appliance": {"declared": True}}
        body = {"user_id": step.thing.name, "auto_create_key": False, "metadata": mark, **step.thing.fields}
        self._post(step, "/user/new", body)

    def _change_user(self, step: Step) -> None:
        self._post(step, "/user/update", {"user_id": step.thing.name, **step.changed})

    def _remove_user(self, step: Step) -> None:
        self._post(step, "/user/delete", {"user_ids": [step.thing.name]})

    def _create_team(self, step: Step) -> None:
        """LiteLLM puts the caller into a new team; nobody declared it, so it leaves again."""
        made = self._post(step, "/team/new", {"team_id": step.thing.name, **_set(step.thing.fields)})
        for member in made.content().get("members_with_roles") or []:
            leaving = {"team_id": step.thing.name, "user_id": member.get("user_id")}
            self._post(step, "/team/member_delete", leaving)

    def _change_team(self, step: Step) -> None:
        self._post(step, "/team/update", {"team_id": step.thing.name, **step.changed})

    def _remove_team(self, step: Step) -> None:
        self._post(step, "/team/delete", {"team_ids": [step.thing.name]})

    def _create_member(self, step: Step) -> None:
        team, user = step.thing.name.split("/", 1)
        body = {"team_id": team, "member": {"user_id": user, "role": "user"}, **_set(step.thing.fields)}
        self._post(step, "/team/member_add", body)

    def _change_member(self, step: Step) -> None:
        team, user = step.thing.name.split("/", 1)
        self._post(step, "/team/member_update", {"team_id": team, "user_id": user, **step.thing.fields})

    def _remove_member(self, step: Step) -> None:
        team, user = step.thing.name.split("/", 1)
        self._post(step, "/team/member_delete", {"team_id": team, "user_id": user})

    def _create_key(self, step: Step, value: str, _grace: str | None, now: datetime) -> None:
        spent = {} if step.before is None else {"spend": step.before.spend}
        self._post(step, "/key/generate", {**self._new_key(step.thing, value, now), **spent})

    def _change_key(self, step: Step, now: datetime) -> None:
        self._post(step, "/key/update", {"key": step.thing.hash, **_timed(step.changed, now)})

    def _rotate_key(self, step: Step, value: str, grace: str | None, now: datetime) -> None:
        """The old value gives its alias away and its spend on; it ends now, or after the grace.

        An old value that was revoked or has expired gets no grace.
        """
        before = step.before
        if before is None:
            raise AccessRefused(f"{step}: there is no key to rotate")
        ended = before.fields["blocked"] or (before.fields["expires"] or now) < now
        retired = {
            "key": before.hash,
            "key_alias": f"{before.name}.retired-{before.hash[:8]}",
            "metadata": {**before.fields["metadata"], "appliance": {"declared": True, "retired": before.name}},
        }
        if grace and not ended:
            expires = before.fields["expires"]
            left = None if expires is None else (expires - now).total_seconds()
            self._post(step, "/key/update", {**retired, "duration": _shorter(grace, left)})
        else:
            self._post(step, "/key/update", {**retired, "blocked": True, "duration": "1s"})
        self._post(step, "/key/generate", {**self._new_key(step.thing, value, now), "spend": before.spend})
        if not grace or ended:
            self._post(step, "/key/delete", {"keys": [before.hash]})

    def _remove_key(self, step: Step, _now: datetime) -> None:
        self._post(step, "/key/delete", {"keys": [step.thing.hash]})

    @staticmethod
    def _new_key(thing: Thing, value: str, now: datetime) -> dict[str, Any]:
        return {"key": value, "key_alias": thing.name, **_timed(_set(thing.fields), now)}

    def _post(self, step: Step, path: str, body: dict[str, Any]) -> Exchange:
        answer = exchange("POST", self.url + path, key=self.key, body=body, timeout_seconds=self.timeout_seconds)
        if answer.status not in HTTP_OK:
            raise AccessRefused(f"cannot {step}: {self._words(path, answer)}")
        return answer

    def _get(self, path: str, query: dict[str, Any]) -> Exchange:
        url = f"{self.url}{path}?{urlencode(query)}" if query else self.url + path
        answer = exchange("GET", url, key=self.key, timeout_seconds=self.timeout_seconds)
        if answer.status is None:
            raise GatewayAway(f"cannot read what is there: {self._words(path, answer)}")
        if answer.status not in HTTP_OK:
            raise AccessRefused(f"cannot read what is there: {self._words(path, answer)}")
        return answer

    def _pages(self, path: str, rows_name: str, *, size_name: str = "size", **query: Any) -> Iterator[dict[str, Any]]:
        page = 1
        while True:
            content = self._get(path, {**query, "page": page, size_name: PAGE_SIZE}).content()
            yield from self._listed(path, content.get(rows_name))
            if page >= int(content.get("total_pages") or 0):
                return
            page += 1

    def _listed(self, path: str, rows: Any) -> list[dict[str, Any]]:
        """The rows; an answer without a list is no empty list, because things would be removed or made twice."""
        if not isinstance(rows, list):
            raise AccessRefused(
                f"cannot read what is there: {self.url}{path} answered no list; is it a LiteLLM gateway?"
            )
        return rows

    def _words(self, path: str, answer: Exchange) -> str:
        said = f"{answer.status}: {answer.message()}" if answer.status else answer.error
        return f"{self.url}{path} answered {said}" if answer.status else f"{self.url} does not answer: {said}"


def _user(row: dict[str, Any]) -> Thing:
    fields = {"user_email": (row.get("user_email") or "").lower(), "user_role": row.get("user_role")}
    return Thing("user", row["user_id"], fields, ours=bool(mark_of(row.get("metadata"))))


def _team(row: dict[str, Any]) -> Thing:
    fields = {
        "team_alias": row.get("team_alias"),
        "models": sorted(row.get("models") or []),
        "blocked": bool(row.get("blocked")),
        "metadata": _own_metadata(row),
        **_limits(row),
    }
    return Thing("team", row["team_id"], fields, ours=bool(mark_of(row.get("metadata"))))


def _members(row: dict[str, Any], team: Thing) -> Iterator[Thing]:
    budgets = {one.get("user_id"): one.get("litellm_budget_table") or {} for one in row.get("team_memberships") or []}
    for member in row.get("members_with_roles") or []:
        budget = budgets.get(member.get("user_id"), {})
        fields = {"max_budget_in_team": budget.get("max_budget"), "budget_duration": budget.get("budget_duration")}
        yield Thing("member", f"{team.name}/{member.get('user_id')}", fields, ours=team.ours)


def _key(row: dict[str, Any]) -> Thing:
    mark = mark_of(row.get("metadata"))
    budget = row.get("litellm_budget_table") or {}
    fields = {
        "models": sorted(row.get("models") or []),
        "team_id": row.get("team_id"),
        "user_id": row.get("user_id"),
        "max_parallel_requests": row.get("max_parallel_requests"),
        "expires": moment(row.get("expires")),
        "blocked": bool(row.get("blocked")),
        "metadata": _own_metadata(row),
        **_limits(row),
        "soft_budget": row.get("soft_budget") or budget.get("soft_budget"),
    }
    return Thing(
        "key",
        mark.get("retired") or row.get("key_alias") or row["token"],
        fields,
        ours=bool(mark),
        hash=row["token"],
        spend=float(row.get("spend") or 0.0),
        retired=bool(mark.get("retired")),
    )


def _limits(row: dict[str, Any]) -> dict[str, Any]:
    return {name: row.get(name) for name in ("max_budget", "soft_budget", "budget_duration", "rpm_limit", "tpm_limit")}


def _own_metadata(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in (row.get("metadata") or {}).items() if name not in SYSTEM_METADATA}


def _set(fields: dict[str, Any]) -> dict[str, Any]:
    """A new thing is told only what it has."""
    return {name: value for name, value in fields.items() if value is not None}


def _timed(fields: dict[str, Any], now: datetime) -> dict[str, Any]:
    """LiteLLM takes an expiry as a duration from now; -1 takes it away."""
    timed = {name: value for name, value in fields.items() if name != "expires"}
    if "expires" in fields:
        expires = fields["expires"]
        timed["duration"] = "-1" if expires is None else f"{max(1, round((expires - now).total_seconds()))}s"
    return timed


def _shorter(grace: str, left_seconds: float | None) -> str:
    """The grace, or what is left of the key's own life where that ends first."""
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800, "mo": 2592000}
    digits = grace.rstrip("smhdwo")
    seconds = int(digits) * units[grace[len(digits) :]]
    return f"{seconds if left_seconds is None else max(1, min(seconds, round(left_seconds)))}s"

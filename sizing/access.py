"""Access: who may use what - teams, members, virtual keys, budgets and limits of one site, declared by the operator.

It lies in `group_vars/all/access.yml` under the one key `access`, where Ansible finds it. It holds no key values: those
are in the vault. Budgets have the unit of the models' prices; limits are per minute.
"""

from collections.abc import Collection, Iterable, Mapping
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AwareDatetime, Field, model_validator

from sizing.access_licence import NEEDS_A_LICENCE, SETTINGS_IN_METADATA
from sizing.documents import Document, Part, read_structured_file, strings_of
from sizing.errors import DocumentError

ACCESS_KEY = "access"
ALL_MODELS = "all-proxy-models"  # LiteLLM's own words
TEAM_MODELS = "all-team-models"

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,99}$")]
Period = Annotated[str, Field(pattern=r"^[1-9][0-9]*(s|m|h|d|w|mo)$", description="30s, 15m, 24h, 7d, 2w or 1mo")]
Models = Annotated[
    tuple[str, ...], Field(min_length=1, description=f"models or model groups, or {ALL_MODELS}; never nothing")
]
Metadata = dict[str, str | int | float | bool]


class Declared(Part):
    """A part that refuses LiteLLM's licensed fields by name, with the free way to the same end."""

    @model_validator(mode="before")
    @classmethod
    def _needs_no_licence(cls, content: Any) -> Any:
        if isinstance(content, dict):
            for field, free_way in NEEDS_A_LICENCE.items():
                if field in content and field not in cls.model_fields:
                    raise ValueError(f"{field} needs a LiteLLM licence; the free way: {free_way}")
        return content


class Limits(Declared):
    """What may be spent and how fast."""

    budget: float | None = Field(default=None, gt=0, description="hard: beyond it requests are refused")
    soft_budget: float | None = Field(default=None, gt=0, description="warns")
    budget_period: Period | None = Field(default=None, description="spend starts at zero again; default: never")
    requests_per_minute: int | None = Field(default=None, gt=0)
    tokens_per_minute: int | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _budgets_agree(self) -> Self:
        if self.budget is not None and self.soft_budget is not None and self.soft_budget >= self.budget:
            raise ValueError(f"soft_budget {self.soft_budget:g} warns too late for budget {self.budget:g}; lower it")
        if self.budget_period is not None and self.budget is None:
            raise ValueError(f"budget_period {self.budget_period} has no budget to renew; set budget")
        return self


class Described(Limits):
    """Limits with what the operator wants to remember."""

    metadata: Metadata = Field(default_factory=dict)

    @model_validator(mode="after")
    def _metadata_is_no_setting(self) -> Self:
        for name in sorted(self.metadata):
            if name in SETTINGS_IN_METADATA:
                raise ValueError(f"metadata {name} would be a setting of LiteLLM, not a note; rename it")
        return self


class User(Declared):
    """A person or program with a role on the whole gateway."""

    name: Name
    email: str | None = Field(default=None, pattern=r"^[^@\s]+@[^@\s]+$")
    role: Literal["user", "viewer", "admin", "admin-viewer"] = Field(
        default="user", description="of the dashboard: user and viewer see their own, admin and admin-viewer everything"
    )


class Member(Declared):
    """A user in a team."""

    user: Name
    role: Literal["user"] = "user"
    budget: float | None = Field(default=None, gt=0, description="of this member within the team")
    budget_period: Period | None = None

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, content: Any) -> Any:
        """A bare name is a member without a budget; the team's own administrators are licensed."""
        if isinstance(content, str):
            return {"user": content}
        if isinstance(content, dict) and content.get("role") == "admin":
            raise ValueError(f"role admin in a team needs a LiteLLM licence; the free way: {NEEDS_A_LICENCE['admins']}")
        return content

    @model_validator(mode="after")
    def _period_has_a_budget(self) -> Self:
        if self.budget_period is not None and self.budget is None:
            raise ValueError(f"{self.user}: budget_period {self.budget_period} has no budget to renew; set budget")
        return self


class Team(Described):
    """People and keys that share a budget."""

    name: Name
    models: Models
    members: tuple[Member, ...] = ()
    blocked: bool = Field(default=False, description="refuses every key of the team, and keeps them")


class Key(Described):
    """A virtual key. Its value lies in the vault under the same alias."""

    alias: Name
    models: Models
    team: Name | None = None
    user: Name | None = None
    parallel_requests: int | None = Field(default=None, gt=0)
    expires: date | AwareDatetime | None = Field(
        default=None, description="a day (the key still works on it, UTC) or a moment with its time zone"
    )
    revoked: bool = Field(default=False, description="refuses the key, and keeps it with its spend")
    tags: tuple[Name, ...] = Field(default=(), description="for reports of cost; kept in the key's metadata")


class Access(Document):
    """Who may use the gateway of one site. What is not declared here any more is removed from the gateway."""

    budget: float | None = Field(default=None, gt=0, description="of the whole gateway; needs budget_period")
    budget_period: Period | None = None
    parallel_requests: int | None = Field(
        default=None, gt=0, description="that run at once, over all keys and gateways; one more is answered 429"
    )
    rotation_grace: Period | None = Field(
        default=None, description="how long the old value of a rotated key still works; default: not at all"
    )
    model_groups: dict[Name, Models] = Field(default_factory=dict)
    users: tuple[User, ...] = ()
    teams: tuple[Team, ...] = ()
    keys: tuple[Key, ...] = ()

    @model_validator(mode="after")
    def _names_agree(self) -> Self:
        _refuse_twice("user", (user.name for user in self.users))
        _refuse_twice("team", (team.name for team in self.teams))
        _refuse_twice("key alias", (key.alias for key in self.keys))
        if (self.budget is None) != (self.budget_period is None):
            raise ValueError("the budget of the whole gateway needs both budget and budget_period, or neither")
        users = {user.name for user in self.users}
        for team in self.teams:
            _refuse_twice(f"member of team {team.name}", (member.user for member in team.members))
            for member in team.members:
                if member.user not in users:
                    raise ValueError(f"team {team.name} has member {member.user}, who is not among users")
        for key in self.keys:
            self._check_key(key, users)
        for text in strings_of(self.model_dump(mode="json")):
            if "{{" in text or "{%" in text:
                raise ValueError(f"{text!r} is a template; access is read as it stands, also without Ansible")
        return self

    def _check_key(self, key: Key, users: Collection[str]) -> None:
        teams = {team.name: team for team in self.teams}
        if key.team is not None and key.team not in teams:
            raise ValueError(f"key {key.alias} belongs to team {key.team}, which is not among teams")
        if key.user is not None and key.user not in users:
            raise ValueError(f"key {key.alias} belongs to user {key.user}, who is not among users")
        if key.team is None:
            if TEAM_MODELS in key.models:
                raise ValueError(f"key {key.alias} has {TEAM_MODELS} and no team; name its models")
            return
        team = teams[key.team]
        if key.user is not None and key.user not in {member.user for member in team.members}:
            raise ValueError(f"key {key.alias}: user {key.user} is no member of team {team.name}")
        beyond = self.expanded(key.models) - self.expanded(team.models) - {TEAM_MODELS}
        if beyond and ALL_MODELS not in team.models:
            raise ValueError(f"key {key.alias} has {', '.join(sorted(beyond))}, which team {team.name} may not use")

    def expanded(self, models: Iterable[str]) -> set[str]:
        """The models behind names of models and model groups."""
        found: set[str] = set()
        for name in models:
            found.update(self.model_groups.get(name, (name,)))
        return found

    def check_models(self, served: Collection[str]) -> None:
        """Raises DocumentError when a model is named that the site does not serve."""
        words = {ALL_MODELS, TEAM_MODELS}
        for group, models in self.model_groups.items():
            if group in served or group in words:
                raise DocumentError(f"access: model group {group} has the name of a model; rename it")
            _check_served(f"model group {group}", models, served)
        named: list[tuple[str, tuple[str, ...]]] = [(f"team {team.name}", team.models) for team in self.teams]
        named += [(f"key {key.alias}", key.models) for key in self.keys]
        for what, models in named:
            _check_served(what, models, {*served, *self.model_groups, *words})


def access_path(directory: Path) -> Path:
    """Where Ansible finds the access of a site."""
    return directory / "group_vars" / "all" / "access.yml"


def load_access(directory: Path) -> Access | None:
    """The declared access of a site; None where nothing is declared."""
    path = access_path(directory)
    if not path.exists():
        return None
    content = read_structured_file(path)
    if not isinstance(content, Mapping) or set(content) != {ACCESS_KEY}:
        raise DocumentError(f"{path}: expected the single top-level key {ACCESS_KEY}")
    return Access.parse(content[ACCESS_KEY], origin=str(path))


def _refuse_twice(what: str, names: Iterable[str]) -> None:
    seen = set()
    for name in names:
        if name in seen:
            raise ValueError(f"{what} {name} is declared twice; keep one")
        seen.add(name)


def _check_served(what: str, models: Iterable[str], served: Collection[str]) -> None:
    for model in models:
        if model not in served:
            known = ", ".join(sorted(served))
            raise DocumentError(f"access: {what} has model {model}, which is not served; there are {known}")

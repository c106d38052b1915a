"""Access: what is declared must hold together, and everything else is one line that says what to change."""

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from sizing.access import Access, Member, Team, User, load_access
from sizing.access_licence import NEEDS_A_LICENCE
from sizing.errors import DocumentError

EVERYTHING: dict[str, Any] = {
    "budget": 1000,
    "budget_period": "1mo",
    "rotation_grace": "24h",
    "model_groups": {"small": ["alpha", "beta"]},
    "users": [{"name": "jiwoo", "email": "jiwoo@example.com", "role": "viewer"}, {"name": "minho"}],
    "teams": [
        {
            "name": "search",
            "models": ["small"],
            "budget": 100,
            "soft_budget": 80,
            "budget_period": "30d",
            "requests_per_minute": 600,
            "members": ["jiwoo", {"user": "minho", "budget": 5}],
        }
    ],
    "keys": [
        {"alias": "search-prod", "team": "search", "models": ["alpha"], "expires": date(2027, 6, 30), "tags": ["prod"]},
        {"alias": "jiwoo-laptop", "user": "jiwoo", "team": "search", "models": ["all-team-models"]},
    ],
}


def parse(**changes: Any) -> Access:
    return Access.parse({**EVERYTHING, **changes}, origin="access.yml")


def key(**more: Any) -> dict[str, Any]:
    return {"alias": "k", "models": ["alpha"], **more}


def test_everything_that_can_be_declared_is_understood() -> None:
    access = parse()

    assert ["jiwoo", "minho"] == [member.user for member in access.teams[0].members]
    assert 5 == access.teams[0].members[1].budget
    assert {"alpha", "beta"} == access.expanded(["small"])
    assert date(2027, 6, 30) == access.keys[0].expires
    access.check_models({"alpha", "beta"})


def test_an_expiry_may_be_a_moment_with_its_zone() -> None:
    access = parse(keys=[key(expires="2027-06-30T12:00:00+00:00")])

    assert datetime(2027, 6, 30, 12, tzinfo=UTC) == access.keys[0].expires


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"keys": [key(), key()]}, "key alias k is declared twice"),
        ({"teams": [{"name": "a", "models": ["alpha"]}] * 2, "keys": []}, "team a is declared twice"),
        ({"users": [{"name": "a"}, {"name": "a"}]}, "user a is declared twice"),
        ({"keys": [key(team="nobody", budget=5)]}, "key k belongs to team nobody, which is not among teams"),
        ({"keys": [key(user="nobody")]}, "key k belongs to user nobody"),
        ({"users": []}, "has member jiwoo, who is not among users"),
        ({"keys": [key(models=[])]}, "keys.0.models: Tuple should have at least 1 item"),
        ({"keys": [{"alias": "k"}]}, "keys.0.models: Field required"),
        ({"keys": [key(budget=-1)]}, "keys.0.budget: Input should be greater than 0"),
        ({"keys": [key(requests_per_minute=-5)]}, "keys.0.requests_per_minute: Input should be greater than 0"),
        ({"keys": [key(budget=float("nan"))]}, "keys.0.budget"),
        ({"keys": [key(budget=5, soft_budget=5)]}, "soft_budget 5 warns too late for budget 5"),
        ({"keys": [key(budget_period="30d")]}, "budget_period 30d has no budget to renew"),
        ({"keys": [key(budget=5, budget_period="monthly")]}, "keys.0.budget_period: String should match"),
        ({"keys": [key(expires="2027-06-30T12:00:00")]}, "keys.0.expires"),
        ({"keys": [key(team="search", models=["gamma"])]}, "key k has gamma, which team search may not use"),
        ({"keys": [key(models=["all-team-models"])]}, "key k has all-team-models and no team"),
        ({"keys": [key(metadata={"guardrails": "x"})]}, "metadata guardrails would be a setting of LiteLLM"),
        ({"keys": [key(metadata={"owner": "{{ me }}"})]}, "is a template"),
        ({"keys": [key(colour="red")]}, "keys.0.colour: Extra inputs are not permitted"),
        ({"budget_period": None}, "needs both budget and budget_period"),
    ],
)
def test_what_does_not_hold_together_is_one_line(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(DocumentError, match=r"^access\.yml: ") as refused:
        parse(**changes)

    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"keys": [key(guardrails=["pii"])]}, "guardrails needs a LiteLLM licence; the free way: declare the"),
        ({"keys": [key(model_max_budget={"alpha": 1})]}, "free way: one key for each model"),
        ({"teams": [{"name": "a", "models": ["alpha"], "tags": ["x"]}]}, "tags needs a LiteLLM licence"),
        ({"teams": [{"name": "a", "models": ["alpha"], "members": [{"user": "jiwoo", "role": "admin"}]}]},
         "role admin in a team needs a LiteLLM licence; the free way: give the person role admin among users"),
        ({"keys": [key(auto_rotate=True)]}, "free way: make keys"),
    ],
)  # fmt: skip
def test_what_needs_a_licence_is_refused_with_the_free_way(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(DocumentError) as refused:
        parse(**{"keys": [], **changes})

    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"keys": [key(models=["gamma"])]}, "key k has model gamma, which is not served; there are "),
        ({"teams": [{"name": "a", "models": ["gamma"]}], "keys": []}, "team a has model gamma, which is not served"),
        ({"model_groups": {"small": ["gamma"]}, "teams": [], "keys": []}, "model group small has model gamma"),
        ({"model_groups": {"alpha": ["beta"]}, "teams": [], "keys": []}, "model group alpha has the name of a model"),
    ],
)
def test_a_model_that_the_site_does_not_serve_is_refused(changes: dict[str, Any], words: str) -> None:
    access = parse(**changes)

    with pytest.raises(DocumentError) as refused:
        access.check_models({"alpha", "beta"})

    assert words in str(refused.value)


def test_a_site_without_the_file_declares_nothing(tmp_path: Path) -> None:
    assert load_access(tmp_path) is None


def test_the_file_has_one_top_level_key(tmp_path: Path) -> None:
    path = tmp_path / "group_vars" / "all" / "access.yml"
    path.parent.mkdir(parents=True)
    path.write_text("teams: []\n", encoding="utf-8")

    with pytest.raises(DocumentError, match="expected the single top-level key access"):
        load_access(tmp_path)


def test_the_example_holds_together() -> None:
    path = Path(__file__).resolve().parents[2] / "inventories/example/group_vars/all/access.yml.example"

    access = Access.parse(yaml.safe_load(path.read_text(encoding="utf-8"))["access"], origin=str(path))

    access.check_models({"qwen3-32b", "gemma-3-12b"})


def test_the_table_of_licences_has_only_names_that_the_document_does_not_offer() -> None:
    offered = {name for part in (Team, User, Member) for name in part.model_fields}

    assert set() == offered & set(NEEDS_A_LICENCE)

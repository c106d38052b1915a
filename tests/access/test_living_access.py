"""Declared access against the real thing: LiteLLM with two workers, PostgreSQL and Redis on loopback."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from tests.access.declared_site import DeclaredSite
from tests.access.living_gateway import PARALLEL_REQUESTS, LivingGateway, living_gateway, why_not
from tests.fakes.ansible_module import run_module
from tests.fakes.null_site import null_site

pytestmark = [pytest.mark.lab, pytest.mark.skipif(why_not() is not None, reason=str(why_not()))]

GLOBAL_BUDGET = 4.0  # a chat of two tokens costs 0.003
CHATS_OVER_BOTH_WORKERS = 8
WRITTEN_SECONDS = 120.0
ACCESS: dict[str, Any] = {
    "model_groups": {"every": ["alpha", "beta"]},
    "users": [{"name": "jiwoo", "email": "jiwoo@example.com", "role": "viewer"}, {"name": "minho"}],
    "teams": [
        {
            "name": "search",
            "models": ["every"],
            "budget": 100.0,
            "soft_budget": 80.0,
            "budget_period": "30d",
            "requests_per_minute": 600,
            "members": ["jiwoo", {"user": "minho", "budget": 5.0, "budget_period": "7d"}],
            "metadata": {"cost_center": "4711"},
        }
    ],
    "keys": [
        {
            "alias": "search-prod",
            "team": "search",
            "models": ["alpha"],
            "budget": 10.0,
            "soft_budget": 8.0,
            "budget_period": "30d",
            "requests_per_minute": 50,
            "tokens_per_minute": 100000,
            "parallel_requests": 4,
            "expires": "2999-06-30",
            "tags": ["prod"],
            "metadata": {"owner": "jiwoo"},
        },
        {"alias": "jiwoo-laptop", "user": "jiwoo", "models": ["beta"]},
    ],
}


@pytest.fixture(scope="module")
def gateway() -> Iterator[LivingGateway]:
    settings = {"max_budget": GLOBAL_BUDGET, "budget_duration": "30d"}
    with null_site() as (port, _), living_gateway(port, workers=2, settings=settings) as living:
        yield living


@pytest.fixture(scope="module")
def site(gateway: LivingGateway, tmp_path_factory: pytest.TempPathFactory) -> DeclaredSite:
    return DeclaredSite.make(tmp_path_factory.mktemp("access"), gateway)


@pytest.fixture(scope="module")
def applied(site: DeclaredSite) -> DeclaredSite:
    """The site with ACCESS applied by the playbook."""
    site.declare(ACCESS)
    run = site.apply()
    assert not run.failed, run.output
    return site


@pytest.fixture
def apply(gateway: LivingGateway) -> Callable[..., dict[str, str]]:
    """Applies keys (and more) by the module alone; returns the values by alias."""

    def act(*keys: dict[str, Any], values: dict[str, str] | None = None, **more: Any) -> dict[str, str]:
        given = values or {key["alias"]: f"sk-{time.monotonic_ns()}-{key['alias']}" for key in keys}
        answer = run_module(
            "gateway_access", url=gateway.url, master_key=gateway.master_key, key_values=given,
            access={"keys": [{"models": ["alpha"], **key} for key in keys], **more},
        )  # fmt: skip
        assert "msg" not in answer, answer["msg"]
        return given

    return act


def refusal(answer: httpx.Response) -> tuple[int, str]:
    error = answer.json().get("error", {})
    return answer.status_code, str(error.get("type", ""))


def test_a_dry_run_says_what_would_be_made_and_makes_nothing(site: DeclaredSite, gateway: LivingGateway) -> None:
    site.declare(ACCESS)

    run = site.apply("--check")

    assert not run.failed, run.output
    assert "create key search-prod" in run.output
    assert [] == gateway.ask("/team/list")
    assert not (site.directory / "group_vars/all/vault_access.yml").exists()


def test_what_is_declared_is_made_and_a_second_run_changes_nothing(
    applied: DeclaredSite, gateway: LivingGateway
) -> None:
    again = applied.apply()

    assert 0 == again.changed_count, again.output
    (team,) = gateway.ask("/team/list")
    assert ["jiwoo", "minho"] == sorted(member["user_id"] for member in team["members_with_roles"])
    assert (100.0, 80.0, "30d", 600) == tuple(
        team[name] for name in ("max_budget", "soft_budget", "budget_duration", "rpm_limit")
    )
    keys = {key["key_alias"]: key for key in gateway.ask("/key/list", return_full_object="true")["keys"]}
    assert {"search-prod", "jiwoo-laptop"} == set(keys)
    assert (10.0, 50, 100000, 4) == tuple(
        keys["search-prod"][name] for name in ("max_budget", "rpm_limit", "tpm_limit", "max_parallel_requests")
    )
    assert 8.0 == keys["search-prod"]["litellm_budget_table"]["soft_budget"]
    assert {"owner": "jiwoo", "appliance": {"declared": True, "tags": ["prod"]}} == keys["search-prod"]["metadata"]
    users = {user["user_id"]: user for user in gateway.ask("/user/list")["users"]}
    assert "internal_user_viewer" == users["jiwoo"]["user_role"]
    assert (vault := applied.directory / "group_vars/all/vault_access.yml").read_text().startswith("$ANSIBLE_VAULT")
    assert 0o600 == vault.stat().st_mode & 0o777


def test_a_key_opens_its_models_and_no_other(applied: DeclaredSite, gateway: LivingGateway) -> None:
    value = applied.value("search-prod")

    assert httpx.codes.OK == gateway.chat(value, model="alpha").status_code
    assert (403, "key_model_access_denied") == refusal(gateway.chat(value, model="beta"))
    assert (401, "token_not_found_in_db") == refusal(gateway.chat("sk-a-key-that-nobody-made"))


def test_a_change_is_a_diff_without_any_secret(applied: DeclaredSite, gateway: LivingGateway) -> None:
    values = [applied.value("search-prod"), applied.value("jiwoo-laptop"), gateway.master_key]
    changed = {**ACCESS, "teams": [{**ACCESS["teams"][0], "budget": 200.0, "members": ["minho"]}]}
    applied.declare(changed)

    run = applied.apply("--diff", "-vvv")

    assert not run.failed, run.output
    assert "change team search (max_budget)" in run.output
    assert "remove member search/jiwoo" in run.output
    assert "-            max_budget: 100.0" in run.output
    assert "+            max_budget: 200.0" in run.output
    assert 200.0 == gateway.ask("/team/list")[0]["max_budget"]
    assert [] == [value for value in values if value in run.output]
    applied.declare(ACCESS)
    assert not applied.apply().failed
    assert 100.0 == gateway.ask("/team/list")[0]["max_budget"]


def test_a_rotated_key_has_a_new_value_and_the_old_one_is_refused(
    applied: DeclaredSite, gateway: LivingGateway
) -> None:
    before = applied.value("jiwoo-laptop")
    assert httpx.codes.OK == gateway.chat(before, model="beta").status_code

    applied.keys("--rotate", "jiwoo-laptop")
    run = applied.apply()
    after = applied.value("jiwoo-laptop")

    assert "rotate key jiwoo-laptop" in run.output
    assert before != after
    assert httpx.codes.OK == gateway.chat(after, model="beta").status_code
    assert {401} == {gateway.chat(before, model="beta").status_code for _ in range(CHATS_OVER_BOTH_WORKERS)}
    assert 0 == applied.apply().changed_count


def test_a_document_that_does_not_hold_together_changes_nothing(applied: DeclaredSite, gateway: LivingGateway) -> None:
    before = declared_of_keys(gateway)
    applied.declare({"keys": [{"alias": "prod", "models": ["gamma"]}]})

    run = applied.apply()

    assert run.failed
    assert "key prod has model gamma, which is not served" in run.output
    assert before == declared_of_keys(gateway)
    applied.declare(ACCESS)


def declared_of_keys(gateway: LivingGateway) -> list[dict[str, Any]]:
    """The keys as they were declared: LiteLLM books what earlier chats used whenever it pleases."""
    booked_later = {"spend", "total_spend", "updated_at", "last_active"}
    keys = gateway.ask("/key/list", return_full_object="true")["keys"]
    return [{name: value for name, value in key.items() if name not in booked_later} for key in keys]


def test_what_is_not_declared_any_more_is_gone(applied: DeclaredSite, gateway: LivingGateway) -> None:
    value = applied.value("search-prod")
    applied.declare({"keys": [ACCESS["keys"][1]], "users": [ACCESS["users"][0]]})

    run = applied.apply()

    assert not run.failed, run.output
    assert [] == gateway.ask("/team/list")
    assert {401} == {gateway.chat(value).status_code for _ in range(CHATS_OVER_BOTH_WORKERS)}
    users = {user["user_id"] for user in gateway.ask("/user/list")["users"]}
    assert "jiwoo" in users
    assert "minho" not in users
    assert 0 == applied.apply().changed_count


def test_keys_of_others_are_left_alone(apply: Callable[..., dict[str, str]], gateway: LivingGateway) -> None:
    headers = {"Authorization": f"Bearer {gateway.master_key}"}
    made = httpx.post(f"{gateway.url}/key/generate", json={"key_alias": "theirs"}, headers=headers, trust_env=False)

    apply()

    assert httpx.codes.OK == gateway.chat(made.json()["key"]).status_code


def test_requests_per_minute_are_counted_over_both_workers(
    apply: Callable[..., dict[str, str]], gateway: LivingGateway
) -> None:
    value = apply({"alias": "slow", "requests_per_minute": 2})["slow"]

    answers = [gateway.chat(value) for _ in range(6)]

    assert 2 == sum(answer.status_code == httpx.codes.OK for answer in answers)
    assert (429, "throttling_error") == refusal(answers[-1])


def test_parallel_requests_are_limited_for_a_key(apply: Callable[..., dict[str, str]], gateway: LivingGateway) -> None:
    value = apply({"alias": "double", "models": ["slow"], "parallel_requests": 2})["double"]

    statuses = at_once(gateway, [value] * 6)

    assert {httpx.codes.OK: 2, httpx.codes.TOO_MANY_REQUESTS: 4} == statuses


def test_parallel_requests_are_limited_for_the_whole_gateway_and_free_again_afterwards(
    apply: Callable[..., dict[str, str]], gateway: LivingGateway
) -> None:
    values = list(apply(*({"alias": f"one-of-{number}", "models": ["slow"]} for number in range(4))).values())

    crowd = at_once(gateway, values * 5)
    later = at_once(gateway, values)

    assert {httpx.codes.OK: PARALLEL_REQUESTS, httpx.codes.TOO_MANY_REQUESTS: 20 - PARALLEL_REQUESTS} == crowd
    assert {httpx.codes.OK: 4} == later


def at_once(gateway: LivingGateway, values: list[str]) -> Counter[int]:
    """How the gateway answers slow chats that come together."""
    with ThreadPoolExecutor(len(values)) as pool:
        return Counter(pool.map(lambda value: gateway.chat(value, model="slow").status_code, values))


def test_a_spent_budget_stops_key_and_team_until_it_is_raised(
    apply: Callable[..., dict[str, str]], gateway: LivingGateway
) -> None:
    team = {"name": "poor", "models": ["alpha"], "budget": 0.005}
    keys = [{"alias": "cheap", "budget": 0.005}, {"alias": "teamed", "team": "poor"}]
    values = apply(*keys, teams=[team])

    for value in values.values():
        assert httpx.codes.OK == gateway.chat(value).status_code
        assert (422, "budget_exceeded") == refusal(eventually_refused(gateway, value))
    apply({**keys[0], "budget": 5.0}, keys[1], teams=[team], values=values)

    assert httpx.codes.OK == gateway.chat(values["cheap"]).status_code


def eventually_refused(gateway: LivingGateway, value: str) -> httpx.Response:
    """Spend is known a moment after the answer, so one more request may pass."""
    ends_at = time.monotonic() + WRITTEN_SECONDS
    answer = gateway.chat(value)
    while answer.status_code == httpx.codes.OK and time.monotonic() < ends_at:
        time.sleep(0.5)
        answer = gateway.chat(value)
    return answer


def test_an_expired_key_is_refused(apply: Callable[..., dict[str, str]], gateway: LivingGateway) -> None:
    for seconds in (10, 60, 180):  # a starved machine may need longer for a key and its first chat
        end = datetime.now(UTC) + timedelta(seconds=seconds)
        value = apply({"alias": f"brief-{seconds}", "expires": end.isoformat()})[f"brief-{seconds}"]
        first = gateway.chat(value)
        if datetime.now(UTC) < end:
            break

    time.sleep(max(0.0, (end - datetime.now(UTC)).total_seconds()) + 2)

    assert httpx.codes.OK == first.status_code
    assert {(401, "expired_key")} == {refusal(gateway.chat(value)) for _ in range(CHATS_OVER_BOTH_WORKERS)}


def test_a_revoked_key_is_refused_by_every_worker_at_once_and_comes_back(
    apply: Callable[..., dict[str, str]], gateway: LivingGateway
) -> None:
    values = apply({"alias": "lost"})
    warm = {gateway.chat(values["lost"]).status_code for _ in range(CHATS_OVER_BOTH_WORKERS)}

    apply({"alias": "lost", "revoked": True}, values=values)
    revoked = {gateway.chat(values["lost"]).status_code for _ in range(CHATS_OVER_BOTH_WORKERS)}
    apply({"alias": "lost"}, values=values)

    assert ({200}, {401}) == (warm, revoked)
    assert httpx.codes.OK == gateway.chat(values["lost"]).status_code


def test_with_a_grace_both_values_work_until_it_is_over(
    apply: Callable[..., dict[str, str]], gateway: LivingGateway
) -> None:
    old = apply({"alias": "moving", "budget": 1.0})["moving"]
    assert httpx.codes.OK == gateway.chat(old).status_code
    ends_at = time.monotonic() + WRITTEN_SECONDS
    while spend_of(gateway, "moving") < 0.003:
        assert time.monotonic() < ends_at, "the spend of the first chat was never written"
        time.sleep(0.5)

    for grace in (15, 90):  # a starved machine may need longer for two chats
        begun = time.monotonic()
        new = apply({"alias": "moving", "budget": 1.0}, rotation_grace=f"{grace}s")["moving"]
        rotated = time.monotonic()
        both = [gateway.chat(value).status_code for value in (old, new)]
        if time.monotonic() - begun < grace:
            break
        old = new
    spend = spend_of(gateway, "moving")
    time.sleep(max(0.0, grace + 2 - (time.monotonic() - rotated)))
    over = gateway.chat(old).status_code
    apply({"alias": "moving", "budget": 1.0}, values={"moving": new}, rotation_grace=f"{grace}s")

    assert [200, 200] == both
    assert spend >= 0.003
    assert 401 == over
    assert ["moving"] == [alias for alias in aliases(gateway) if alias.startswith("moving")]


def spend_of(gateway: LivingGateway, alias: str) -> float:
    (row,) = gateway.ask("/key/list", return_full_object="true", key_alias=alias)["keys"]
    return float(row["spend"])


def aliases(gateway: LivingGateway) -> list[str]:
    return [key["key_alias"] or "" for key in gateway.ask("/key/list", return_full_object="true")["keys"]]


def test_the_dashboard_opens_to_its_own_password_and_no_longer_to_the_master_key(gateway: LivingGateway) -> None:
    page = httpx.get(f"{gateway.url}/ui/", timeout=60, trust_env=False, follow_redirects=True)

    assert (200, True) == (page.status_code, "<html" in page.text.lower())
    assert httpx.codes.OK == login(gateway, gateway.dashboard_password).status_code
    assert login(gateway, gateway.dashboard_password).json()["token"]
    assert httpx.codes.UNAUTHORIZED == login(gateway, gateway.master_key).status_code


def login(gateway: LivingGateway, password: str) -> httpx.Response:
    """As the dashboard's own form does it."""
    answer = {"username": "admin", "password": password}
    return httpx.post(f"{gateway.url}/v2/login", json=answer, timeout=60, trust_env=False)


def test_at_last_the_budget_of_the_whole_gateway_stops_everybody(
    apply: Callable[..., dict[str, str]], gateway: LivingGateway
) -> None:
    """The last test of this file: no chat is answered after it."""
    values = apply({"alias": "spender"}, {"alias": "bystander"})

    assert httpx.codes.OK == gateway.chat(values["bystander"]).status_code
    assert httpx.codes.OK == gateway.chat(values["spender"], max_tokens=5000).status_code

    assert (422, "budget_exceeded") == refusal(eventually_refused(gateway, values["bystander"]))

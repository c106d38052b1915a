"""Faults of an acceptance: what is broken where, what the two arrangements are, and how it stands in the report."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from benchmarks import fault_view
from benchmarks.accept.faults import Breaking, books_of, faults_of
from benchmarks.accept.hosts import Hosts, Inventory
from benchmarks.accept.loopback_failover import repeats_for
from benchmarks.accept.run import AcceptanceRun, Wanted
from benchmarks.acceptance_page import render_page
from benchmarks.errors import BadLoad
from benchmarks.failover import arrangements
from benchmarks.failover.findings import none_of_the_new_failed
from benchmarks.failover.litellm_program import PROGRAM_VARIABLE, litellm_program
from benchmarks.failover.litellm_settings import defaults, of_the_appliance
from benchmarks.failover.loopback import DEFAULTS
from benchmarks.result import Criterion, FaultResult, SuiteResult
from benchmarks.suites.failover import APPLIANCE
from sizing.acceptance_criteria import AcceptanceCriteria
from sizing.plan import Plan
from tests.fakes.lab_site import GEMMA, QWEN, plan_content
from tests.unit.test_benchmarks_acceptance import acceptance


class Written(Hosts):
    """Plays nothing and writes down what was to be played."""

    played: list[tuple[str, Mapping[str, object]]] = []  # noqa: RUF012  emptied by `written`

    def play(self, name: str, variables: Mapping[str, object]) -> None:
        self.played.append((name, variables))


@pytest.fixture
def written(tmp_path: Path) -> Written:
    Written.played.clear()
    return Written(site=tmp_path, log=tmp_path / "log")


def breaking(hosts: Hosts, *, program: str = "") -> Breaking:
    return Breaking(plan=Plan.parse(plan_content(), origin="plan"), hosts=hosts, database_host="h1", program=program)


def fault_result(name: str = "stream cut", *, arrangement: str = APPLIANCE, **changes: Any) -> FaultResult:
    content: dict[str, Any] = {
        "name": name,
        "arrangement": arrangement,
        "injected_seconds": 5.0,
        "requests": 320,
        "failed": 0,
        "new_requests": 160,
        "duplicated": 0,
        "lost_or_altered": 0,
        "recovery_seconds": 0.0,
        "in_flight": 48,
    }
    return FaultResult.model_validate(content | changes)


def suite(*results: FaultResult, verdict: str = "passed", **changes: Any) -> SuiteResult:
    content: dict[str, Any] = {
        "suite": "failover",
        "question": "?",
        "verdict": verdict,
        "started_at": "2026-11-21T12:00:00+00:00",
        "duration_seconds": 600.0,
        "faults": results,
    }
    return SuiteResult.model_validate(content | changes)


def test_on_a_site_without_a_lab_services_are_killed_and_frozen_through_ansible(written: Written) -> None:
    site = breaking(written)
    model = next(model for model in site.plan.models if model.name == QWEN)

    killed, frozen, relay = faults_of(model, site)
    killed.inject()
    frozen.inject()
    frozen.heal()
    relay.inject()

    names = [(name, given.get("signal_host"), given.get("signal_name")) for name, given in written.played]
    assert [
        ("service_signal.yml", "h2", "SIGKILL"),
        ("service_signal.yml", "h2", "SIGSTOP"),
        ("service_signal.yml", "h2", "SIGCONT"),
        ("service_signal.yml", "h3", "SIGCONT"),
        ("engine_state.yml", None, None),
        ("service_signal.yml", "h1", "SIGKILL"),
    ] == names
    assert "relay@tiny-qwen3.service" == written.played[-1][1]["signal_unit"]
    assert [False, False, True] == [one.streams_may_break for one in (killed, frozen, relay)]


def test_where_the_inventory_names_a_lab_whole_hosts_are_broken_and_books_are_read(written: Written) -> None:
    site = breaking(written, program="tests/lab/lab")
    model = next(model for model in site.plan.models if model.name == QWEN)

    names = [fault.name for fault in faults_of(model, site)]

    assert {"engine host powered off", "PostgreSQL stopped", "Redis stopped"} <= set(names)
    assert ["relay ledger", "gateway spend"] == [book.name for book in books_of(site)]
    assert () == books_of(breaking(written))


def test_a_model_with_one_engine_is_not_broken(written: Written) -> None:
    site = breaking(written, program="tests/lab/lab")
    model = next(model for model in site.plan.models if model.name == GEMMA)

    assert () == faults_of(model, site)


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        ({}, ""),
        ({"quick": True}, "left out by --quick"),
        ({"quick": True, "suites": ("failover",)}, "left out by --quick"),
        ({"suites": ("failover",)}, ""),
        ({"suites": ("smoke",)}, "left out by --suite"),
    ],
)
def test_a_quick_run_breaks_nothing_and_one_suite_can_be_asked_for(wanted: dict[str, Any], reason: str) -> None:
    run = AcceptanceRun(
        wanted=Wanted(site=Path("site"), **wanted),
        inventory=Inventory(master_key="", engine_key=""),
        tell=lambda _: None,
    )

    assert reason == run._why_not("failover")
    assert "failover" in AcceptanceCriteria().suites


def test_enough_runs_are_made_for_the_agreed_number_of_new_requests() -> None:
    assert [1, 1, 2, 5] == [repeats_for(count) for count in (1, 2000, 2200, 10_000)]


def test_the_appliances_gateway_goes_on_from_no_text_and_retries_nothing_that_the_relay_gave_up() -> None:
    settings = of_the_appliance("http://127.0.0.1:4101", model="fault", max_model_len=8192)

    (deployment,) = settings["model_list"]
    assert "http://127.0.0.1:4101/v1" == deployment["litellm_params"]["api_base"]
    assert 0 == deployment["litellm_params"]["max_retries"]
    assert settings["router_settings"]["enable_mid_stream_fallback_continuation"] is False
    assert {0} == set(settings["router_settings"]["model_group_retry_policy"]["fault"].values())
    assert "database_url" not in settings["general_settings"]
    assert "redis_host" not in settings["router_settings"]


def test_what_stands_beside_is_a_list_of_engines_and_nothing_else() -> None:
    class Engine:
        name, address = "engine-1", "http://127.0.0.1:8001"

        def pause(self) -> None: ...
        def proceed(self) -> None: ...
        def restart(self) -> None: ...

    settings = defaults([Engine()], model="fault")

    assert {"model_list", "general_settings"} == set(settings)
    assert {"master_key"} == set(settings["general_settings"])
    assert "http://127.0.0.1:8001/v1" == settings["model_list"][0]["litellm_params"]["api_base"]


def test_a_named_program_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(PROGRAM_VARIABLE, str(tmp_path / "none"))

    with pytest.raises(BadLoad, match="there is no such program"):
        litellm_program()


def test_without_the_wheels_litellm_is_not_at_hand(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(PROGRAM_VARIABLE, raising=False)
    monkeypatch.setenv("LLM_APPLIANCE_CACHE", str(tmp_path))

    assert litellm_program() is None


def test_the_appliance_is_judged_and_what_stands_beside_it_is_shown() -> None:
    tuned = suite(fault_result(held=True), notes=("texts",), histories=("a",))
    beside = suite(fault_result(arrangement=DEFAULTS, failed=90), verdict="invalid", objections=("late",))

    both = arrangements.joined([tuned, beside])

    assert "passed" == both.verdict
    assert [APPLIANCE, DEFAULTS] == [fault.arrangement for fault in both.faults]
    assert ("texts", "beside, and not judged: late") == both.notes
    assert "its program is not at hand" in arrangements.joined([tuned]).notes[-1]


def test_the_page_has_every_fault_with_both_arrangements_and_their_sums() -> None:
    tuned = fault_result(
        held=True,
        ejected_seconds=0.04,
        restarted_seconds=1.5,
        restarted_by_itself=False,
        gap_p50_seconds=0.12,
        gap_p99_seconds=0.31,
        gap_agreed_seconds=1.0,
        texts_compared=320,
        texts_equal=320,
        used_tokens={"clients": 30_100, "relay ledger": 30_100},
    )
    beside = fault_result(
        arrangement=DEFAULTS,
        failed=41,
        failures={"cut": 40, "server_error": 1},
        new_failed=20,
        truncated=40,
        wrong=3,
        false_ends=3,
        broken_in_flight=24,
    )

    page = render_page(acceptance(suites=(suite(tuned, beside),)))

    assert "0 of 320" in page
    assert "44 of 320" in page  # 41 failed and 3 deceived
    assert "41 (40 cut, 1 server error)" in page
    assert "40 cut short, 3 false end" in page
    assert "1.50 s after mending" in page
    assert "30,100 told, 30,100 relay ledger" in page
    assert "0.12 s / 0.31 s" in page
    assert "s, p50 to p99 (dot)" in page
    assert ">held</span>" in page


def test_of_many_faults_the_page_lists_what_was_missed_and_the_sum() -> None:
    criteria = tuple(
        Criterion(name=f"criterion {number}", agreed="a", seen="b", passed=number != 3) for number in range(20)
    )

    page = render_page(acceptance(suites=(suite(fault_result(), verdict="failed", criteria=criteria),)))

    assert "criterion 3" in page
    assert "criterion 19" in page
    assert "criterion 4<" not in page
    assert "18 more criteria, all met" in page


def test_streams_that_were_agreed_to_break_are_named_in_the_sum() -> None:
    relay = fault_result("relay killed", held=True, failed=45, agreed_failed=45, failures={"cut": 45}, truncated=45)

    page = render_page(acceptance(suites=(suite(relay),)))

    assert "45 as agreed: on what was killed under them" in page
    assert "45 (45 cut; 45 as agreed)" in page


def test_a_fault_that_struck_nothing_is_missed_on_the_page() -> None:
    nothing = fault_result(held=False, struck_count=0, in_flight=0)
    criterion = Criterion(name="it struck", agreed="in each of 1 runs", seen="in 0", passed=False)

    page = render_page(acceptance(suites=(suite(nothing, verdict="failed", criteria=(criterion,)),)))

    assert "struck in 0 of 1 runs" in page
    assert ">missed</span>" in page


def test_new_requests_of_all_faults_are_summed_up_and_must_be_enough() -> None:
    enough = [fault_result(str(number)) for number in range(13)]

    assert none_of_the_new_failed(enough, at_least=2000).passed
    assert "0 failed of 2,080" == none_of_the_new_failed(enough, at_least=2000).seen
    assert not none_of_the_new_failed(enough[1:], at_least=2000).passed
    assert not none_of_the_new_failed([*enough, fault_result(new_failed=1)], at_least=2000).passed


def test_faults_of_one_name_stand_together() -> None:
    one, two, beside = fault_result("a"), fault_result("b"), fault_result("a", arrangement=DEFAULTS)

    groups = fault_view.groups_of([one, two, beside])

    assert [("a", 2), ("b", 1)] == [(group.name, len(group.rows)) for group in groups]
    assert ["shown", "shown"] == [group.status for group in groups]
    assert [APPLIANCE, DEFAULTS] == [line.arrangement for line in fault_view.sums_of([one, two, beside])]

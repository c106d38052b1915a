"""What is forecast beside what was measured, and what services hold, as their hosts say it."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from benchmarks.accept.forecasts import forecasts
from benchmarks.accept.hosts import Hosts, HostsFailed
from benchmarks.accept.witness import Observer
from benchmarks.acceptance import Prediction, checklist
from benchmarks.acceptance_page import render_page
from benchmarks.errors import BadLoad
from benchmarks.result import Measurement, Series
from sizing.acceptance_criteria import AcceptanceCriteria
from sizing.plan import Plan
from sizing.site import Site
from tests.fakes.ansible_module import run_module
from tests.fakes.lab_site import GEMMA, QWEN, plan_content
from tests.unit.test_benchmarks_acceptance import ALL, acceptance, suite
from tests.unit.test_placement import TINY_QWEN3, cpu_host

MEASURED = (Measurement(name="TTFT p50", unit="ms", value=5.0), Measurement(name="TPOT p50", unit="ms", value=2.0))


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """What forecasts read of a site: hosts like the lab's, and one model's config.json."""
    (tmp_path / QWEN).mkdir()
    (tmp_path / QWEN / "config.json").write_text(json.dumps(TINY_QWEN3), encoding="utf-8")
    hardware = {name: cpu_host(name) for name in ("h2", "h3")}
    return cast("Site", SimpleNamespace(hardware=hardware, model_store=tmp_path))


def test_speed_at_the_agreed_load_is_forecast_with_an_interval_and_stands_beside_what_was_measured(site: Site) -> None:
    measured = suite(suite="agreed_load", subject=QWEN, measurements=MEASURED)

    found, notes = forecasts(site, Plan.parse(plan_content(), origin="test"), AcceptanceCriteria(), [measured])

    seen = {one.name: one for one in found}
    assert () == notes
    assert {QWEN} == {one.subject for one in found}
    assert [5.0, None, 2.0, None] == [one.measured for one in found]
    first = seen["TTFT p50 at the agreed load"]
    assert (first.predicted_low or 0) < first.predicted < (first.predicted_high or 0)
    assert "extrapolated: nobody measured this device; give --calibration" in first.note


def test_what_an_overloaded_client_measured_stands_beside_no_forecast(site: Site) -> None:
    invalid = suite(suite="agreed_load", subject=QWEN, measurements=MEASURED, verdict="invalid")

    found, _ = forecasts(site, Plan.parse(plan_content(), origin="test"), AcceptanceCriteria(), [invalid])

    assert {None} == {one.measured for one in found}


def test_a_model_that_sizing_does_not_know_has_no_forecast_and_the_report_says_why(site: Site) -> None:
    agreed = AcceptanceCriteria(loaded_models=(GEMMA,))

    found, notes = forecasts(site, Plan.parse(plan_content(), origin="test"), agreed, [])

    assert () == found
    assert notes[0].startswith(f"no speed is predicted for {GEMMA}: ")


def test_a_forecast_that_missed_does_not_stand_against_the_site() -> None:
    missed = Prediction(
        subject=QWEN, name="TTFT", unit="ms", predicted=2, predicted_low=1, predicted_high=4, measured=9, binding=False
    )

    judged = acceptance(predictions=(missed,))

    assert missed.holds is False
    assert judged.accepted
    assert "outside" in render_page(judged)


def test_a_load_generator_that_was_late_is_not_shown_as_the_sites_failure() -> None:
    late = suite(verdict="invalid", objections=("schedule delay p99 247 ms passes 100 ms",))

    judged = acceptance(suites=(late,))
    page = render_page(judged)

    assert "not judged" == judged.outcome
    assert "lab is not judged" in page
    assert "Not the site but the machine that sent the load was too slow" in page
    assert "missed" not in page


def test_an_added_latency_that_could_not_be_compared_is_not_judged_either() -> None:
    late = suite(suite="gateway_overhead", verdict="invalid", objections=("schedule delay p99 247 ms passes 100 ms",))
    items = checklist(ALL | {"added_latency": ("not available", "our own load generator was late")})

    judged = acceptance(suites=(late,), checklist=items)

    assert ("not judged", False, 1) == (judged.outcome, judged.accepted, len(judged.objections))


def test_every_service_gets_a_line_in_the_charts_however_many_there_are() -> None:
    series = tuple(
        Series(name=f"memory of service-{number}", unit="bytes", points=((0.0, 1e6), (60.0, 1e6)))
        for number in range(7)
    )

    page = render_page(acceptance(suites=(suite(suite="soak", series=series),)))

    assert [True] * 7 == [f"service-{number}" in page for number in range(7)]


def test_memory_of_a_unit_is_that_of_its_main_process_and_all_below(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    systemctl = tmp_path / "systemctl"
    systemctl.write_text('#!/bin/sh\ncase "$*" in *running*) echo 70;; *) echo 0;; esac\n')
    systemctl.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    proc = tmp_path / "proc"
    for process, parent, pss in ((70, 1, 100), (71, 70, 20), (72, 71, 3), (80, 1, 5000)):
        (proc / str(process)).mkdir(parents=True)
        (proc / str(process) / "stat").write_text(f"{process} (a (b) c) S {parent} 1 1")
        (proc / str(process) / "smaps_rollup").write_text(f"Rss:  9999 kB\nPss:  {pss} kB\nPss_Anon: 1 kB\n")
    run_module("observe_memory", units=[])
    monkeypatch.setattr("observe_memory.PROC", proc)

    answer = run_module("observe_memory", units=["running.service", "stopped.service"])

    assert {"running.service": 123 * 1024, "stopped.service": None} == answer["held"]


class _Said(Hosts):
    """Hosts whose playbook wrote this document, or failed."""

    content: str = ""

    def play(self, name: str, variables: "dict[str, object]") -> None:  # type: ignore[override]
        assert "witness.yml" == name
        if not _Said.content:
            raise HostsFailed("playbooks/witness.yml ended with 4")
        Path(str(variables["witness_file"])).write_text(_Said.content, encoding="utf-8")


def test_the_soak_learns_the_memory_of_every_service_from_the_witness(tmp_path: Path) -> None:
    observer = Observer(hosts=_Said(site=tmp_path, log=tmp_path / "log"), directory=tmp_path)
    memory = {"h1": {"litellm.service": 300, "relay@chat.service": 40}, "h2": {"vllm@chat.service": None}}

    _Said.content = json.dumps({"schema_version": 1, "moment": "memory", "memory": memory})
    seen = observer.memory_of_services()
    _Said.content = ""

    assert {"litellm on h1": 300, "relay@chat on h1": 40} == seen
    with pytest.raises(BadLoad, match="ended with 4"):
        observer.memory_of_services()

"""`python -m benchmarks suite NAME`, as operators call it: files, exit codes, errors in one line."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks.cli import application
from benchmarks.compare_vllm import agreement
from benchmarks.load import Lengths, Target, Workload
from benchmarks.null_process import ROOT
from benchmarks.result import SuiteResult
from benchmarks.suites.gateway_scaling import Scaling, scaling
from benchmarks.suites.outcome import Logbook
from sizing.errors import SizingError
from tests.fakes.null_site import null_site
from tests.fakes.simulated_site import simulated_site


def suite(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "benchmarks", "suite", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)


def test_a_suite_leaves_its_result_its_pictures_and_its_raw_histories(tmp_path: Path) -> None:
    output = tmp_path / "out"
    with null_site() as (port, _):
        done = suite(
            "smoke", "--host", f"http://127.0.0.1:{port}/v1", "--model-name", "null", "--duration", "0.2", "--rate",
            "40", "--no-calibrate", "--output", str(output),
        )  # fmt: skip
    result = SuiteResult.load(output / "result.json")

    assert done.returncode == {"passed": 0, "invalid": 7}[result.verdict], done.stderr
    assert result.verdict.upper() in done.stdout
    assert "run 1, smoke: 0.2 s at 40 requests/s" in done.stderr
    assert "none failed" in done.stderr
    pictures = sorted(output.glob("*.svg"))
    assert 3 == len(pictures)
    assert "var(" not in pictures[0].read_text(encoding="utf-8")
    assert [f"{result.histories[0]}-000.history"] == [path.name for path in (output / "histories").glob("*.history")]
    assert any(re.search(r"\d cores; load average \d", note) for note in result.notes)


def test_failures_are_named_by_class_and_exit_with_1(tmp_path: Path) -> None:
    with null_site() as (port, _):
        done = suite(
            "smoke", "--host", f"http://127.0.0.1:{port}/v1", "--model-name", "null?fault=missing", "--duration", "0.2",
            "--rate", "20", "--no-calibrate", "--json", "--output", str(tmp_path / "out"),
        )  # fmt: skip
    result = json.loads(done.stdout)

    assert done.returncode in {1, 7}
    assert "not_found" in result["criteria"][0]["seen"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["smoke", "--host", "gateway:4000", "--model-name", "m"], "options: target.base_url: String should match"),
        (["soak", "--host", "http://h/v1", "--model-name", "m", "--duration", "50"], "leaves nothing after --warmup"),
        (["soak", "--host", "http://h/v1", "--model-name", "m", "--watch", "litellm"], "give NAME=PID"),
        (
            ["context", "--host", "http://h/v1", "--model-name", "m", "--max-input-tokens", "1000", "--window-tokens",
             "1200", "--engine-log", "/no/such.log"],
            "/no/such.log: an engine's log that cannot be read",
        ),
        (
            ["gateway_overhead", "--host", "http://h/v1", "--engine-host", "http://e/v1", "--model-name", "m",
             "--workers", "two"],
            "--workers two: give N=URL",
        ),
    ],
)  # fmt: skip
def test_wrong_options_end_the_command_with_the_reason(arguments: list[str], words: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(application(["suite"]), ["suite", *arguments, "--output", str(tmp_path / "out")])

    assert isinstance(done.exception, SizingError)
    assert words in str(done.exception)
    assert 2 == done.exception.exit_code


def test_an_error_is_one_line_and_exit_code_2() -> None:
    done = suite("smoke", "--host", "gateway:4000", "--model-name", "m")

    assert 2 == done.returncode
    assert done.stderr.startswith("error: options: target.base_url: ")
    assert 1 == done.stderr.count("\n")


def test_chunks_per_second_grow_with_the_workers_that_a_gateway_has() -> None:
    # each worker has 4 slots, busy 20 + 7 * 10 = 90 ms for 8 tokens: 355 chunks/s
    targets = {count: Target(base_url=f"http://127.0.0.{count}/v1", model="null") for count in (1, 2, 9)}
    sites = {f"http://127.0.0.{count}/v1": simulated_site(slots=4 * count) for count in targets}
    asked = Scaling(
        gateways={1: targets[1], 2: targets[2]},
        engine=targets[9],
        workload=Workload(output=Lengths(mean_tokens=8)),
        rounds=2,
        seconds=6,
        warmup_seconds=2,
    )
    book = Logbook(suite="gateway_overhead", question="")

    found = scaling(lambda load: sites[load.target.base_url](load), book, asked)
    values = {measured.name: measured.value for measured in found}

    assert 355 == pytest.approx(values["chunks/s through 1 worker"], rel=0.05)
    assert 355 == pytest.approx(values["chunks/s per worker of 2 workers"], rel=0.05)
    assert 2 == pytest.approx(values["growth from 1 to 2 workers"], rel=0.05)
    assert [] == book.notes


def test_an_engine_that_is_full_before_the_gateway_is_said_to_be() -> None:
    target = Target(base_url="http://127.0.0.1/v1", model="null")
    asked = Scaling(
        gateways={1: target},
        engine=target,
        workload=Workload(output=Lengths(mean_tokens=8)),
        rounds=2,
        seconds=6,
        warmup_seconds=2,
    )
    book = Logbook(suite="gateway_overhead", question="")

    scaling(simulated_site(slots=4), book, asked)

    assert "lower bound" in book.notes[0]


def test_two_tools_agree_within_5_percent_or_within_what_one_differs_from_itself() -> None:
    close = agreement("x", [100, 101, 100], [104, 104, 104])
    apart = agreement("x", [100, 101, 100], [110, 110, 110])
    noisy = agreement("x", [100, 115, 100], [110, 110, 110])

    assert [True, False, True] == [close.agrees, apart.agrees, noisy.agrees]
    assert 10 / 110 == pytest.approx(apart.difference_ratio)
    assert 0.01 == pytest.approx(apart.spread_ratio)

"""Runs that say nothing about the server are called invalid, and histories of dead processes are recognised."""

from pathlib import Path

import numpy
import pytest
from typer.testing import CliRunner

from benchmarks import metrics
from benchmarks.calibrate import Step
from benchmarks.cli import application
from benchmarks.driver import Effort
from benchmarks.errors import BadLoad
from benchmarks.history import HistoryWriter, load_history
from benchmarks.metrics import Objective, samples_of, summarize
from benchmarks.record import Record
from benchmarks.validity import Capacity, busiest_ratio, objections
from tests.fakes.forged_history import MILLISECOND, event, history, record, tokens
from tests.fakes.null_site import carry_out, load_for, null_site


def late(number: int, milliseconds: int) -> Record:
    begun = number * 100 * MILLISECOND + milliseconds * MILLISECOND
    return record(number, started_ns=begun, sent_ns=begun, first_byte_ns=begun)


def test_a_schedule_that_slips_makes_the_run_invalid() -> None:
    assert [] == objections(history(*[late(number, 9) for number in range(20)]))
    slipped = objections(history(*[late(number, 11) for number in range(20)]))
    assert ["schedule delay p50 11.0 ms passes 10 ms"] == slipped


def test_a_few_very_late_starts_make_the_run_invalid() -> None:
    records = [late(number, 2 if number % 20 else 150) for number in range(100)]

    assert ["schedule delay p99 150.0 ms passes 100 ms"] == objections(history(*records))


def test_one_busy_second_is_forgiven_and_five_are_not() -> None:
    assert 0.6 == pytest.approx(busiest_ratio(Effort(cpu_ratio=[0.5, 1.0, 0.5, 0.5, 0.5, 0.5])))
    busy = history(record(0), efforts=[Effort(cpu_ratio=[0.1, *[0.95] * 5])])
    assert ["load process 0 used 95% of a core for 5 s"] == objections(busy)


def test_more_chunks_than_half_of_what_the_machine_holds_make_the_run_invalid() -> None:
    capacity = Capacity(streams=1000, events_per_second=20_000, bytes_per_stream=3000)

    within = history(record(0), efforts=[Effort(events=[9_000], in_flight_peak=400)])
    beyond = history(record(0), efforts=[Effort(events=[12_000], in_flight_peak=400)])

    assert [] == objections(within, capacity)
    assert "12000 chunks in a second" in objections(beyond, capacity)[0]


def test_a_process_that_died_and_arrivals_that_were_not_made_are_named() -> None:
    found = objections(history(record(0), scheduled=3, complete=False))

    assert ["a load process died: its history has no trailer", "2 of 3 arrivals were never made"] == found


def test_a_history_survives_the_disk_and_one_without_its_trailer_is_incomplete(tmp_path: Path) -> None:
    load = load_for(1)
    for process, closes in (("000", True), ("001", False)):
        with HistoryWriter(tmp_path, load=load, run_id="r", process=process, started_at=5.0, scheduled=1) as writer:
            writer.write(record(int(process)))
            if closes:
                writer.close(Effort(cpu_ratio=[0.5]))

    found = load_history([tmp_path])

    assert [record(0), record(1)] == list(found.records)
    assert (2, False, load) == (found.scheduled_count, found.complete, found.load)


@pytest.mark.parametrize("content", [b"", b"not a history", b"\x81\xa6format\xa5other"])
def test_a_file_that_is_no_history_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.history").write_bytes(content)

    with pytest.raises(BadLoad, match=r"x\.history: not a"):
        load_history([tmp_path])


def test_every_metric_has_the_value_that_its_definition_gives() -> None:
    """Intended at 0; reasoning at 20 and 30 ms, answer at 50, 60 and 100 ms, usage and [DONE] at 110 ms."""
    thought = [event("run-0-0", {"reasoning_content": " hm"})] * 2
    one = record(0, said=[*thought, *tokens("run-0-0", 3)], times_ms=[20, 30, 50, 60, 100, 110, 110])

    samples = samples_of([one])

    assert (20, 50, 110) == (samples.ttft_ms[0], samples.answer_ms[0], samples.e2e_ms[0])
    assert [10, 20, 10, 40] == samples.itl_ms.tolist()
    assert (20, 22) == (samples.tpot_ms[0], samples.ntpot_ms[0])  # 80 / 4 and 110 / 5
    assert 1 == samples.schedule_delay_ms[0]
    summary = summarize([one], objective=Objective(ttft_ms=20, tpot_ms=20))
    assert 1.0 == summary.good_ratio
    assert 0.0 == summarize([one], objective=Objective(ttft_ms=19)).good_ratio
    assert 2 == summary.reasoning_tokens
    assert 10 / 0.110 == pytest.approx(summary.total_tokens_per_second)  # 5 prompt and 5 output tokens


def test_percentiles_are_not_rounded_to_buckets() -> None:
    found = metrics.spread(numpy.array([146.0, 147.0, 148.0]))

    assert (147.0, 148.0) == (found.p50, found.maximum)


def test_a_calibration_step_holds_only_if_schedule_core_and_streams_held() -> None:
    def step(**changes: float) -> bool:
        numbers = {"schedule_delay_p99_ms": 50.0, "cpu_ratio": 0.5, "failures": 0} | changes
        return Step(
            streams=1000,
            events_per_second=20_000,
            server_cpu_ratio=0.3,
            schedule_delay_p50_ms=1,
            itl_p99_ms=51,
            bytes_per_stream=3000,
            **numbers,
        ).held

    assert step()
    assert not step(schedule_delay_p99_ms=101)
    assert not step(cpu_ratio=0.91)
    assert not step(failures=1)


def test_the_command_line_judges_recorded_runs_again(tmp_path: Path) -> None:
    with null_site() as (port, _):
        for fault in ("", "duplicate"):
            load = load_for(port, model=f"null?fault={fault}", keep_bodies=True)
            directory = tmp_path / (fault or "sound")
            with HistoryWriter(directory, load=load, run_id="r", process="0", started_at=0.0, scheduled=1) as writer:
                for made in carry_out(load):
                    writer.write(made)
                writer.close(Effort())

    sound = CliRunner().invoke(application(["check-history"]), ["check-history", str(tmp_path / "sound")])
    broken = CliRunner().invoke(application(["check-history"]), ["check-history", str(tmp_path / "duplicate")])

    assert (0, "0 defects in 1 streams (evidence for the text: 1 numbered)\n") == (sound.exit_code, sound.stdout)
    assert 1 == broken.exit_code
    assert broken.stdout.startswith("duplicate: run-0-0: token 5 again")

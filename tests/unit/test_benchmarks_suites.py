"""Suites against a simulated site, whose true capacity is known by hand."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest

from benchmarks.driver import Effort
from benchmarks.failover.effects import recovery_seconds
from benchmarks.intervals import mean_interval, percentile_interval, robust_slope, slope_interval
from benchmarks.load import Target, Workload
from benchmarks.metrics import Objective
from benchmarks.record import Record
from benchmarks.running import inline_runner, retrying
from benchmarks.saturation import queueing
from benchmarks.suites.context import context
from benchmarks.suites.failover import Conditions, Fault, failover
from benchmarks.suites.gateway_overhead import gateway_overhead
from benchmarks.suites.smoke import smoke
from benchmarks.suites.soak import soak
from benchmarks.suites.throughput import throughput
from benchmarks.validity import Capacity
from tests.fakes.forged_history import record
from tests.fakes.null_site import load_for, null_site
from tests.fakes.simulated_site import simulated_site

TARGET = Target(base_url="http://127.0.0.1:1/v1", model="null")
# 4 slots, each busy 20 + 7 * 10 = 90 ms per request: 44.4 requests/s, 355 tokens/s
SITE = {"slots": 4, "ttft_ms": 20, "itl_ms": 10, "tokens": 8}


def test_the_sweep_finds_the_capacity_that_the_site_has() -> None:
    told: list[str] = []

    result = throughput(
        simulated_site(**SITE),
        TARGET,
        workload=Workload(),
        first_rate=25,
        seconds=20,
        warmup_seconds=4,
        halvings=3,
        tell=told.append,
    )
    best = max(point.offered_per_second for point in result.rate_points if not point.saturated)
    worst = min(point.offered_per_second for point in result.rate_points if point.saturated)
    output = next(measured for measured in result.measurements if measured.name == "best sustained output")

    assert "passed" == result.verdict
    assert 36 < best < 45.4  # 44.4 and the 2 % that chance may pile up
    assert 44 < worst < 52
    assert 280 < output.value < 370
    assert output.low is not None
    assert output.low <= output.value
    assert len(result.rate_points) == len(told)
    assert {3} == {point.repeats for point in result.rate_points}


def test_a_saturated_site_is_told_from_a_busy_one_by_the_slope_of_its_queue() -> None:
    busy = simulated_site(**SITE)(_load(rate=40, seconds=60))
    drowning = simulated_site(**SITE)(_load(rate=60, seconds=60))
    calm = [simulated_site(**SITE)(_load(rate=2, seconds=60, seed=seed)) for seed in range(20)]

    assert not queueing(busy.records, warmup_seconds=10).saturated
    assert 0 == sum(queueing(run.records, warmup_seconds=10).saturated for run in calm)
    found = queueing(drowning.records, warmup_seconds=10)
    assert found.saturated
    assert 0.20 < found.backlog.value < 0.32  # (60 - 44.4) / 60 = 0.26


def test_a_goal_that_the_site_misses_fails_and_says_by_how_much() -> None:
    result = throughput(
        simulated_site(**SITE),
        TARGET,
        workload=Workload(),
        first_rate=30,
        seconds=30,
        warmup_seconds=5,
        repeats=1,
        agreed_tokens_per_second=500,
    )

    assert "failed" == result.verdict
    assert "at least 500 tokens/s" == result.criteria[0].agreed


def test_the_gateways_share_is_found_within_its_interval() -> None:
    straight = simulated_site(slots=1000, ttft_ms=20)
    through = simulated_site(slots=1000, ttft_ms=27)
    gateway = TARGET.model_copy(update={"base_url": "http://127.0.0.1:2/v1"})

    result = gateway_overhead(
        lambda load: (through if load.target == gateway else straight)(load),
        gateway=gateway,
        engine=TARGET,
        workload=Workload(),
        rate_per_second=10,
        agreed_ttft_ms=5,
    )
    added = {measured.name: measured for measured in result.measurements}

    assert 7 == added["added TTFT p50"].value
    assert 0 == added["added ITL p50"].value
    assert 1 == pytest.approx(added["throughput through the gateway / straight"].value, abs=0.02)
    assert "failed" == result.verdict
    assert "at most 5 ms" == result.criteria[1].agreed


def windowed_site(load: Any) -> Any:
    """Refuses prompts of more than 1000 tokens and more than 1200 with their answer; ids are the loads' names."""

    def answer(served: Record) -> Record:
        served = dataclasses.replace(served, request_id=load.name)
        tokens = load.workload.prompt.mean_tokens
        if tokens > 1000 or tokens + load.workload.output.mean_tokens > 1200:
            return dataclasses.replace(
                served, outcome="rejected", status=400, event_kind=b"", event_ns=b"", event_crc=b""
            )
        usage = b'{"usage":{"prompt_tokens":%d,"completion_tokens":4}}' % tokens
        return dataclasses.replace(served, usage=usage, prompt_tokens=tokens)

    return simulated_site(spoil=answer)(load)


def context_of(
    seen: Callable[[str], bool], *, max_input_tokens: int = 1000, window_tokens: int = 1200
) -> dict[str, bool]:
    result = context(
        windowed_site,
        TARGET,
        max_input_tokens=max_input_tokens,
        window_tokens=window_tokens,
        tokenizer=None,
        engine_log_contains=seen,
        log_seconds=0,
    )
    return {criterion.name: criterion.passed for criterion in result.criteria} | {"": result.verdict == "passed"}


def test_a_context_suite_wants_everything_inside_answered_and_everything_beyond_refused() -> None:
    refused = ("context-101", "context-window-over")

    good = context_of(lambda request_id: request_id not in refused)
    leaky = context_of(lambda request_id: request_id not in refused, max_input_tokens=900, window_tokens=1100)

    assert good[""], good
    assert 10 == len(good) - 1
    assert not leaky[""]
    assert not leaky["a prompt of 909 tokens (101% of max_input_tokens)"]


def test_absence_from_the_engines_logs_proves_nothing_unless_accepted_requests_are_in_them() -> None:
    silent, talkative = context_of(lambda _: False), context_of(lambda _: True)
    absence = "a prompt of 1010 tokens (101% of max_input_tokens): request id in the engines' logs"

    assert not silent["accepted requests: request ids in the engines' logs"]
    assert not silent[absence]
    assert talkative["accepted requests: request ids in the engines' logs"]
    assert not talkative[absence]


def test_a_soak_tells_drift_from_noise() -> None:
    arguments: dict[str, Any] = {"workload": Workload(), "rate_per_second": 0.8, "seconds": 3600, "warmup_seconds": 60}

    steady = soak(simulated_site(**SITE), TARGET, **arguments)
    slower = soak(simulated_site(**SITE, grows_ms_per_second=0.01), TARGET, **arguments)
    drift = next(measured for measured in slower.measurements if measured.name == "TTFT p50 drift")

    assert "passed" == steady.verdict, steady.criteria
    assert "failed" == slower.verdict
    assert 36 == pytest.approx(drift.value, rel=0.1)  # 0.01 ms per second are 36 ms per hour


def test_a_failover_counts_failures_of_text_and_time_to_recovery() -> None:
    def spoil(served: Record) -> Record:
        if not 15e9 <= served.intended_ns < 20e9:
            return served
        return dataclasses.replace(served, outcome="cut", event_kind=b"", event_ns=b"", event_crc=b"", body=b"")

    actions: list[str] = []
    result = failover(
        simulated_site(spoil=spoil),
        TARGET,
        faults=[
            Fault(name="engine killed", inject=lambda: actions.append("kill"), heal=lambda: actions.append("start"))
        ],
        conditions=Conditions(workload=Workload(), rate_per_second=5, agreed_recovery_seconds=10),
    )

    assert "failed" == result.verdict
    assert 15 < result.faults[0].failed < 40
    assert 4.5 < (result.faults[0].recovery_seconds or 0) < 6.5
    # Simulated time is over before the real thread that injects has waited: nothing was struck, no stream was silent.
    assert [False, False, True, True, True] == [criterion.passed for criterion in result.criteria]


def test_recovery_is_zero_when_nobody_noticed_and_unknown_when_it_never_came() -> None:
    sound, broken = record(0), record(1, outcome="cut")

    assert 0.0 == recovery_seconds([sound], injected_seconds=0.0)
    assert recovery_seconds([sound, broken], injected_seconds=0.0) is None


def test_a_suite_whose_client_was_overloaded_is_invalid_whatever_it_saw() -> None:
    result = smoke(simulated_site(effort=Effort(cpu_ratio=[0.95] * 6)), TARGET)

    assert "invalid" == result.verdict
    assert "95% of a core" in result.objections[0]


def test_a_run_beyond_half_of_the_calibrated_capacity_is_invalid() -> None:
    result = throughput(
        simulated_site(effort=Effort(in_flight_peak=600, cpu_ratio=[0.2])),
        TARGET,
        workload=Workload(),
        first_rate=200,
        seconds=10,
        warmup_seconds=1,
        capacity=Capacity(streams=1000, events_per_second=20_000, bytes_per_stream=8000),
    )

    assert "invalid" == result.verdict
    assert "more than half of the 1000 it holds" in result.objections[0]


def test_a_run_in_which_the_client_was_late_is_made_again_and_named_but_not_for_ever() -> None:
    efforts = [Effort(cpu_ratio=[0.95] * 6), Effort(cpu_ratio=[0.2])]
    made: list[Effort] = []

    def run(load: Any) -> Any:
        made.append(efforts[min(len(made), 1)])
        return simulated_site(effort=made[-1])(load)

    discarded: list[str] = []
    good = smoke(retrying(run, times=2, discarded=discarded), TARGET)
    bad = smoke(retrying(simulated_site(effort=efforts[0]), times=2, discarded=[]), TARGET)

    assert (2, "passed", "invalid") == (len(made), good.verdict, bad.verdict)
    assert ["smoke-run: load process 0 used 95% of a core for 5 s"] == discarded


def test_smoke_passes_on_a_living_server_and_names_what_fails(tmp_path: Path) -> None:
    with null_site() as (port, _):
        target = load_for(port).target
        good = smoke(inline_runner(tmp_path), target, seconds=0.2, rate_per_second=50, objective=Objective(e2e_ms=1e5))
        bad = smoke(
            inline_runner(tmp_path),
            target.model_copy(update={"model": "null?fault=duplicate"}),
            seconds=0.2,
            rate_per_second=50,
        )

    assert [] == [criterion for criterion in good.criteria if not criterion.passed]
    assert 3 == len(good.criteria)
    assert [True, False] == [criterion.passed for criterion in bad.criteria]
    assert "duplicate in" in bad.criteria[1].seen


def test_intervals_hold_the_truth_and_shrink_with_more_samples() -> None:
    generator = numpy.random.default_rng(5)

    found = [percentile_interval(list(generator.normal(100, 10, 100)), 0.5) for _ in range(60)]
    wide, narrow = found[0], percentile_interval(list(generator.normal(100, 10, 5000)), 0.5)

    assert 52 <= sum(interval.low < 100 < interval.high for interval in found) <= 60
    assert narrow.high - narrow.low < (wide.high - wide.low) / 3
    assert (2.0, 2.0, 2.0) == dataclasses.astuple(mean_interval([2.0]))[:3]


def test_samples_of_one_request_are_not_taken_for_many() -> None:
    generator = numpy.random.default_rng(5)
    requests = [numpy.full(100, level) for level in generator.normal(50, 5, 20)]

    together = percentile_interval(requests, 0.5)
    alone = percentile_interval(list(numpy.concatenate(requests)), 0.5)

    assert together.high - together.low > (alone.high - alone.low) * 2


def test_slopes_have_intervals_and_the_robust_one_ignores_a_spike() -> None:
    times = numpy.arange(20.0)
    straight = 3 * times + 1
    spiked = straight.copy()
    spiked[10] += 1000

    assert 3 == pytest.approx(slope_interval(times, straight).value)
    assert 3 == pytest.approx(robust_slope(times, spiked).value)


def _load(*, rate: float, seconds: float, seed: int = 1) -> Any:
    load = load_for(1)
    arrivals = load.arrivals.model_copy(
        update={"kind": "poisson", "rate_per_second": rate, "duration_seconds": seconds}
    )
    return load.model_copy(update={"arrivals": arrivals, "seed": seed})

"""Speed: what a step reads, multiplies and sends, how load tests are replayed, and what calibration makes of them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from benchmarks.speed_check import CALIBRATING, OTHERS, Load, as_bench
from sizing.calibrate_speed import calibrate_speed, loop_limits, replayed
from sizing.calibration import CalibratedSpeed, Calibration, SpeedFactors, SpeedPoint
from sizing.closed_loop import LoopLimits, closed_loop, spread_lengths
from sizing.device import Device
from sizing.efficiency import family_of, peaks_of
from sizing.engine_settings import EngineConfiguration
from sizing.errors import DocumentError
from sizing.model_facts import load_model_facts
from sizing.speed import StepTime
from sizing.speed_reports import speed_points
from sizing.step_bytes import StoredAs, step_bytes
from sizing.step_operations import causal_pairs, traffic
from sizing.units import GIB
from sizing.weights import pipeline_stages
from tests.command_line import llm_size
from tests.fakes.engines import on_gpu

DENSE = load_model_facts("Qwen/Qwen3-32B")
WHOLE = pipeline_stages(64, 1)[0]


@dataclass(frozen=True)
class _TenMilliseconds:
    """Stands for StepTime where every step takes the same, and none is chosen before the last is over."""

    host_overlaps = False

    def step_seconds(self, **_: int) -> float:
        return 0.01


def _engine(**options: object) -> EngineConfiguration:
    return replace(on_gpu("Qwen/Qwen3-32B", "B200"), max_model_len=8192, **options)  # type: ignore[arg-type]


def test_a_step_of_a_dense_model_reads_every_matrix_once_and_the_cache_of_every_token() -> None:
    reads = step_bytes(DENSE, shards=1, stage=WHOLE, element_bytes=2, kv_element_bytes=2)

    # a layer: qkv 10240 x 5120, o 5120 x 8192, gate and up 51200 x 5120, down 5120 x 25600; 64 layers, two bytes each
    assert (31_205_621_760, 62_411_243_520) == (reads.weights[0].multiplications, reads.weights[0].total_bytes)
    assert reads.head is not None and 151_936 * 5120 * 2 == reads.head.total_bytes
    assert 64 * 2 * 8 * 128 * 2 == reads.cache.bytes_per_token


def test_four_bits_and_their_scales_are_read_where_the_checkpoint_is_stored_so() -> None:
    reads = step_bytes(
        DENSE, shards=1, stage=WHOLE, element_bytes=2, kv_element_bytes=2, stored_as=StoredAs(linears="int4")
    )

    assert ("int4", 31_205_621_760 * 4.25 / 8) == (reads.weights[0].format, reads.weights[0].total_bytes)


def test_two_tokens_hit_fifteen_and_a_half_of_128_experts_when_each_visits_eight() -> None:
    model = load_model_facts("Qwen/Qwen3-30B-A3B")
    reads = step_bytes(model, shards=1, stage=pipeline_stages(48, 1)[0], element_bytes=2, kv_element_bytes=2).experts[0]

    assert pytest.approx((8.0, 15.5)) == (reads.hit_count(1), reads.hit_count(2))
    assert 3 * 2048 * 768 * 2 == reads.bytes_per_expert


def test_three_tokens_after_two_see_twelve_pairs() -> None:
    assert 12 == causal_pairs(3, 2)


def test_two_ranks_send_each_token_once_in_each_of_128_reductions() -> None:
    sent = traffic(DENSE, shards=2, stage=WHOLE, element_bytes=2)

    assert (128, 128 * 5120 * 2) == (sent.reduce_count, sent.bytes_per_token)


def test_one_decoded_token_takes_longer_than_its_bytes_at_full_bandwidth_and_less_than_twice_that() -> None:
    seconds = StepTime.of(_engine()).step_seconds(decode_count=1, decode_context_tokens=1, prefill_tokens=0)

    at_best = 64e9 / 7.7e12
    assert at_best < seconds < 2 * at_best


def test_a_pipeline_hastens_a_full_batch_and_not_a_single_request() -> None:
    plain, piped = (StepTime.of(_engine(pipeline_parallel_size=size)) for size in (1, 2))

    one = [times.step_seconds(decode_count=1, decode_context_tokens=100, prefill_tokens=0) for times in (plain, piped)]
    many = [
        times.step_seconds(decode_count=0, decode_context_tokens=0, prefill_tokens=8192) for times in (plain, piped)
    ]

    assert one[0] == pytest.approx(one[1], rel=0.02)
    assert many[1] < 0.6 * many[0]


def test_a_card_that_nobody_knows_gets_a_wider_interval_and_says_so() -> None:
    known = _engine()
    strange = replace(known, device=replace(known.device, name="NVIDIA Z999", memory_total_bytes=200 * GIB))

    known_times, strange_times = StepTime.of(known), StepTime.of(strange)

    assert ("calibrated", "extrapolated") == (known_times.provenance, strange_times.provenance)
    assert strange_times.interval_ratio[0] < known_times.interval_ratio[0]
    assert strange_times.interval_ratio[1] > known_times.interval_ratio[1]


def _reached(gpu: str) -> float:
    device = on_gpu("Qwen/Qwen3-8B", gpu).device
    return peaks_of(device).operations_at("plain", family_of(device)) / 1e12


def test_a_card_with_fewer_watts_for_its_peak_reaches_less_of_it_by_the_cube_root() -> None:
    # L40S: 350 W for 362 T, of which 58 % are measured; L4: 72 W for 121 T.
    assert 0.58 * 362 == pytest.approx(_reached("NVIDIA L40S"), rel=0.001)
    assert 0.58 * 121 * ((72 / 121) / (350 / 362)) ** (1 / 3) == pytest.approx(_reached("NVIDIA L4"), rel=0.01)


def test_no_number_of_watts_takes_a_card_beyond_nine_tenths_of_its_peak() -> None:
    device = on_gpu("Qwen/Qwen3-8B", "NVIDIA L40S").device

    cool = replace(peaks_of(device), watts=10_000.0)

    assert 0.9 * 362e12 == pytest.approx(cool.operations_at("plain", family_of(device)), rel=0.001)


def test_without_cuda_graphs_the_times_are_extrapolated() -> None:
    assert ("calibrated", "extrapolated") == (
        StepTime.of(_engine()).provenance,
        StepTime.of(_engine(enforce_eager=True)).provenance,
    )


def test_places_that_free_up_together_are_filled_at_once() -> None:
    # four at a time, all of the same length: the second four are sent when the first four end, at 0.03 s
    result = closed_loop(
        _TenMilliseconds(),  # type: ignore[arg-type]
        LoopLimits(max_num_batched_tokens=100, max_num_seqs=8),
        ((10, 3),) * 8,
        concurrency=4,
    )

    assert pytest.approx((0.06, 0.01)) == (result.duration_seconds, result.ttft_seconds)


def test_a_rate_below_what_the_engine_can_do_sets_the_pace() -> None:
    # one every 0.1 s, each alone: its prompt step and two further ones; the last is sent at 0.3 s
    result = closed_loop(
        _TenMilliseconds(),  # type: ignore[arg-type]
        LoopLimits(max_num_batched_tokens=100, max_num_seqs=8),
        ((10, 3),) * 4,
        concurrency=2,
        requests_per_second=10,
    )

    assert pytest.approx((0.33, 0.01)) == (result.duration_seconds, result.ttft_seconds)


def test_a_closed_loop_of_equal_steps_is_counted_by_hand() -> None:
    # two at a time: one step for both prompts, two for the other tokens; so twice
    result = closed_loop(
        _TenMilliseconds(),  # type: ignore[arg-type]
        LoopLimits(max_num_batched_tokens=100, max_num_seqs=8),
        ((10, 3),) * 4,
        concurrency=2,
    )

    assert pytest.approx((0.06, 200.0)) == (result.duration_seconds, result.output_tokens_per_second)
    assert pytest.approx((0.01, 0.01)) == (result.ttft_seconds, result.tpot_seconds)


def test_a_cache_for_one_request_answers_them_one_after_the_other() -> None:
    result = closed_loop(
        _TenMilliseconds(),  # type: ignore[arg-type]
        LoopLimits(max_num_batched_tokens=100, max_num_seqs=8, kv_tokens=15),
        ((10, 3),) * 4,
        concurrency=4,
    )

    assert 0.12 == pytest.approx(result.duration_seconds)


def test_spread_lengths_keep_their_mean() -> None:
    lengths = spread_lengths(200, 500)

    assert 200 == pytest.approx(sum(lengths) / 500, rel=0.01)
    assert min(lengths) < 20 and max(lengths) > 600


def _bench(path: Path, *, concurrency: int, rate: float, tpot_ms: float) -> Path:
    content = {
        "completed": 10,
        "total_input_tokens": 5120,
        "total_output_tokens": 1280,
        "request_rate": "inf",
        "max_concurrency": concurrency,
        "output_throughput": rate,
        "mean_tpot_ms": tpot_ms,
    }
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def test_a_report_of_vllm_bench_becomes_one_point(tmp_path: Path) -> None:
    (point,) = speed_points(_bench(tmp_path / "a.json", concurrency=4, rate=250.0, tpot_ms=15.0))

    assert (4, 512, 128, 10, 250.0, 0.015) == (
        point.concurrency,
        point.prompt_tokens,
        point.output_tokens,
        point.request_count,
        point.output_tokens_per_second,
        point.seconds_per_token,
    )


def test_a_suite_teaches_its_latency_below_saturation_and_its_throughput_at_it(tmp_path: Path) -> None:
    rate = {"offered_per_second": 2.0, "completed_per_second": 2.0, "output_tokens_per_second": 200.0, "itl_p50_ms": 20}
    full = rate | {"offered_per_second": 9.0, "completed_per_second": 4.0, "output_tokens_per_second": 400.0}
    path = tmp_path / "report.json"
    points = [rate | {"saturated": False, "failed_count": 0}, full | {"saturated": True, "failed_count": 0}]
    path.write_text(json.dumps({"suites": [{"rate_points": points}]}), encoding="utf-8")

    below, at = speed_points(path, prompt_tokens=300)

    assert (0.02, None, 100) == (below.seconds_per_token, below.output_tokens_per_second, below.output_tokens)
    assert (None, 400.0, 100) == (at.seconds_per_token, at.output_tokens_per_second, at.output_tokens)


def test_a_report_without_speed_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    path.write_text("{}", encoding="utf-8")

    with pytest.raises(DocumentError, match="holds no speed"):
        speed_points(path)


def test_an_engine_that_is_half_as_fast_is_learned_and_the_interval_narrows(tmp_path: Path) -> None:
    configuration = _engine()
    plain = StepTime.of(configuration)
    slow = plain.scaled(SpeedFactors(fixed_ratio=2, request_ratio=2, reading_ratio=2, multiplying_ratio=2))
    reports = []
    for concurrency in (1, 8, 64):
        point = SpeedPoint(concurrency=concurrency, prompt_tokens=512, output_tokens=128, request_count=10)
        seen = replayed(slow, loop_limits(configuration), point)
        name = tmp_path / f"{concurrency}.json"
        told = {"rate": seen.output_tokens_per_second, "tpot_ms": 1e3 * seen.tpot_seconds}
        reports.append(_bench(name, concurrency=concurrency, **told))

    learned = calibrate_speed(reports, configuration)
    times = StepTime.of(configuration, calibration=Calibration(made_at="2026-11-21", speeds=(learned,)))

    asked = {"decode_count": 20, "decode_context_tokens": 10_000, "prefill_tokens": 0}
    assert times.step_seconds(**asked) == pytest.approx(2 * plain.step_seconds(**asked), rel=0.05)
    assert times.interval_ratio[1] < plain.interval_ratio[1]
    assert learned.spread_ratio < 0.05


TRUTHS = (
    SpeedFactors(fixed_ratio=0.6, request_ratio=3, reading_ratio=1, multiplying_ratio=4),
    SpeedFactors(fixed_ratio=0.5, request_ratio=0.3, reading_ratio=1, multiplying_ratio=40),
)


def _processor() -> EngineConfiguration:
    device = Device(
        accelerator="cpu",
        name="some processor",
        compute_capability=None,
        memory_total_bytes=16 * GIB,
        memory_usable_bytes=15 * GIB,
    )
    return EngineConfiguration(model=load_model_facts("Qwen/Qwen3-0.6B"), device=device, max_model_len=2048)


def _taught(directory: Path, plain: StepTime, truth: SpeedFactors, loads: Sequence[Load]) -> CalibratedSpeed:
    """What loads of an engine with these factors teach."""
    reports = []
    for index, load in enumerate(loads):
        seen = replayed(plain.scaled(truth), loop_limits(_processor()), SpeedPoint(**vars(load)))
        reports.append(directory / f"{index}.json")
        reports[-1].write_text(json.dumps(as_bench(load, seen.output_tokens_per_second)), encoding="utf-8")
    return calibrate_speed(reports, _processor())


@pytest.mark.parametrize("truth", TRUTHS)
def test_the_four_loads_of_the_speed_check_tell_steps_requests_and_prompts_apart(
    tmp_path: Path, truth: SpeedFactors
) -> None:
    plain, limits = StepTime.of(_processor()), loop_limits(_processor())

    learned = plain.scaled(_taught(tmp_path, plain, truth, CALIBRATING).factors)

    for load in OTHERS:
        seen, said = (
            replayed(times, limits, SpeedPoint(**vars(load))).output_tokens_per_second
            for times in (plain.scaled(truth), learned)
        )
        assert seen == pytest.approx(said, rel=0.03)


def test_loads_that_leave_open_what_takes_the_time_leave_the_interval_wide(tmp_path: Path) -> None:
    plain = StepTime.of(_processor())

    few, enough = (_taught(tmp_path, plain, TRUTHS[0], loads) for loads in (CALIBRATING[:1], CALIBRATING))

    assert few.unlearned_ratio > 3 * enough.unlearned_ratio
    widths = []
    for one in (few, enough):
        times = StepTime.of(_processor(), calibration=Calibration(made_at="2026-11-21", speeds=(one,)))
        widths.append(times.interval_ratio[1] / times.interval_ratio[0])
    assert widths[0] > 1.5 * widths[1]


def test_calibrate_takes_load_tests_and_asks_what_they_ran_on(tmp_path: Path) -> None:
    report = _bench(tmp_path / "a.json", concurrency=4, rate=250.0, tpot_ms=15.0)

    refused = llm_size("calibrate", str(report))
    learned = llm_size("calibrate", str(report), "--model", "Qwen/Qwen3-32B", "--gpu", "B200")

    assert (2, 0) == (refused.returncode, learned.returncode)
    assert "give --model" in refused.stderr
    assert "Qwen/Qwen3-32B" == json.loads(learned.stdout)["speeds"][0]["model"]


def test_a_processor_is_extrapolated_until_it_is_calibrated() -> None:
    times = StepTime.of(_processor())

    assert "extrapolated" == times.provenance
    assert times.interval_ratio[1] / times.interval_ratio[0] > 10

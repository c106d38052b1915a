"""Serving: the simulated scheduler against timelines computed by hand, and against laws of queues."""

import tracemalloc
from dataclasses import replace

import pytest

from sizing.arrivals import ClosedSource, Lengths, OpenSource, TraceSource
from sizing.closed_loop import LoopLimits, closed_loop
from sizing.device import Device, find_gpu
from sizing.estimate import EngineConfiguration
from sizing.model_facts import load_model_facts
from sizing.quantiles import Quantiles
from sizing.serving import EngineLimits, Served, simulate
from sizing.speed import StepTime
from sizing.step_seconds import steps_of

ROOMY = EngineLimits(max_num_batched_tokens=1000, max_num_seqs=100, kv_blocks=1e9, blocks_per_token=1.0)


def tenth_and_a_millisecond_a_token(_decoding: int, _context: int, prefill: int, _pairs: float) -> float:
    """10 ms a step, and 1 ms for each prompt token in it."""
    return 0.010 + 0.001 * prefill


def one_second(_decoding: int, _context: int, _prefill: int, _pairs: float) -> float:
    return 1.0


def fixed(tokens: int) -> Lengths:
    return Lengths(mean_tokens=tokens)


def traced(*requests: tuple[float, int, int], limits: EngineLimits = ROOMY) -> Served:
    return simulate(limits, tenth_and_a_millisecond_a_token, TraceSource(requests), seconds=100)


def test_a_request_alone_waits_for_its_prompt_and_then_a_step_a_token() -> None:
    served = traced((1.0, 100, 11))

    # 10 ms + 100 x 1 ms to the first token, then 10 steps of 10 ms.
    assert served.ttft_seconds.largest == pytest.approx(0.110)
    assert served.tpot_seconds.largest == pytest.approx(0.010)
    assert served.e2e_seconds.largest == pytest.approx(0.210)


def test_regular_requests_that_never_meet_all_see_the_same() -> None:
    # D/D/1: one each second, each takes 0.11 s; nobody queues.
    source = OpenSource(1.0, fixed(100), fixed(1), gaps="constant")

    served = simulate(ROOMY, tenth_and_a_millisecond_a_token, source, seconds=100.5)

    assert (100, pytest.approx(0.110), pytest.approx(0.110)) == (
        served.ttft_seconds.count,
        served.ttft_seconds.mean,
        served.ttft_seconds.largest,
    )
    assert served.busy_ratio == pytest.approx(0.110, rel=0.01)


def test_a_second_prompt_holds_up_the_tokens_of_the_first() -> None:
    served = traced((0.0, 100, 3), (0.005, 100, 3))

    # 0.11: first token of A; 0.22: second of A, first of B; 0.23: A done; 0.24: B done.
    assert served.ttft_seconds.mean == pytest.approx((0.110 + 0.215) / 2)
    assert served.tpot_seconds.largest == pytest.approx((0.23 - 0.11) / 2)
    assert served.tpot_seconds.mean == pytest.approx((0.06 + 0.01) / 2)
    assert served.e2e_seconds.largest == pytest.approx(0.235)
    # Gaps between tokens: A 110 and 10 ms, B 10 and 10 ms.
    assert served.itl_seconds.largest == pytest.approx(0.110)
    assert served.itl_seconds.mean == pytest.approx(0.140 / 4)


def test_who_comes_while_a_batch_runs_waits_for_the_next_one_too_where_it_is_chosen_already() -> None:
    ahead = replace(ROOMY, runs_ahead=True)
    during_a_prompt = traced((0.0, 100, 3), (0.005, 100, 3), limits=ahead)
    between_tokens = traced((0.0, 100, 11), (0.125, 100, 1), limits=ahead)

    # 0.11: first token of A; 0.12: its second, from a batch chosen before B came; 0.23: its third, first of B.
    assert during_a_prompt.ttft_seconds.largest == pytest.approx(0.23 - 0.005)
    assert during_a_prompt.tpot_seconds.largest == pytest.approx((0.23 - 0.11) / 2)
    # B comes within the step that ends at 0.13; the one to 0.14 is chosen already.
    assert between_tokens.ttft_seconds.largest == pytest.approx(0.25 - 0.125)


def test_an_engine_that_runs_ahead_takes_who_finds_it_idle_at_once() -> None:
    served = traced((0.0, 100, 1), (1.0, 100, 1), limits=replace(ROOMY, runs_ahead=True))

    assert served.ttft_seconds.count == 2
    assert served.ttft_seconds.largest == pytest.approx(0.110)


def test_a_prompt_beyond_the_batch_is_computed_in_chunks() -> None:
    served = traced((0.0, 100, 1), limits=replace(ROOMY, max_num_batched_tokens=40))

    # 40, 40 and 20 tokens: three steps of 10 ms, and 100 ms of tokens.
    assert served.ttft_seconds.mean == pytest.approx(0.130)


def test_decoding_requests_leave_less_of_the_batch_to_a_prompt() -> None:
    served = traced((0.0, 10, 100), (0.001, 10, 100), (0.031, 99, 1), limits=replace(ROOMY, max_num_batched_tokens=100))

    # A: 0 to 0.02. B: 0.02 to 0.04, with one token of A. C comes in between and starts at 0.04: 98 of its tokens fit
    # beside A and B (108 ms), the last one takes a step of 11 ms.
    assert served.ttft_seconds.largest == pytest.approx(0.04 + 0.108 + 0.011 - 0.031)


def test_what_the_prefix_cache_has_is_not_computed() -> None:
    served = traced((0.0, 100, 1), limits=replace(ROOMY, prefix_hit_ratio=0.75))

    assert served.ttft_seconds.mean == pytest.approx(0.010 + 0.025)


def test_no_more_than_max_num_seqs_run() -> None:
    served = traced((0.0, 10, 11), (0.0, 10, 11), limits=replace(ROOMY, max_num_seqs=1))

    # The second starts when the first is done: 0.12 s; its own 0.02 s follow.
    assert served.ttft_seconds.largest == pytest.approx(0.140)


def test_the_last_admitted_gives_way_where_the_blocks_run_out_and_is_computed_again() -> None:
    limits = replace(ROOMY, kv_blocks=20)
    source = TraceSource([(0.0, 4, 8), (0.0, 4, 8)])

    served = simulate(limits, one_second, source, seconds=50)

    # t=1: both have a token and hold 4 blocks; each step takes 2 more, so at t=7 all 20 are taken. B gives way; A ends
    # at t=8, B is computed again and ends at t=9, with all its 8 tokens.
    assert 1 == served.preempted_count
    assert (8.5, 9.0) == (served.e2e_seconds.mean, served.e2e_seconds.largest)
    assert served.tpot_seconds.mean == pytest.approx((7 / 7 + 8 / 7) / 2)
    assert served.itl_seconds.largest == pytest.approx(2.0)


def test_a_prompt_waits_until_all_of_it_fits_into_the_cache() -> None:
    served = simulate(replace(ROOMY, kv_blocks=19), one_second, TraceSource([(0.0, 10, 4), (0.0, 10, 1)]), seconds=50)

    # 9 blocks are free beside A, and fewer with each step: B comes after A, which ends at t=4.
    assert served.ttft_seconds.largest == pytest.approx(5.0)


def test_a_prompt_longer_than_the_cache_is_refused_and_does_not_block_the_rest() -> None:
    served = traced((0.0, 30, 1), (0.0, 10, 1), limits=replace(ROOMY, kv_blocks=20))

    assert (1, 1) == (served.refused_count, served.e2e_seconds.count)


def test_one_server_at_half_load_waits_as_long_as_the_law_of_m_d_1_says() -> None:
    # Service 20 ms (10 + 10 tokens), 25 a second: utilisation 0.5, waiting 0.5 x 0.02 / (2 x 0.5) = 10 ms.
    source = OpenSource(25.0, fixed(10), fixed(1), seed=3)

    served = simulate(replace(ROOMY, max_num_seqs=1), tenth_and_a_millisecond_a_token, source, seconds=1500)

    assert served.busy_ratio == pytest.approx(0.5, rel=0.02)
    assert served.ttft_seconds.mean == pytest.approx(0.030, rel=0.05)


def test_what_is_in_the_system_is_what_comes_times_how_long_it_stays() -> None:
    source = OpenSource(4.0, Lengths(mean_tokens=50, spread_ratio=0.5), Lengths(mean_tokens=80, spread_ratio=0.5))

    served = simulate(ROOMY, tenth_and_a_millisecond_a_token, source, seconds=2000, warm_up_seconds=50)

    assert served.in_flight_mean == pytest.approx(served.requests_per_second * served.e2e_seconds.mean, rel=0.03)
    assert served.output_tokens_per_second == pytest.approx(served.requests_per_second * 80, rel=0.03)
    assert served.prompt_tokens_per_second == pytest.approx(served.requests_per_second * 50, rel=0.03)


def test_users_without_a_pause_are_always_all_in_flight() -> None:
    source = ClosedSource(8, 0.0, fixed(20), fixed(40))

    served = simulate(ROOMY, tenth_and_a_millisecond_a_token, source, seconds=200, warm_up_seconds=20)

    assert served.in_flight_mean == pytest.approx(8.0, rel=0.01)


def test_people_who_think_longer_ask_less_often() -> None:
    # A person asks every think + answer seconds: 30 people, 9 s and an answer of about a second give 3 a second.
    source = ClosedSource(30, 9.0, fixed(10), fixed(61))

    served = simulate(ROOMY, tenth_and_a_millisecond_a_token, source, seconds=2000, warm_up_seconds=50)

    assert served.requests_per_second == pytest.approx(30 / (9.0 + served.e2e_seconds.mean), rel=0.03)


def test_a_load_beyond_the_engine_is_called_so_and_ends() -> None:
    source = OpenSource(100.0, fixed(10), fixed(1))

    served = simulate(replace(ROOMY, max_num_seqs=1), tenth_and_a_millisecond_a_token, source, seconds=300)

    # 50 a second is all that 20 ms of service allow.
    assert served.requests_per_second == pytest.approx(50.0, rel=0.01)
    assert served.overloaded


def test_requests_that_meet_both_times_are_the_goodput() -> None:
    served = simulate(
        ROOMY,
        tenth_and_a_millisecond_a_token,
        TraceSource([(0.0, 100, 3), (0.005, 100, 3)]),
        seconds=100,
        ttft_seconds=0.250,
        tpot_seconds=0.050,
    )

    assert 0.5 == served.good_ratio


def test_the_same_seed_gives_the_same_answer_and_another_one_another() -> None:
    def run(seed: int) -> Served:
        source = OpenSource(3.0, Lengths(mean_tokens=50, spread_ratio=0.5), fixed(30), seed=seed)
        return simulate(ROOMY, tenth_and_a_millisecond_a_token, source, seconds=200)

    assert run(1) == run(1)
    assert run(1) != run(2)


def test_lengths_keep_their_mean_and_their_spread() -> None:
    table = Lengths(mean_tokens=1000, spread_ratio=0.5).table()

    mean = sum(table) / len(table)
    variance = sum((one - mean) ** 2 for one in table) / len(table)
    assert mean == pytest.approx(1000, rel=0.002)
    assert variance**0.5 == pytest.approx(500, rel=0.03)


def test_quantiles_are_right_within_half_a_percent_and_take_the_memory_of_their_span() -> None:
    seen = Quantiles()
    for number in range(1, 100_001):
        seen.add(number / 1000)

    found = seen.distribution()
    assert found.p50 == pytest.approx(50.0, rel=0.006)
    assert found.p99 == pytest.approx(99.0, rel=0.006)
    assert (found.mean, found.largest) == (pytest.approx(50.0005), 100.0)
    # 1 % steps from 0.001 to 100: ln(100,000) / 0.01.
    assert seen.bucket_count <= 1153


def test_ten_times_the_hours_take_no_more_memory() -> None:
    def peak_bytes(seconds: float) -> int:
        source = OpenSource(2.0, Lengths(mean_tokens=50, spread_ratio=0.5), Lengths(mean_tokens=30, spread_ratio=0.5))
        tracemalloc.start()
        simulate(ROOMY, tenth_and_a_millisecond_a_token, source, seconds=seconds)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    peak_bytes(50)
    assert peak_bytes(1000) < peak_bytes(100) + 50_000


@pytest.mark.parametrize("users", [1, 8, 64, 200])
def test_a_load_test_of_many_rounds_sees_what_people_who_do_not_think_see(users: int) -> None:
    configuration = EngineConfiguration(
        model=load_model_facts("Qwen/Qwen3-8B"),
        device=Device.of_gpu(find_gpu("NVIDIA H100 80GB HBM3").as_gpu()),
        max_model_len=8192,
    )
    times = StepTime.of(configuration)
    replayed = closed_loop(
        times,
        LoopLimits(max_num_batched_tokens=8192, max_num_seqs=256, kv_tokens=200_000),
        [(1000, 200)] * (users * 12),
        concurrency=users,
    )
    limits = EngineLimits(
        max_num_batched_tokens=8192, max_num_seqs=256, kv_blocks=200_000, blocks_per_token=1.0, runs_ahead=True
    )
    source = ClosedSource(users, 0.0, fixed(1000), fixed(200))

    served = simulate(limits, steps_of(times), source, seconds=replayed.duration_seconds)

    assert served.output_tokens_per_second == pytest.approx(replayed.output_tokens_per_second, rel=0.04)
    assert served.tpot_seconds.mean == pytest.approx(replayed.tpot_seconds, rel=0.05)
    assert served.ttft_seconds.mean == pytest.approx(replayed.ttft_seconds, rel=0.10)

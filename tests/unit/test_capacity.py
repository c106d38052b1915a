"""Capacity: how many engines a load takes, what else it could be, what the gateway and the hardware cost."""

import json
from pathlib import Path

import pytest

from sizing.arrivals import Lengths
from sizing.bounds import alone, steady
from sizing.demand import Demand, Objectives, check_demand
from sizing.device import Device, find_gpu
from sizing.errors import SizingError
from sizing.estimate import EngineConfiguration
from sizing.gateway_load import Stream, Streaming, gateway_loads
from sizing.islands import Pool, pool_of_catalogue
from sizing.model_facts import load_model_facts
from sizing.prices import Prices, bill_for
from sizing.prospect import group_of, served_by, shortfall_of
from sizing.recommend import Recommended, recommend
from sizing.serving import EngineLimits
from sizing.speed import StepTime
from sizing.wish import Wish
from tests.command_line import llm_size

H100 = "NVIDIA H100 80GB HBM3"
ROOMY = EngineLimits(max_num_batched_tokens=1000, max_num_seqs=1000, kv_blocks=1e9, blocks_per_token=1.0)
PEOPLE = ("--people", "200", "--think-seconds", "30", "--prompt-tokens", "3000", "--output-tokens", "300")
TIMES = ("--ttft-ms", "2000", "--tpot-ms", "60")


def demand(**changes: object) -> Demand:
    content = {"prompt": Lengths(mean_tokens=1000), "output": Lengths(mean_tokens=200), **changes}
    return Demand(**content)  # type: ignore[arg-type]


def asked(gpu: str, count: int, load: Demand, **wish: object) -> Recommended:
    pools: tuple[Pool, ...] = (pool_of_catalogue(find_gpu(gpu).as_gpu(), count),)
    content = {"context_tokens": 2048, "users_count": 1, "request_tokens": 1200, "demand": load, **wish}
    return recommend([load_model_facts("Qwen/Qwen3-8B")], pools, wish=Wish(**content))  # type: ignore[arg-type]


def test_the_average_step_of_a_steady_load_is_where_it_reproduces_itself() -> None:
    # A step takes 10 ms and 0.1 ms for each request that decodes. 1 request a second of 100 tokens each:
    # n = 100 T and T = 0.010 + 0.0001 n, so T = 0.010 / (1 - 0.01) = 10.10 ms and n = 1.01.
    def step(decoding: int, _context: int, _prefill: int, _pairs: float) -> float:
        return 0.010 + 0.0001 * decoding

    load = demand(prompt=Lengths(mean_tokens=1), output=Lengths(mean_tokens=100), rate_per_second=1.0)

    found = steady(load, ROOMY, step)

    assert found.stable
    assert found.step_seconds == pytest.approx(0.0101, rel=0.02)
    assert found.in_flight == pytest.approx(1.01, rel=0.03)


def test_more_than_an_engine_can_do_is_not_stable() -> None:
    def step(_decoding: int, _context: int, prefill: int, _pairs: float) -> float:
        return 0.010 + 0.001 * prefill

    # 1,000 prompt tokens take a second; two such requests a second are one too many.
    assert steady(demand(rate_per_second=0.5), ROOMY, step).stable
    assert not steady(demand(rate_per_second=2.0), ROOMY, step).stable


def test_a_prompt_alone_takes_its_chunks() -> None:
    def step(_decoding: int, _context: int, prefill: int, _pairs: float) -> float:
        return 0.010 + 0.001 * prefill

    # 2,500 tokens: chunks of 1,000, 1,000 and 500.
    assert alone(demand(rate_per_second=1.0), ROOMY, step, prompt_tokens=2500).ttft_seconds == pytest.approx(2.53)


def test_as_few_engines_as_meet_the_times_and_more_for_a_larger_load() -> None:
    times = Objectives(ttft_ms=1000, tpot_ms=25)

    little = asked(H100, 8, demand(rate_per_second=2.0, objectives=times))
    much = asked(H100, 8, demand(rate_per_second=30.0, objectives=times))

    assert 1 == little.ranked[0].replicas
    assert 1 < much.ranked[0].replicas
    assert not little.unmet and not much.unmet


def test_objectives_take_different_plans() -> None:
    times = Objectives(ttft_ms=1000, tpot_ms=25)
    load = demand(rate_per_second=2.0, objectives=times)

    plans = {
        objective: asked(H100, 4, load, objective=objective).ranked[0]
        for objective in ("throughput", "latency", "context")
    }

    assert 1 == plans["throughput"].vllm_options["tensor-parallel-size"]
    assert 4 == plans["latency"].vllm_options["tensor-parallel-size"]
    assert plans["context"].estimate["kv_cache_tokens"] > plans["throughput"].estimate["kv_cache_tokens"]  # type: ignore[operator]
    assert any("the fewest that meet" in choice.because for choice in plans["throughput"].reasons)


def test_the_slow_end_of_the_interval_is_asked_unless_the_likely_is_enough() -> None:
    configuration = EngineConfiguration(
        model=load_model_facts("Qwen/Qwen3-8B"), device=Device.of_gpu(find_gpu(H100).as_gpu()), max_model_len=2048
    )
    times = StepTime.of(configuration)
    likely_ms = 1000 * times.step_seconds(decode_count=1, decode_context_tokens=1100, prefill_tokens=0)
    between = likely_ms * (1 + times.interval_ratio[1]) / 2

    safe = asked(H100, 1, demand(rate_per_second=0.01, objectives=Objectives(tpot_ms=between)))
    likely = asked(H100, 1, demand(rate_per_second=0.01, objectives=Objectives(tpot_ms=between, certainty="likely")))

    assert "at the slow end of the interval" in safe.unmet
    assert not likely.unmet


@pytest.mark.parametrize(
    ("objectives", "words"),
    [
        (Objectives(ttft_ms=1.0), "computing power is the bound"),
        (Objectives(tpot_ms=0.5), "reading the weights is the bound"),
    ],
)
def test_a_time_that_no_engine_meets_says_which_bound_and_by_how_much(objectives: Objectives, words: str) -> None:
    answer = asked(H100, 1, demand(rate_per_second=1.0, objectives=objectives))

    assert words in answer.unmet
    assert "times the wished" in answer.unmet


def test_the_gateway_is_sized_by_requests_and_pieces() -> None:
    # 10 answers a second of 201 tokens, each token 30 ms: at 4 tokens a piece 1 + 50 pieces an answer, 510 a second.
    streams = [Stream(requests_per_second=10.0, output_tokens=201, tpot_seconds=0.030)]

    loads = {one.interval_tokens: one for one in gateway_loads(streams, Streaming())}

    four = loads[4]
    assert four.pieces_per_second == pytest.approx(510.0)
    # Likely: 10 x 16.2 ms + 510 x 0.39 ms = 0.361 cores; at the high end 10 x 19.8 + 510 x 0.47 = 0.438: one worker.
    assert four.cores[1] == pytest.approx(0.361, abs=0.001)
    assert (1, 1, pytest.approx(0.120)) == (four.workers, four.hosts, four.gap_seconds)
    # Every token on its own: 2,010 pieces, 1.14 cores at the high end: two workers at 60 %. So 2 a piece are chosen:
    # 1,010 pieces, 0.67 cores are two workers as well; 4 a piece are the first with one, within 150 ms.
    assert (2, 2, True) == (loads[1].workers, loads[2].workers, four.chosen)


def test_a_bill_counts_whole_hosts_and_the_power_of_all_years() -> None:
    prices = Prices.parse(
        {
            "years": 2,
            "power_price_per_kwh": 0.20,
            "gpus": {"NVIDIA L40S": {"price": 8000}},
            "host": {"price": 10000, "power_watts": 600, "gpus_at_most": 4},
        },
        origin="prices.yml",
    )
    row, price = prices.rows()[0]

    bill = bill_for(prices, row, price, 5)

    # 5 x 8,000 + 2 x 10,000; 5 x 350 W + 2 x 600 W = 2,950 W x 17,532 h x 0.20 = 10,343.88.
    assert (2, 60_000.0, 2950.0) == (bill.host_count, bill.purchase, bill.power_watts)
    assert bill.power_cost == pytest.approx(10_343.88)


@pytest.mark.parametrize(
    ("load", "words"),
    [
        (demand(), "give one of --users, --people, --rate"),
        (demand(users_count=3, rate_per_second=1.0), "--users and --rate say it differently"),
        (demand(people_count=3), "--people needs --think-seconds"),
        (demand(users_count=3, think_seconds=3.0), "--think-seconds belongs to --people"),
        (demand(rate_per_second=0.0), "--rate is 0"),
        (demand(rate_per_second=float("nan")), "--rate is nan"),
        (demand(rate_per_second=1e9), "at most 100,000"),
        (demand(people_count=0, think_seconds=1.0), "--people is 0"),
        (demand(users_count=1, objectives=Objectives(percentile=97)), "one of 50, 90, 95, 99"),
        (demand(users_count=1, objectives=Objectives(ttft_ms=0)), "--ttft-ms is 0"),
        (demand(users_count=1, output=Lengths(mean_tokens=9000)), "leave no room for a prompt"),
        (demand(users_count=1, prompt=Lengths(mean_tokens=8100)), "beyond the window of 8192"),
        (demand(users_count=1, prefix_hit_ratio=1.0), "--prefix-hits is 1"),
    ],
)
def test_a_load_that_nobody_can_mean_is_one_line(load: Demand, words: str) -> None:
    with pytest.raises(SizingError, match=words) as raised:
        check_demand(load, context_tokens=8192)

    assert "\n" not in str(raised.value)


def test_the_command_line_answers_with_intervals_growth_and_a_dead_engine() -> None:
    arguments = ("recommend", "--json", "--model", "Qwen/Qwen3-32B", "--gpu", f"{H100}:8", *PEOPLE, *TIMES)

    first, second = llm_size(*arguments), llm_size(*arguments)

    speed = json.loads(first.stdout)[0]["speed"]
    assert first.stdout == second.stdout
    assert speed["ttft_seconds"]["low"] <= speed["ttft_seconds"]["likely"] <= speed["ttft_seconds"]["high"] <= 2.0
    assert speed["tpot_seconds"]["high"] <= 0.060
    assert speed["growth"]["factor"] >= 1
    assert {"calibrated"} == {speed["provenance"]}
    assert isinstance(speed["one_engine_less"]["meets"], bool)
    assert 1 == sum(load["chosen"] for load in json.loads(first.stdout)[0]["gateway"])


def test_a_small_part_of_a_load_that_is_met_is_met_whatever_chance_brings() -> None:
    times = Objectives(ttft_ms=2000, tpot_ms=60)
    load = demand(rate_per_second=4.0, objectives=times)
    candidate = asked(H100, 1, load).ranked[0].candidate
    group = group_of(candidate.configuration, candidate.answer, load, engine_count=1)

    # 400 Poisson arrivals are 20 more or fewer than expected; that is no queue that grows.
    missed = [shortfall_of(served_by(group, load.times(0.25), requests=400, seed=seed), load) for seed in range(6)]

    assert [None] * 6 == missed


def test_what_to_buy_is_the_cheapest_of_the_operators_prices(tmp_path: Path) -> None:
    prices, page = tmp_path / "prices.yml", tmp_path / "buy.html"
    prices.write_text(
        "gpus:\n  NVIDIA L4: {price: 2500}\n  NVIDIA H200: {price: 30000}\n  NVIDIA L40S: {price: 8000}\n",
        encoding="utf-8",
    )

    answer = llm_size(
        *("recommend", "--buy", "--prices", str(prices), "--model", "Qwen/Qwen3-8B", "--rate", "1", "--json"),
        *("--prompt-tokens", "1000", "--output-tokens", "200", "--ttft-ms", "2000", "--tpot-ms", "50"),
        *("--html", str(page)),
    )

    found = json.loads(answer.stdout)
    totals = [option["bill"]["total"] for option in found["options"]]
    assert 0 == answer.returncode
    assert sorted(totals) == totals
    assert found["options"][0]["gpu"] in {"NVIDIA L4", "NVIDIA L40S"}
    text = page.read_text(encoding="utf-8")
    assert "Hardware that meets the wish" in text
    assert "http" not in text


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ((*PEOPLE, "--ttft-ms", "1"), 3, "no hardware of the catalogue meets it"),
        ((*PEOPLE, *TIMES, "--gpu", H100), 2, "--buy looks at the whole catalogue"),
        ((*PEOPLE, *TIMES, "--rate", "3"), 2, "--people and --rate say it differently"),
        ((*PEOPLE, *TIMES, "--context", "200"), 2, "leave no room for a prompt"),
        (("--rate", "0", "--prompt-tokens", "10", "--output-tokens", "10"), 2, "--rate is 0"),
        (("--rate", "1"), 2, "give --prompt-tokens and --output-tokens"),
    ],
)
def test_what_cannot_be_bought_or_meant_is_one_line(
    arguments: tuple[str, ...], code: int, words: str, tmp_path: Path
) -> None:
    prices = tmp_path / "prices.yml"
    prices.write_text("gpus:\n  NVIDIA L4: {price: 2500}\n  NVIDIA H200: {price: 30000}\n", encoding="utf-8")

    answer = llm_size("recommend", "--buy", "--prices", str(prices), "--model", "Qwen/Qwen3-8B", *arguments)

    assert code == answer.returncode
    assert words in answer.error
    assert 1 == len(answer.stderr.strip().splitlines())

"""What a token costs: the month by hand, its split by engine seconds, and what stands in a plan."""

import json
import math
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.sizing.sites import write_site
from ledger.configuration import Price as Billed
from sizing.arrivals import Lengths
from sizing.cost import Pace, Price, engine_seconds, shares_of, token_prices
from sizing.costs import Costs
from sizing.demand import Demand
from sizing.errors import DocumentError, SizingError
from sizing.judge_spend import RELATIVE_TOLERANCE
from sizing.monthly import Machine, months_of
from sizing.request import ModelRequest, Request
from sizing.served import EngineLimits
from sizing.site_cost import price_text
from tests.command_line import llm_size

L40S = "NVIDIA L40S"
BOUGHT: dict[str, Any] = {
    "currency": "EUR",
    "years": 4,
    "gpus": {L40S: {"price": 8000, "power_watts": 350}},
    "host": {"price": 12000, "power_watts": 800},
    "power_price_per_kwh": 0.2,
    "pue": 1.5,
    "other_per_month": 100,
    "utilization_ratio": 0.5,
}
LOAD = {"users": 16, "prompt_tokens": 1000, "output_tokens": 200, "spread_ratio": 0}


def demand(prompt: int, output: int, **more: Any) -> Demand:
    return Demand(
        prompt=Lengths(mean_tokens=prompt), output=Lengths(mean_tokens=output), **(more or {"users_count": 8})
    )


def test_the_month_of_a_host_is_purchase_over_years_and_power_times_pue() -> None:
    months = months_of([Machine(name="h1", gpu_names=(L40S, L40S))], Costs.parse(BOUGHT, origin="costs"))

    # (2 x 8000 + 12000) / 48 months; (2 x 350 + 800) W x 1.5 = 2.25 kW, 730.5 hours, 0.20 each kWh.
    assert pytest.approx(583.3333, abs=1e-4) == months["h1"].hardware
    assert pytest.approx(328.725) == months["h1"].power
    assert 100 == months["h1"].other


def test_rent_goes_by_devices_and_the_other_costs_by_what_a_host_costs() -> None:
    costs = Costs.parse({"rent_per_month": 3000, "other_per_month": 300, "utilization_ratio": 1}, origin="costs")

    months = months_of([Machine(name="a", gpu_names=(L40S, L40S)), Machine(name="b", gpu_names=(L40S,))], costs)

    assert [2000.0, 1000.0] == [months[name].hardware for name in "ab"]
    assert [200.0, 100.0] == pytest.approx([months[name].other for name in "ab"])


def test_a_board_without_a_power_of_its_own_draws_what_the_catalogue_says() -> None:
    costs = {**BOUGHT, "gpus": {L40S: {"price": 8000}}, "host": {"price": 0, "power_watts": 0}, "pue": 1}

    months = months_of([Machine(name="h", gpu_names=(L40S,))], Costs.parse(costs, origin="costs"))

    assert pytest.approx(0.35 * 730.5 * 0.2) == months["h"].power  # 350 W


def test_prices_bring_in_the_month_exactly_in_the_proportion_of_engine_seconds() -> None:
    # 2 requests a second of 1000 + 100 tokens take 0.1 + 0.1 engine seconds each; the load is there half the month.
    paces = [Pace(requests_per_second=2.0, prompt_seconds=1e-4, output_seconds=1e-3)]

    prices = token_prices(525.96, paces, demand(1000, 100), utilization=0.5)

    assert [1e-7, 1e-6] == pytest.approx(list(prices))
    assert pytest.approx(525.96) == 2 * 0.5 * 2_629_800 * (1000 * prices[0] + 100 * prices[1])


def test_engines_of_different_speed_count_by_what_they_serve() -> None:
    paces = [
        Pace(requests_per_second=3.0, prompt_seconds=1e-4, output_seconds=1e-3),
        Pace(requests_per_second=1.0, prompt_seconds=3e-4, output_seconds=5e-3),
    ]

    prompt, output = token_prices(1000.0, paces, demand(1000, 100), utilization=1.0)

    assert pytest.approx(1000.0) == 2_629_800 * 4 * (1000 * prompt + 100 * output)
    assert pytest.approx((3 * 1e-3 + 5e-3) / (3 * 1e-4 + 3e-4)) == output / prompt


def test_a_prompt_token_costs_what_its_chunks_add_to_a_step() -> None:
    def step(decoding: int, _context: int, prefill: int, _pairs: float) -> float:
        return 0.01 + 0.001 * decoding + 0.0001 * prefill

    limits = EngineLimits(max_num_batched_tokens=500, max_num_seqs=64, kv_blocks=1e6, blocks_per_token=1 / 16)

    prompt, output = engine_seconds(demand(1000, 200), limits, step, decoding=10)

    assert [1e-4, 0.002] == pytest.approx([prompt, output])


def test_what_the_prefix_cache_has_makes_prompt_tokens_cheaper() -> None:
    limits = EngineLimits(
        max_num_batched_tokens=500, max_num_seqs=64, kv_blocks=1e6, blocks_per_token=1 / 16, prefix_hit_ratio=0.5
    )

    prompt, _ = engine_seconds(
        demand(1000, 200), limits, lambda _d, _c, prefill, _p: 0.01 + 0.0001 * prefill, decoding=1
    )

    assert pytest.approx(5e-5) == prompt


def test_clients_are_shared_whole_and_none_is_invented() -> None:
    five, one = shares_of(demand(10, 10, users_count=5), 2), shares_of(demand(10, 10, users_count=1), 2)

    assert [3, 2] == [share.users_count for share in five if share]
    assert (1, None) == (one[0].users_count if one[0] else 0, one[1])
    assert [2.0, 2.0] == [share.rate_per_second for share in shares_of(demand(10, 10, rate_per_second=4.0), 2) if share]


@pytest.mark.parametrize(
    ("exact", "written"),
    [
        (4.1234e-07, "0.000000413"),
        (9.9951e-07, "0.000001"),
        (1.5e-06, "0.0000015"),
        (3e-15, "0.000000000000003"),
    ],
)
def test_a_written_price_has_three_digits_rounded_up_and_is_exact_in_the_bill(exact: float, written: str) -> None:
    price = Price(low=exact, likely=exact, high=exact).written

    assert written == price_text(price)  # up, never down
    assert price == float(f"{price:.15f}")


@pytest.mark.parametrize("exact", [1.2345e-7, 2.8193e-8, 9.87654e-6, 3.3333e-9])
def test_what_is_billed_at_a_derived_price_is_what_acceptance_expects(exact: float) -> None:
    price = Price(low=exact, likely=exact, high=exact).written
    billed = Billed(input_cost=Decimal(f"{price:.15f}"), output_cost=Decimal(f"{price:.15f}"))

    cost = billed.of(prompt_tokens=1_234_567, completion_tokens=7_654_321)

    assert math.isclose(float(cost), 1_234_567 * price + 7_654_321 * price, rel_tol=RELATIVE_TOLERANCE)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"power_price_per_kwh": -0.1}, "power_price_per_kwh: Input should be greater than or equal to 0"),
        ({"gpus": {L40S: {"price": -1}}}, "price: Input should be greater than or equal to 0"),
        ({"utilization_ratio": 0}, "utilization_ratio: Input should be greater than 0"),
        ({"utilization_ratio": 1.2}, "utilization_ratio: Input should be less than or equal to 1"),
        ({"pue": 0.9}, "pue: Input should be greater than or equal to 1"),
        ({"rent_per_month": 500}, "rent_per_month and purchase prices would count the hardware twice"),
        ({"gpus": {}, "host": {}}, "nothing says what the hardware costs"),
        ({"gpus": {}, "host": {"price": 9000}}, "power_price_per_kwh has no power to multiply"),
        ({"colour": "red"}, "colour: Extra inputs are not permitted"),
    ],
)
def test_costs_that_nobody_can_mean_are_one_line(change: dict[str, Any], said: str) -> None:
    with pytest.raises(DocumentError, match=said.replace("(", r"\(")) as caught:
        Costs.parse({**BOUGHT, **change}, origin="costs")

    assert "\n" not in str(caught.value)


def test_a_gpu_without_a_price_and_a_price_without_a_gpu_are_named() -> None:
    machines = [Machine(name="h1", gpu_names=("NVIDIA H200",))]

    with pytest.raises(SizingError, match="prices NVIDIA L40S, which no engine host has \\(there is NVIDIA H200\\)"):
        months_of(machines, Costs.parse(BOUGHT, origin="costs"))
    both = [Machine(name="h1", gpu_names=("NVIDIA H200", L40S))]
    with pytest.raises(SizingError, match="no price for NVIDIA H200 of h1; add it"):
        months_of(both, Costs.parse(BOUGHT, origin="costs"))


def test_costs_are_part_of_the_wish_where_there_are_some() -> None:
    # That a request without them keeps the digest that it always had is shown in test_site_load.py.
    model = ModelRequest(name="m", source="s", context_tokens=100, output_tokens=10)
    plain = Request(site="s", models=(model,))

    assert plain.digest() != plain.model_copy(update={"costs": Costs.parse(BOUGHT, origin="costs")}).digest()


@pytest.fixture(scope="module")
def costed_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models on four H100, the second with a price of its own."""
    site = write_site(tmp_path_factory.mktemp("costed"), gpu_count=4)
    request = {
        "schema_version": 1,
        "site": "costed",
        "costs": {**BOUGHT, "gpus": {"NVIDIA H100 80GB HBM3": {"price": 28000}}},
        "models": [
            {"name": "chat", "source": "Qwen/Qwen3-8B", "context_tokens": 8192, "output_tokens": 2048, "replicas": 2,
             "load": LOAD},
            {"name": "small", "source": "Qwen/Qwen3-0.6B", "context_tokens": 4096, "output_tokens": 512, "load": LOAD,
             "input_cost_per_token": 1e-6, "output_cost_per_token": 2e-6},
        ],
    }  # fmt: skip
    (site / "request.yml").write_text(yaml.safe_dump(request), encoding="utf-8")
    return site


@pytest.fixture(scope="module")
def found(costed_site: Path) -> dict[str, Any]:
    """What `llm-size cost --json` says of it."""
    content: dict[str, Any] = json.loads(llm_size("cost", "--site", str(costed_site), "--json").stdout)
    return content


def test_prices_are_written_into_the_plan_and_those_that_are_stated_stay(
    costed_site: Path, found: dict[str, Any]
) -> None:
    answer = llm_size("recommend", "--site", str(costed_site), "--write")

    assert 0 == answer.returncode, answer.stderr
    plan = json.loads((costed_site / "group_vars/all/appliance_plan.json").read_text())["appliance_plan"]
    chat, small = plan["models"]
    assert "EUR" == plan["currency"]
    assert (1e-6, 2e-6) == (small["input_cost_per_token"], small["output_cost_per_token"])
    derived = found["models"][0]
    assert chat["input_cost_per_token"] == derived["input_price"]["written"] > 0
    assert chat["output_cost_per_token"] == derived["output_price"]["written"] > chat["input_cost_per_token"]
    why = {one["option"]: one["because"] for one in plan["decisions"][0]["choices"]}
    assert "EUR a month for 2 engines" in why["input_cost_per_token"]


def test_the_models_of_a_site_bring_in_its_whole_month_idle_gpu_included(found: dict[str, Any]) -> None:
    # Four boards of 28000 and a host of 12000 over 48 months; 4 x 700 W + 800 W; three boards carry engines.
    assert pytest.approx(124000 / 48) == found["month"]["hardware"]
    assert pytest.approx(3.6 * 1.5 * 730.5 * 0.2) == found["month"]["power"]
    back = sum(
        one["prompt_tokens_per_month"] * one["input_price"]["likely"]
        + one["output_tokens_per_month"] * one["output_price"]["likely"]
        for one in found["models"]
    )
    assert pytest.approx(found["month"]["total"]) == back
    shares = [one["share_ratio"] for one in found["models"]]
    assert [pytest.approx(2 / 3), pytest.approx(1 / 3)] == shares
    for one in found["models"]:
        assert one["input_price"]["low"] <= one["input_price"]["likely"] <= one["input_price"]["high"]


def test_flags_go_over_the_declared_costs(costed_site: Path, found: dict[str, Any]) -> None:
    quarter = json.loads(llm_size("cost", "--site", str(costed_site), "--json", "--utilization", "0.25").stdout)

    half_price, quarter_price = (one["models"][0]["output_price"]["likely"] for one in (found, quarter))
    assert pytest.approx(2 * half_price) == quarter_price


def test_a_host_of_the_catalogue_is_priced_by_flags_alone(tmp_path: Path) -> None:
    page = tmp_path / "cost.html"
    arguments = ("cost", "--model", "Qwen/Qwen3-8B", "--gpu", f"{L40S}:2", "--users", "32", "--prompt-tokens", "1000",
                 "--output-tokens", "200", "--gpu-price", "8000", "--utilization", "0.4")  # fmt: skip

    answer = llm_size(*arguments, "--html", str(page))

    assert 0 == answer.returncode, answer.stderr
    assert "2 x NVIDIA L40S" in answer.stdout
    assert "input_cost_per_token 0.00000" in answer.stdout
    html = page.read_text(encoding="utf-8")
    assert "<svg" in html
    assert "http" not in html.replace("http-equiv", "")
    negative = llm_size(*arguments, "--power-price", "-1")
    assert "llm-size: costs: power_price_per_kwh: Input should be greater than or equal to 0" == negative.error
    without = llm_size(*arguments[:-2])
    assert "nothing says which share of the capacity is really used" in without.error


def test_a_site_that_states_no_load_says_what_to_add(costed_site: Path) -> None:
    original = (costed_site / "request.yml").read_text()
    request = yaml.safe_load(original)
    del request["models"][0]["load"]
    try:
        (costed_site / "request.yml").write_text(yaml.safe_dump(request), encoding="utf-8")
        answer = llm_size("cost", "--site", str(costed_site))
    finally:
        (costed_site / "request.yml").write_text(original, encoding="utf-8")

    assert "chat: costs are declared, but not what a request takes; give the model a load" in answer.error


@pytest.mark.parametrize("which", ["input_cost_per_token", "output_cost_per_token"])
def test_a_stated_price_below_zero_is_refused(which: str) -> None:
    model = {"name": "a", "source": "x", "context_tokens": 4096, "output_tokens": 512, which: -1e-6}

    with pytest.raises(DocumentError, match=f"{which}: Input should be greater than or equal to 0") as caught:
        Request.parse({"site": "test", "models": [model]}, origin="request.yml")

    assert "\n" not in str(caught.value)

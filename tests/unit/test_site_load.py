"""A site whose request states a load: replicas follow from it, and a load that cannot be met is said in one line."""

from typing import Any

import pytest
from pydantic import ValidationError

from benchmarks.sizing.sites import hardware_of
from sizing.errors import DoesNotFit, SizingError
from sizing.hardware import Hardware
from sizing.model_facts import load_model_facts
from sizing.placement import place
from sizing.replicas import gateway_reasons, with_replicas
from sizing.request import LoadRequest, ModelRequest, Request
from sizing.site_speed import felt_at_site

LOAD = {"rate": 4.0, "prompt_tokens": 1000, "output_tokens": 200, "ttft_ms": 2000, "tpot_ms": 40}


def hosts(count: int) -> dict[str, Hardware]:
    return {f"g{number}": hardware_of(f"g{number}", "NVIDIA H100 80GB HBM3", 2) for number in range(1, count + 1)}


def chat(*, load: dict[str, Any] | None = None, **changes: Any) -> ModelRequest:
    content = {"name": "chat", "source": "Qwen/Qwen3-8B", "context_tokens": 8192, "output_tokens": 2048, **changes}
    return ModelRequest(load=None if load is None else LoadRequest(**load), **content)


def derived(request: ModelRequest, count: int) -> tuple[ModelRequest, list[str]]:
    wanted, reasons = with_replicas(
        [(request, load_model_facts(request.source))], hosts(count), objective="throughput", quality="strict"
    )
    return wanted[0][0], reasons


def test_more_load_takes_more_replicas_over_all_hosts() -> None:
    little, why = derived(chat(load=LOAD), 4)
    much, _ = derived(chat(load={**LOAD, "rate": 24.0}), 4)

    assert 1 == little.replicas
    assert 1 < much.replicas <= 8
    assert ["chat: 1 replicas, the fewest for 4 requests per second: first token within 2000 ms and 40 ms a token for "
            "95 % of the requests"] == why  # fmt: skip


def test_replicas_that_are_given_are_kept_and_judged() -> None:
    request = chat(load=LOAD, replicas=3)

    kept, why = derived(request, 4)
    placement = place([(kept, load_model_facts("Qwen/Qwen3-8B"))], hosts(4), objective="throughput", quality="strict")

    assert (3, [], 3) == (kept.replicas, why, len(placement.engines))
    # Each engine was judged with a third of the load.
    prospects = [placed.candidate.prospect for placed in placement.engines]
    assert all(one is not None and one.demand.rate_per_second == pytest.approx(4 / 3) for one in prospects)
    assert gateway_reasons(placement)[0].startswith("gateway: gateway_workers ")


def test_the_page_of_a_site_has_the_pictures_of_every_model_that_states_a_load() -> None:
    fast, plain = chat(load={**LOAD, "rate": 1.0}, replicas=2), chat(name="other")
    facts = load_model_facts("Qwen/Qwen3-8B")
    placement = place([(fast, facts), (plain, facts)], hosts(2), objective="throughput", quality="strict")

    felt = felt_at_site(placement)

    assert felt is not None
    assert ["chat"] == list(felt.by_model)
    # Both engines under the whole load, not one under its half.
    feel = felt.by_model["chat"]
    assert (2, 1.0) == (feel.candidate.engine_count, feel.demand.rate_per_second)
    assert feel.requests_per_second.likely == pytest.approx(1.0, rel=0.1)
    assert feel.rivals and feel.points[-1].load == pytest.approx(2.0)


def test_a_site_without_loads_has_no_speed_on_its_page() -> None:
    facts = load_model_facts("Qwen/Qwen3-8B")

    assert felt_at_site(place([(chat(), facts)], hosts(1), objective="throughput", quality="strict")) is None


def test_a_model_without_a_load_is_planned_by_memory_as_before() -> None:
    kept, why = derived(chat(users=4), 1)

    assert (1, []) == (kept.replicas, why)


def test_a_load_that_all_hosts_cannot_meet_names_the_bound() -> None:
    with pytest.raises(DoesNotFit, match="no number of replicas on these hosts meets its load: all 2 engines answer"):
        derived(chat(load={**LOAD, "rate": 500.0}), 1)


def test_contradictions_of_a_load_are_one_line() -> None:
    with pytest.raises(SizingError, match="--people and --rate say it differently"):
        derived(chat(load={**LOAD, "people": 5, "think_seconds": 3}), 1)
    with pytest.raises(SizingError, match="leave no room for a prompt"):
        derived(chat(load={**LOAD, "output_tokens": 9000}), 1)
    with pytest.raises(ValidationError, match="greater than 0"):
        chat(load={**LOAD, "rate": 0})


def test_a_request_without_loads_keeps_its_digest() -> None:
    plain = Request(site="s", models=(chat(),))

    content = plain.model_dump(mode="json")
    del content["models"][0]["load"]

    assert "load" not in content["models"][0]
    assert plain.digest() == Request.model_validate(content).digest()
    assert plain.digest() != Request(site="s", models=(chat(load=LOAD),)).digest()

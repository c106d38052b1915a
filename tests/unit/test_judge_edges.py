"""The judge of the edges: a closed fence passes, and each hole fails the check that is about it, and no other."""

from typing import Any

import pytest

from sizing.judge_edges import judge_edges
from sizing.observation import EdgeObservation, Observation

WHOLE: dict[str, Any] = {
    "certificate_days_left": 824.0,
    "models_status": 200,
    "keyless_status": 401,
    "disguised_path_status": 400,
    "foreign_host_status": 421,
}


def failed(*edges: dict[str, Any]) -> list[tuple[str, str]]:
    seen = {
        f"h{number}": EdgeObservation(address=f"10.77.0.1{number}:443", **{**WHOLE, **edge})
        for number, edge in enumerate(edges, start=2)
    }
    observation = Observation(site="lab", run_id="r", started_at="2026-11-21T00:00:00Z", seconds=1.0, edges=seen)
    return [(check.id, check.subject) for check in judge_edges(observation) if check.verdict == "fail"]


def test_two_whole_edges_with_one_address_pass() -> None:
    assert [] == failed({"holds_virtual_address": True}, {"holds_virtual_address": False})


@pytest.mark.parametrize(
    ("deviation", "check"),
    [
        ({"models_status": 503}, "edge.serves"),
        ({"models_status": None, "error": "connection refused"}, "edge.serves"),
        ({"keyless_status": 200}, "edge.locked"),
        ({"disguised_path_status": 200}, "edge.paths"),
        ({"foreign_host_status": 200}, "edge.names"),
        ({"certificate_days_left": 13.9}, "edge.certificate"),
    ],
)
def test_each_hole_fails_its_own_check(deviation: dict[str, Any], check: str) -> None:
    assert [(check, "h2")] == failed(deviation)


@pytest.mark.parametrize("holders", [(True, True), (False, False)])
def test_an_address_on_two_edges_or_on_none_is_seen(holders: tuple[bool, bool]) -> None:
    assert [("edge.address", "edges")] == failed(*({"holds_virtual_address": holds} for holds in holders))


@pytest.mark.parametrize(
    ("let_in", "failures"), [((), []), (("10.77.0.13",), [("edge.only_way", "gateways")])], ids=["closed", "open"]
)
def test_a_gateway_that_lets_a_stranger_past_the_edges_is_seen(
    let_in: tuple[str, ...], failures: list[tuple[str, str]]
) -> None:
    observation = Observation(
        site="lab", run_id="r", started_at="2026-11-21T00:00:00Z", seconds=1.0, strangers={"h1": (), "h4": let_in}
    )

    assert failures == [(check.id, check.subject) for check in judge_edges(observation) if check.verdict == "fail"]


def test_a_site_without_edges_has_nothing_to_judge() -> None:
    assert [] == failed()

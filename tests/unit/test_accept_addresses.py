"""Where the clients of an acceptance ask, whom they trust, and where their keys are made."""

from pathlib import Path

import pytest

from benchmarks.accept.addresses import addresses
from benchmarks.accept.hosts import Inventory
from benchmarks.endpoint import trusting
from benchmarks.errors import BadLoad
from sizing.plan import Plan
from tests.fakes.lab_site import plan_content

PLANNED = "http://10.77.0.11:4000/v1"
EDGE = "https://10.77.0.100/v1"
PLAN = Plan.parse(plan_content(), origin="plan")


def inventory(**more: str) -> Inventory:
    return Inventory(master_key="", engine_key="", **more)


def test_a_site_without_edges_is_asked_at_its_planned_gateway(tmp_path: Path) -> None:
    found = addresses(PLAN, inventory(), named_url=None, directory=tmp_path)

    assert (PLANNED, PLANNED, None) == (found.clients_url, found.keys_url, found.ca_file)


def test_clients_come_by_the_edges_and_keys_are_made_behind_them(tmp_path: Path) -> None:
    site = inventory(clients_url=EDGE, certificate="  PEM of the edges ")

    found = addresses(PLAN, site, named_url=None, directory=tmp_path)

    assert (EDGE, PLANNED) == (found.clients_url, found.keys_url)
    assert found.ca_file is not None
    assert "PEM of the edges\n" == found.ca_file.read_text(encoding="utf-8")


def test_a_gateway_that_is_named_is_used_for_both_and_the_edges_certificate_is_not_for_it(tmp_path: Path) -> None:
    plain = addresses(PLAN, inventory(), named_url="http://127.0.0.1:4000/v1", directory=tmp_path)
    behind = addresses(
        PLAN, inventory(clients_url=EDGE, certificate="PEM"), named_url="https://other/v1", directory=tmp_path
    )

    assert ("http://127.0.0.1:4000/v1", "http://127.0.0.1:4000/v1") == (plain.clients_url, plain.keys_url)
    assert ("https://other/v1", PLANNED, None) == (behind.clients_url, behind.keys_url, behind.ca_file)


def test_a_file_that_is_no_certificate_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "edge.pem"
    path.write_text("no certificate", encoding="utf-8")

    with pytest.raises(BadLoad, match="not a usable certificate file"):
        trusting(path)

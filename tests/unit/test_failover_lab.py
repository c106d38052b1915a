"""Faults of a whole site: each does to the lab what its name says, and undoes it. The lab here only writes down."""

import json
from pathlib import Path

import pytest

from benchmarks.failover.lab import Lab, gateway_spend, relay_ledgers
from benchmarks.failover.lab_faults import Ground, lab_faults
from benchmarks.suites.failover import Fault
from sizing.plan import Plan
from tests.fakes.lab_site import QWEN, plan_content


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """Writes down its arguments; prints the file `answer` beside it, if there is one."""
    program = tmp_path / "lab"
    program.write_text(
        f'#!/bin/sh\nprintf "%s " "$@" | tr "\\n" " " >>{tmp_path}/said\necho >>{tmp_path}/said\n'
        f"[ ! -e {tmp_path}/answer ] || cat {tmp_path}/answer\n"
    )
    program.chmod(0o755)
    return Lab(program=program)


def said(lab: Lab) -> list[str]:
    path = lab.program.with_name("said")
    lines = [line.strip() for line in path.read_text().splitlines()] if path.exists() else []
    path.unlink(missing_ok=True)
    return lines


def ground(lab: Lab, *, gateways: tuple[str, ...] = ("h1",), workers: int = 1) -> Ground:
    content = plan_content()
    content["gateway"] |= {"hosts": list(gateways), "workers": workers}
    plan = Plan.parse(content, origin="plan")
    model = next(model for model in plan.models if model.name == QWEN)
    return Ground(lab=lab, plan=plan, model=model, database_host="h1", rolling_command=("true",))


def fault(lab: Lab, name: str, *, gateways: tuple[str, ...] = ("h1",), workers: int = 1) -> Fault:
    site = ground(lab, gateways=gateways, workers=workers)
    return next(fault for fault in lab_faults(site) if name in fault.name)


def test_repeats_take_the_engines_of_the_model_in_turn_and_start_each_again(lab: Lab) -> None:
    killed = fault(lab, "API server")

    for _ in range(2):
        killed.inject()
        killed.heal()

    assert [
        "exec h2 -- systemctl kill --signal=SIGKILL --kill-whom=main vllm@tiny-qwen3.service",
        "exec h2 -- systemctl start vllm@tiny-qwen3.service",
        "exec h3 -- systemctl kill --signal=SIGKILL --kill-whom=main vllm@tiny-qwen3.service",
        "exec h3 -- systemctl start vllm@tiny-qwen3.service",
    ] == said(lab)


@pytest.mark.parametrize(
    ("name", "broken", "mended"),
    [
        ("engine stopped", "exec h2 -- systemctl kill --signal=SIGSTOP --kill-whom=all", "--signal=SIGCONT"),
        ("network of an engine host", "cut h2", "heal h2"),
        ("engine host powered off", "kill h2", "start h2 wait h2 exec h2 -- systemctl start vllm@tiny-qwen3.service"),
        ("relay killed", "exec h1 -- systemctl kill --signal=SIGKILL --kill-whom=main relay@tiny-qwen3", ""),
        ("PostgreSQL stopped", "exec h1 -- systemctl stop postgresql@15-main.service", "systemctl start postgresql"),
        ("PostgreSQL slow", "exec h1 -- systemd-run --collect --unit=fault-slow-database", "--signal=SIGCONT"),
        ("Redis stopped", "exec h1 -- systemctl stop redis-server.service", "systemctl start redis-server.service"),
        ("disk full", "exec h1 -- /bin/sh -c dd if=/dev/zero of=/var/lib/postgresql/filler", "rm -f"),
    ],
)
def test_a_fault_does_what_it_says_and_undoes_it(lab: Lab, name: str, broken: str, mended: str) -> None:
    one = fault(lab, name)

    one.inject()
    breaking = said(lab)
    one.heal()

    assert breaking[0].startswith(broken)
    assert mended in " ".join(said(lab))


@pytest.mark.parametrize(
    ("workers", "killed"),
    [
        (1, "exec h1 -- systemctl kill --signal=SIGKILL --kill-whom=main litellm.service"),
        (2, "litellm.service spawn_main SIGKILL"),
    ],
)
def test_the_gateway_worker_that_is_killed_is_one_that_answers(lab: Lab, workers: int, killed: str) -> None:
    one = fault(lab, "gateway worker", workers=workers)

    one.inject()
    one.heal()

    broken, mended = said(lab)
    assert broken.endswith(killed)
    assert "exec h1 -- systemctl start litellm.service" == mended


def test_an_engine_is_out_when_a_relay_says_so(lab: Lab) -> None:
    answer = lab.program.with_name("answer")
    killed = fault(lab, "API server")
    states = {"replicas": [{"id": f"h2-{QWEN}", "state": "ejected"}, {"id": f"h3-{QWEN}", "state": "serving"}]}

    killed.inject()
    answer.write_text(json.dumps(states))
    out = killed.ejected is not None and killed.ejected()
    answer.write_text(json.dumps(states).replace("ejected", "serving"))

    assert out
    assert killed.ejected is not None
    assert not killed.ejected()
    answer.write_text("no JSON")
    assert not killed.ejected()


def test_a_disk_is_filled_only_after_the_database_has_moved_to_a_small_one(lab: Lab) -> None:
    full = fault(lab, "disk full")

    full.prepare()
    full.clean()

    small, old = said(lab)
    assert "mount -t tmpfs -o size=" in small
    assert "umount /var/lib/postgresql" in old


def test_only_with_another_gateway_is_one_powered_off_and_only_its_streams_may_break(lab: Lab) -> None:
    names = [one.name for one in lab_faults(ground(lab))]
    lost = fault(lab, "gateway host powered off", gateways=("h1", "h4"))

    assert not [name for name in names if "gateway host" in name]
    lost.inject()
    lost.heal()
    assert ["kill h1", "start h1", "wait h1", "exec h1 -- systemctl start litellm.service"] == said(lab)
    assert lost.streams_may_break
    assert 4.0 == lost.new_may_fail_seconds


def test_the_ledger_of_the_relays_counts_what_was_completed_once(lab: Lab) -> None:
    bill = {"kind": "end", "outcome": "completed", "prompt_tokens": 11, "completion_tokens": 7}
    lines = [
        {"kind": "begin", "entry": "a-1", "request": "run-1-0-0123abcd"},
        {**bill, "entry": "a-1", "request": "run-1-0-0123abcd"},
        {**bill, "entry": "a-1", "request": "run-1-0-0123abcd"},
        {**bill, "entry": "a-2", "request": "run-1-0-4567abcd", "outcome": "client_gone"},
        {**bill, "entry": "a-4", "request": "proof-1"},
    ]
    torn = '{"kind":"end","entry":"a-3","out'
    lab.program.with_name("answer").write_text("".join(json.dumps(line) + "\n" for line in lines) + torn)

    assert {"run-1-0": (11, 7)} == relay_ledgers(lab, ["h1"]).read()


def test_the_spend_of_the_gateway_is_read_from_its_table(lab: Lab) -> None:
    rows = ("chatcmpl-run-1-0-0123abcd,11,7", "run-2-0-4567abcd,3,4", "cmpl-run-2-0-4567abcd,1,1", "with,comma,3,4")
    rows += ("chatcmpl-run-3-0-0123abcd-leg2,5,6",)  # the first engine had not said a word
    lab.program.with_name("answer").write_text("\n".join(rows) + "\n")

    assert {"run-1-0": (11, 7), "run-2-0": (4, 5), "with,comma": (3, 4), "run-3-0": (5, 6)} == gateway_spend(
        lab, database_host="h1", database="litellm"
    ).read()

"""The diff of a plan: what a reader expects of `diff -u`, also for plans of many hosts."""

import shutil
import subprocess
from pathlib import Path

import pytest

from sizing.plan_diff import plan_diff


def _plan(windows: dict[str, int]) -> str:
    line = '      "{}": {{\n        "port": 8001,\n        "max-model-len": {},\n        "dtype": "auto"\n      }},\n'
    hosts = "".join(line.format(host, window) for host, window in windows.items())
    return f'{{\n  "appliance_plan": {{\n    "site": "lab",\n    "hosts": {{\n{hosts}    }}\n  }}\n}}\n'


def test_equal_plans_differ_in_nothing() -> None:
    assert "" == plan_diff(_plan({"h1": 2048}), _plan({"h1": 2048}), path="plan.json")


def test_a_new_plan_is_all_additions() -> None:
    lines = plan_diff("", "a\nb\n", path="plan.json").splitlines()

    assert ["--- /dev/null", "+++ plan.json (recommended)", "@@ -0,0 +1,2 @@", "+a", "+b"] == lines


def test_a_changed_window_of_one_host_is_one_line_out_and_one_in() -> None:
    before = _plan({f"h{number}": 2048 for number in range(50)})
    after = _plan({f"h{number}": 4096 if number == 7 else 2048 for number in range(50)})

    changed = [line for line in plan_diff(before, after, path="p").splitlines() if line[0] in "+-"]

    assert ["--- p (now)", "+++ p (recommended)"] == changed[:2]
    assert ['-        "max-model-len": 2048,', '+        "max-model-len": 4096,'] == changed[2:]


@pytest.mark.skipif(shutil.which("patch") is None, reason="needs the patch program")
@pytest.mark.parametrize(
    "after",
    [
        {"h1": 2048, "h2": 4096, "h9": 1024},
        {"h2": 2048},
        {"h0": 1, "h1": 2048, "h2": 2048, "h3": 2048, "h4": 9, "h5": 2048},
    ],
)
def test_the_patch_program_turns_one_plan_into_the_other(after: dict[str, int], tmp_path: Path) -> None:
    before = _plan({f"h{number}": 2048 for number in range(1, 6)})
    (tmp_path / "plan.json").write_text(before, encoding="utf-8")

    difference = plan_diff(before, _plan(after), path="plan.json")
    subprocess.run(
        ["patch", "--fuzz=0", str(tmp_path / "plan.json")], input=difference, text=True, check=True, capture_output=True
    )

    assert _plan(after) == (tmp_path / "plan.json").read_text(encoding="utf-8")

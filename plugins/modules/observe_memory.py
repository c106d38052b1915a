#!/usr/bin/python
# Apache License 2.0 (see LICENSE)
"""Ansible module: how much memory the processes of units hold. It judges nothing.

Not the cgroup's MemoryCurrent: that counts the page cache of model files, which grows and shrinks as the kernel likes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: observe_memory
short_description: Read how much memory the processes of systemd units hold
description:
  - For each unit, sums the memory of its main process and all that descend from it; pages that processes share are
    counted once (PSS).
options:
  units: {type: list, elements: str, required: true, description: Names of the units.}
attributes: {check_mode: {support: full}}
"""
EXAMPLES = r"""
- name: Read what the engine holds
  observe_memory:
    units: [vllm@qwen-0.service]
"""
RETURN = r"""
held: {returned: always, type: dict, description: "Bytes of each unit; null where it does not run."}
"""

ARGUMENTS = {"units": {"type": "list", "elements": "str", "required": True}}
PROC = Path("/proc")


def parents() -> dict[int, int]:
    """Process id to parent's, of everything that lives."""
    found = {}
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            try:
                status = (entry / "stat").read_text(encoding="ascii", errors="replace")
            except (FileNotFoundError, ProcessLookupError):
                continue  # ended meanwhile
            found[int(entry.name)] = int(status.rpartition(")")[2].split()[1])
    return found


def tree(root: int, known: dict[int, int]) -> set[int]:
    """A process and all that descend from it."""
    found = {root}
    while children := {child for child, parent in known.items() if parent in found and child not in found}:
        found |= children
    return found


def held_bytes(process: int) -> int:
    """Its share of the memory; 0 of one that has just ended."""
    try:
        lines = (PROC / str(process) / "smaps_rollup").read_text(encoding="utf-8").splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def read(module: Any) -> dict[str, Any]:
    """The answer of the module."""
    held: dict[str, int | None] = {}
    known = parents()
    for unit in module.params["units"]:
        rc, out, err = module.run_command(["systemctl", "show", "--property", "MainPID", "--value", unit])
        if rc != 0 or not out.strip().isdigit():
            module.fail_json(msg=f"{unit}: its main process is not known: " + " ".join((err or out).split()))
        root = int(out)
        held[unit] = sum(held_bytes(process) for process in tree(root, known)) if root in known else None
    return {"held": held}


def main() -> None:
    """Runs the module."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    module.exit_json(changed=False, **read(module))


if __name__ == "__main__":
    main()

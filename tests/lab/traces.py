"""What a lab can leave behind on a machine, as seen from the machine."""

import os
from pathlib import Path

from .cgroups import subtree_name


def traces(state: Path) -> dict[str, set[str]]:
    """What this lab has on the machine right now: processes, network namespaces, control groups."""
    group = subtree_name(state)
    processes, namespaces = set(), set()
    for entry in Path("/proc").iterdir():
        try:
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if group in (entry / "cgroup").read_text() or f"internal labd {state}" in command:
                processes.add(f"{entry.name} {command}")
                namespaces.add((entry / "ns/net").readlink().name)
        except (FileNotFoundError, NotADirectoryError, ProcessLookupError):
            continue
    groups = {str(Path(parent) / name) for parent, names, _ in os.walk("/sys/fs/cgroup") for name in names}
    return {
        "processes": processes,
        "namespaces": namespaces - {Path("/proc/self/ns/net").readlink().name},
        "groups": {path for path in groups if path.endswith(group)},
    }


def surroundings() -> dict[str, list[str]]:
    """What the machine shows to everybody else: no lab may change it, not even while it runs."""
    return {
        "mounts": Path("/proc/self/mountinfo").read_text().splitlines(),
        "interfaces": sorted(path.name for path in Path("/sys/class/net").iterdir()),
        "routes": Path("/proc/net/route").read_text().splitlines(),
    }


def used_namespaces() -> set[str]:
    """The network namespaces in which any process of the machine is."""
    found = set()
    for entry in Path("/proc").iterdir():
        try:
            found.add((entry / "ns/net").readlink().name)
        except OSError:  # ended meanwhile, or process 1 of a machine that hides it
            continue
    return found

"""The control groups of a lab: one subtree per hierarchy, with one group per host below it.

Everything that belongs to a lab is a member, so `down` finds what to end even when nothing else is left to ask.
The subtree's name is derived from the state directory: two labs never meet.
"""

import hashlib
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from .errors import CannotRunHere, LabError

LABD = "labd"
TOOLS = "tools"
TOOLS_FILE = "tools-groups"
_DEVICES = ("c 1:3", "c 1:5", "c 1:7", "c 1:8", "c 1:9", "c 5:0", "c 5:2", "c 136:*")  # null .. urandom, tty, ptmx, pts
_V2_CONTROLLERS = ("cpu", "cpuset", "io", "memory", "pids")


@dataclass(frozen=True, kw_only=True)
class Hierarchy:
    """One mounted cgroup hierarchy. No controllers and no name: that is cgroup v2."""

    mount_point: Path
    controllers: tuple[str, ...]
    own_group: PurePosixPath

    @property
    def is_v2(self) -> bool:
        """Whether this is the unified hierarchy."""
        return not self.controllers

    @property
    def mount_options(self) -> str:
        """What a host mounts to get its own view of this hierarchy."""
        if self.is_v2:
            return "v2"
        return ",".join(f"none,{name}" if name.startswith("name=") else name for name in self.controllers)


def parse_hierarchies(membership: str, mountinfo: str) -> tuple[Hierarchy, ...]:
    """Join /proc/self/cgroup (where we are) with /proc/self/mountinfo (where that is mounted)."""
    mounts = []
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        fields, (kind, _, options) = left.split(), right.split(maxsplit=2)
        if kind in ("cgroup", "cgroup2"):
            mounts.append((kind, PurePosixPath(fields[3]), Path(fields[4]), set(options.split(","))))
    found = []
    for line in membership.splitlines():
        _, names, group = line.split(":", 2)
        controllers = tuple(names.split(",")) if names else ()
        for kind, root, mount_point, flags in mounts:
            if kind == ("cgroup" if controllers else "cgroup2") and flags.issuperset(controllers):
                path = PurePosixPath(group)
                own_group = path.relative_to(root) if path.is_relative_to(root) else PurePosixPath()
                found.append(Hierarchy(mount_point=mount_point, controllers=controllers, own_group=own_group))
                break
    return tuple(found)


def machine_hierarchies() -> tuple[Hierarchy, ...]:
    """This machine's hierarchies, or one line why they do not do."""
    found = parse_hierarchies(Path("/proc/self/cgroup").read_text(), Path("/proc/self/mountinfo").read_text())
    if not found:
        raise CannotRunHere("no cgroup hierarchy is mounted below /sys/fs/cgroup; the lab needs cgroup v1 or v2")
    if not is_pure_v2(found) and not any(h.controllers == ("name=systemd",) for h in found):
        raise CannotRunHere("cgroup v1 is mounted without the 'name=systemd' hierarchy that systemd hosts need")
    return found


def is_pure_v2(hierarchies: tuple[Hierarchy, ...]) -> bool:
    """Whether the machine has the unified hierarchy and nothing else."""
    return all(hierarchy.is_v2 for hierarchy in hierarchies)


def subtree_name(state: Path) -> str:
    """The name of a lab's subtree, the same whenever the same state directory is used."""
    return "llm-lab-" + hashlib.sha256(str(state).encode()).hexdigest()[:12]


def mount_table(hierarchies: tuple[Hierarchy, ...]) -> str:
    """One line per hierarchy for host-init.sh: directory below /sys/fs/cgroup, mount options."""
    if is_pure_v2(hierarchies):
        return ". v2\n"
    return "".join(f"{h.mount_point.name} {h.mount_options}\n" for h in hierarchies)


class Subtree:
    """A lab's groups in every hierarchy."""

    def __init__(self, state: Path) -> None:
        self._name = subtree_name(state)
        self.hierarchies = machine_hierarchies()

    def _tops(self) -> list[tuple[Hierarchy, Path]]:
        # On pure v2 a group with processes cannot have controlled children, and our own has processes.
        at_root = is_pure_v2(self.hierarchies)
        tops = []
        for hierarchy in self.hierarchies:
            parts = () if at_root else hierarchy.own_group.parts
            if self._name in parts:  # labd and its tools are members themselves
                parts = parts[: parts.index(self._name)]
            tops.append((hierarchy, hierarchy.mount_point.joinpath(*parts, self._name)))
        return tops

    def tracking_dirs(self, group: str) -> list[Path]:
        """Where being a member limits nothing: systemd's own hierarchy and v2."""
        return [top / group for h, top in self._tops() if h.is_v2 or h.controllers == ("name=systemd",)]

    def group_dirs(self, group: str) -> list[Path]:
        """The directories of one group of the lab (a host, LABD or TOOLS)."""
        return [top / group for _, top in self._tops()]

    def create(self, group: str, *, restrict_devices: bool = False) -> list[Path]:
        """Make a group in every hierarchy and return its directories."""
        directories = []
        for hierarchy, top in self._tops():
            directory = top / group
            for path in (top, directory):
                path.mkdir(exist_ok=True)
                _prepare(hierarchy, path)
            if restrict_devices and "devices" in hierarchy.controllers:
                (directory / "devices.deny").write_text("a")
                for device in _DEVICES:
                    (directory / "devices.allow").write_text(f"{device} rwm")
            directories.append(directory)
        return directories

    def remove(self, group: str) -> None:
        """Remove a group whose processes are gone."""
        for directory in self.group_dirs(group):
            remove_tree(directory)

    def leftovers(self) -> list[Path]:
        """Every directory on this machine that belongs to this lab, wherever the lab was started from."""
        found = []
        for hierarchy in self.hierarchies:
            for parent, names, _ in os.walk(hierarchy.mount_point):
                if self._name in names:
                    found.append(Path(parent) / self._name)
                    names.remove(self._name)
        return found

    def end(self, *, within_seconds: float = 30) -> None:
        """Kill every member and remove the directories."""
        deadline = time.monotonic() + within_seconds
        for top in self.leftovers():
            if os.getpid() in members(top):  # `lab net -- lab down`: step out first
                (top.parent / "cgroup.procs").write_text("0")
        while leftovers := self.leftovers():
            pids = {pid for top in leftovers for pid in members(top)}
            for pid in pids:
                _kill(pid)
            if not pids:
                for top in leftovers:
                    remove_tree(top)
            if time.monotonic() > deadline:
                raise LabError(f"cannot remove {leftovers[0]}: processes {sorted(pids)} do not end")
            time.sleep(0.02)


def join_tools(state: Path) -> None:
    """Make the calling process a member of the running lab, so that `down` ends it too."""
    # Read, not computed: the caller's session may have other groups than the one that started the lab.
    for directory in (state / TOOLS_FILE).read_text().splitlines():
        (Path(directory) / "cgroup.procs").write_text("0")


def members(top: Path) -> list[int]:
    """The processes of a group and of all groups below it."""
    pids: list[int] = []
    for parent, _, _ in os.walk(top):
        try:
            pids += [int(pid) for pid in (Path(parent) / "cgroup.procs").read_text().split()]
        except OSError:  # removed while we look
            continue
    return pids


def remove_tree(top: Path) -> None:
    """Remove a group and the groups below it; a group still in use stays for the next try."""
    for parent, _, _ in os.walk(top, topdown=False):
        try:
            Path(parent).rmdir()
        except OSError:
            continue


def _prepare(hierarchy: Hierarchy, group: Path) -> None:
    """What a new group needs before processes can enter it or controllers work below it."""
    for name in ("cpuset.cpus", "cpuset.mems"):
        if not hierarchy.is_v2 and (group / name).exists():
            (group / name).write_text((group.parent / name).read_text())
    control = group.parent / "cgroup.subtree_control"
    if hierarchy.is_v2 and control.exists():
        available = (group.parent / "cgroup.controllers").read_text().split()
        enabled = control.read_text().split()
        for controller in _V2_CONTROLLERS:
            if controller in available and controller not in enabled:
                control.write_text(f"+{controller}")


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return

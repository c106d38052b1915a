"""Reading where we are in the control groups of different machines, from what their kernels say."""

from pathlib import Path, PurePosixPath

from tests.lab import cgroups

HYBRID_MEMBERSHIP = """\
9:name=systemd:/
4:memory:/session/7
2:cpu,cpuacct:/
0::/
"""
HYBRID_MOUNTS = """\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
"""
PURE_V2_MEMBERSHIP = "0::/user.slice/user-0.slice/session-4.scope\n"
PURE_V2_MOUNTS = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n"


def test_a_hybrid_machine_has_its_v1_hierarchies_and_the_unified_one() -> None:
    found = cgroups.parse_hierarchies(HYBRID_MEMBERSHIP, HYBRID_MOUNTS)

    assert [
        (Path("/sys/fs/cgroup/systemd"), PurePosixPath("/"), False),
        (Path("/sys/fs/cgroup/memory"), PurePosixPath("session/7"), False),
        (Path("/sys/fs/cgroup/cpu,cpuacct"), PurePosixPath("/"), False),
        (Path("/sys/fs/cgroup/unified"), PurePosixPath("/"), True),
    ] == [
        (h.mount_point, PurePosixPath("/") if h.own_group == PurePosixPath() else h.own_group, h.is_v2) for h in found
    ]
    assert not cgroups.is_pure_v2(found)


def test_hosts_of_a_hybrid_machine_mount_every_hierarchy_with_its_options() -> None:
    found = cgroups.parse_hierarchies(HYBRID_MEMBERSHIP, HYBRID_MOUNTS)

    assert cgroups.mount_table(found).splitlines() == [
        "systemd none,name=systemd",
        "memory memory",
        "cpu,cpuacct cpu,cpuacct",
        "unified v2",
    ]


def test_a_pure_v2_machine_has_one_hierarchy_mounted_at_the_top() -> None:
    found = cgroups.parse_hierarchies(PURE_V2_MEMBERSHIP, PURE_V2_MOUNTS)

    assert cgroups.is_pure_v2(found)
    assert ". v2\n" == cgroups.mount_table(found)


def test_inside_a_container_the_own_group_is_counted_from_what_is_mounted() -> None:
    found = cgroups.parse_hierarchies(
        "4:memory:/docker/abc/inner\n",
        "35 31 0:32 /docker/abc /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n",
    )

    assert PurePosixPath("inner") == found[0].own_group


def test_a_hierarchy_that_is_mounted_nowhere_is_left_out() -> None:
    assert () == cgroups.parse_hierarchies("7:rdma:/\n", HYBRID_MOUNTS)


def test_two_state_directories_never_share_a_subtree() -> None:
    assert cgroups.subtree_name(Path("/a/.lab")) != cgroups.subtree_name(Path("/b/.lab"))
    assert cgroups.subtree_name(Path("/a/.lab")) == cgroups.subtree_name(Path("/a/.lab"))

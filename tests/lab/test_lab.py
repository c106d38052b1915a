"""The lab itself, on real hosts: what later tests build on must hold here first.

It uses a state directory of its own, so a demo lab may run beside it.
"""

import json
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from .driving import LAB, WHY_NOT, Lab, eventually, lab_in, must
from .traces import surroundings, traces, used_namespaces

pytestmark = [pytest.mark.lab, pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    shared = tmp_path_factory.mktemp("shared")
    (shared / "note").write_text("from the machine\n")
    run = lab_in(tmp_path_factory.mktemp("lab"))
    must(run("up", "3", "--bind", f"all={shared}:/srv/wheelhouse/shared"))
    yield run
    must(run("down"))


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Path]:
    directory = tmp_path / "state"
    yield directory
    must(lab_in(directory)("down"))


def test_every_host_of_a_new_lab_is_running(lab: Lab) -> None:
    said = [must(lab("exec", host, "--", "systemctl", "is-system-running")) for host in ("h1", "h2", "h3")]

    assert ["running", "running", "running"] == said


def test_hosts_find_each_other_by_name(lab: Lab) -> None:
    must(lab("exec", "h1", "--", "ping", "-c1", "-W5", "h3"))


def test_a_command_in_a_host_passes_on_input_output_and_exit_code(lab: Lab) -> None:
    done = lab("exec", "h1", "--", "sh", "-c", "tr a-z A-Z; exit 7", stdin="hello")

    assert ("HELLO", 7) == (done.stdout, done.returncode)


def test_a_command_in_a_host_cannot_set_the_machines_clock(lab: Lab) -> None:
    done = lab("exec", "h1", "--", "date", "--set=@0")

    assert 0 != done.returncode
    assert "Operation not permitted" in done.stderr


@pytest.mark.parametrize("way", [("exec", "h1", "--"), ("ssh", "h1")])
def test_no_way_into_a_host_carries_capabilities_that_reach_the_machine(lab: Lab, way: tuple[str, ...]) -> None:
    status = must(lab(*way, "cat", "/proc/self/status"))

    effective = next(int(line.split()[1], 16) for line in status.splitlines() if line.startswith("CapEff"))
    sys_module, sys_rawio, sys_time, mknod, syslog = 16, 17, 25, 27, 34
    assert [] == [bit for bit in (sys_module, sys_rawio, sys_time, mknod, syslog) if effective >> bit & 1]


def test_ssh_works_with_strict_host_keys(lab: Lab) -> None:
    assert "h2" == must(lab("ssh", "h2", "hostname"))


def test_a_bound_directory_is_readable_only_and_pip_knows_it(lab: Lab) -> None:
    note = must(lab("exec", "h2", "--", "cat", "/srv/wheelhouse/shared/note"))
    write = lab("exec", "h2", "--", "touch", "/srv/wheelhouse/shared/new")
    pip = must(lab("exec", "h2", "--", "cat", "/etc/pip.conf"))

    assert "from the machine" == note
    assert "Read-only file system" in write.stderr
    assert "find-links = /srv/wheelhouse/shared" in pip.splitlines()


def test_a_memory_limit_is_enforced(lab: Lab) -> None:
    eat = "import sys; data = bytearray(200 * 2**20); sys.exit(0)"
    done = lab(
        *("exec", "h3", "--", "systemd-run", "--quiet", "--wait", "--pipe", "-p", "MemoryMax=64M"),
        *("python3", "-c", eat),
    )

    assert 0 != done.returncode


def test_a_hardened_unit_gets_the_protection_it_asks_for(lab: Lab) -> None:
    hardening = (
        "PrivateDevices=yes",
        "PrivateUsers=yes",
        "ProtectSystem=strict",
        "DynamicUser=yes",
        "StateDirectory=x",
    )
    properties = [argument for setting in hardening for argument in ("-p", setting)]
    said = must(
        lab(
            *("exec", "h3", "--", "systemd-run", "--quiet", "--wait", "--pipe", *properties),
            *("sh", "-c", "touch /var/lib/x/mine; touch /etc/x 2>&1; test -c /dev/null && ls /dev/full; id -u"),
        )
    )

    refused, device, user = said.splitlines()
    assert "Read-only file system" in refused
    assert "/dev/full" == device
    assert int(user) > 60000


def test_a_killed_host_is_gone_while_the_others_answer_and_start_brings_it_back(lab: Lab) -> None:
    must(lab("exec", "h2", "--", "sh", "-c", "echo kept >/root/file"))

    must(lab("kill", "h2"))

    dead = lab("exec", "h2", "--", "true")
    assert (1, "lab: h2 is off (killed); start it with: tests/lab/lab start h2\n") == (dead.returncode, dead.stderr)
    assert 0 != lab("dial", "h2", "22").returncode
    must(lab("exec", "h1", "--", "ping", "-c1", "-W5", "h3"))
    must(lab("start", "h2"))
    must(lab("wait", "h2"))
    assert "kept" == must(lab("exec", "h2", "--", "cat", "/root/file"))


def test_a_host_can_be_shut_down_in_order(lab: Lab) -> None:
    must(lab("off", "h3"))

    hosts = json.loads(must(lab("status", "--json")))["hosts"]
    assert (False, "powered off") == (hosts[2]["running"], hosts[2]["last_end"])
    must(lab("start", "h3"))
    must(lab("wait", "h3"))


def test_a_reboot_gives_a_new_boot_id(lab: Lab) -> None:
    read = ("exec", "h1", "--", "cat", "/proc/sys/kernel/random/boot_id")
    before = must(lab(*read))

    must(lab("reboot", "h1"))

    assert before != must(lab(*read))


def test_a_cut_host_is_reached_by_nobody_until_it_is_healed(lab: Lab) -> None:
    ping = ("exec", "h1", "--", "ping", "-c1", "-W1", "h2")
    must(lab("cut", "h2"))

    assert 0 != lab(*ping).returncode
    must(lab("reboot", "h2"))
    assert 0 != lab(*ping).returncode, "a reboot must not repair a cable"
    must(lab("heal", "h2"))
    assert eventually(lambda: 0 == lab(*ping).returncode), "neighbours ask again after a second"


def test_a_partition_separates_one_pair_only(lab: Lab) -> None:
    def sees(one: str, other: str) -> bool:
        return 0 == lab("exec", one, "--", "ping", "-c1", "-W1", other).returncode

    must(lab("partition", "h2", "h1"))

    assert [False, False, True, True] == [sees("h1", "h2"), sees("h2", "h1"), sees("h1", "h3"), sees("h2", "h3")]
    must(lab("join"))
    assert eventually(lambda: sees("h1", "h2"))


def test_dial_connects_to_a_port_in_the_lab(lab: Lab) -> None:
    assert lab("dial", "h3", "22", stdin="\n").stdout.startswith("SSH-2.0-")


def test_forward_leads_from_the_machines_loopback_into_the_lab(lab: Lab) -> None:
    address, port = must(lab("forward", "127.0.0.1:0", "h1:22")).split(":")

    with socket.create_connection((address, int(port)), timeout=10) as connection:
        greeting = connection.recv(8)

    assert b"SSH-2.0-" == greeting
    assert 0 == lab("forward", f"{address}:{port}", "h1:22").returncode, "the same wish twice is no error"
    taken = lab("forward", f"{address}:{port}", "h2:22")
    assert f"lab: forward {address}:{port}: address already in use\n" == taken.stderr


def test_hosts_reach_the_machines_apt_servers_and_nothing_else(lab: Lab) -> None:
    must(lab("exec", "h1", "--", "apt-get", "update", "-qq"))

    refused = lab("exec", "h1", "--", "curl", "-sS", "-x", "10.77.0.1:3128", "http://192.0.2.1/", "-w", "%{http_code}")
    assert "403" == refused.stdout


def test_a_second_up_is_refused_in_one_line(lab: Lab) -> None:
    again = lab("up", "1")

    assert 1 == again.returncode
    assert again.stderr.startswith("lab: a lab is up already in ")


def test_an_unknown_host_is_refused_with_the_names_there_are(lab: Lab) -> None:
    done = lab("kill", "h9")

    assert (1, "lab: there is no host 'h9'; this lab has h1, h2, h3\n") == (done.returncode, done.stderr)


def test_down_leaves_nothing_even_with_open_connections_and_forwards(state: Path) -> None:
    before = surroundings()
    run = lab_in(state)
    must(run("up", "2"))
    must(run("forward", "127.0.0.1:0", "h1:22"))
    lingering = [
        subprocess.Popen(
            [str(LAB), *arguments],
            env={**os.environ, "LLM_APPLIANCE_LAB_STATE": str(state)},
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
        )
        for arguments in (("dial", "h1", "22"), ("net", "--", "sleep", "600"), ("exec", "h2", "--", "sleep", "600"))
    ]
    assert eventually(lambda: sum("sleep 600" in process for process in traces(state)["processes"]) >= 2)
    during = traces(state)
    assert 3 == len(during["namespaces"]), "the lab's own network and one for each host"
    assert during["groups"]
    assert before == surroundings()

    must(run("down"))

    for process in lingering:
        process.communicate(timeout=10)
    assert not state.exists()
    assert set() == traces(state)["groups"]
    # What is killed has ended, but whoever inherits it may take a moment to collect it.
    assert eventually(lambda: traces(state) == {"processes": set(), "namespaces": set(), "groups": set()})
    assert set() == during["namespaces"] & used_namespaces()
    assert before == surroundings()


def test_down_cleans_up_after_labd_was_killed_and_can_be_repeated(state: Path) -> None:
    run = lab_in(state)
    must(run("up", "1"))
    labd = next(line for line in traces(state)["processes"] if "internal labd" in line and "unshare" not in line)

    os.kill(int(labd.split()[0]), 9)

    assert eventually(lambda: run("status").stdout.startswith("down"))
    assert eventually(lambda: not traces(state)["processes"]), "the kernel ends what labd held"
    assert traces(state)["groups"]
    must(run("down"))
    assert not state.exists()
    assert set() == traces(state)["groups"]
    must(run("down"))


def test_a_saved_layer_is_there_in_a_new_lab(state: Path, tmp_path: Path) -> None:
    # Given a cache of its own that shares the built images
    cache = tmp_path / "cache" / "lab"
    cache.mkdir(parents=True)
    (cache / "bases").symlink_to(Path(must(lab_in(state)("base")).splitlines()[0]).parent)
    run = lab_in(state, LLM_APPLIANCE_CACHE=str(cache.parent))
    must(run("up", "1"))
    must(run("exec", "h1", "--", "sh", "-c", "install -d -m 750 -o postgres /opt/thing && echo made >/opt/thing/file"))

    must(run("save-layer", "h1", "thing-1", "/opt/thing"))
    nothing = run("save-layer", "h1", "other-1", "/opt/absent")
    must(run("down"))
    must(run("up", "2", "--layer", "h2=thing-1"))

    assert "made" == must(run("exec", "h2", "--", "cat", "/opt/thing/file"))
    assert "750 postgres" == must(run("exec", "h2", "--", "stat", "-c", "%a %U", "/opt/thing"))
    assert 0 != run("exec", "h1", "--", "test", "-e", "/opt/thing").returncode
    assert "thing-1" == must(run("layers")).split()[0]
    assert 1 == nothing.returncode
    assert "h1 has written nothing at /opt/absent" in nothing.stderr

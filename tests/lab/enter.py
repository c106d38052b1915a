"""Ways into a running lab: a command in a host, a command in the lab's network, one connection, one ssh session.

Each replaces the calling process, after joining the lab's control group, so that `down` ends it too.
"""

import os
import socket
from pathlib import Path
from typing import NoReturn

from . import addresses, cgroups, control, furnish
from .errors import LabError
from .namespaces import DROPPED_CAPABILITIES, enter_network
from .relay import with_terminal
from .spec import LabSpec

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_CONNECT_SECONDS = 15


def command_in_host(state: Path, host: str, command: list[str]) -> list[str]:
    """The argument list that runs a command in a host, without the capabilities that reach the machine."""
    labd = control.running_labd_pid(state)
    init = control.ask(state, "init-pid", host)
    # Two steps: only labd's own /proc numbers the hosts' processes.
    into_lab = ["nsenter", f"--target={labd}", "--mount", "--net", "--pid"]
    into_host = [
        *("nsenter", f"--target={init}", "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup"),
        *("--root", "--wd"),
    ]
    environment = [f"PATH={_PATH}", "HOME=/root", "LANG=C.UTF-8", f"TERM={os.environ.get('TERM', 'dumb')}"]
    inside = ["setpriv", "--bounding-set", DROPPED_CAPABILITIES, "env", "-i", *environment, *command]
    return [*into_lab, "--", *into_host, "--", *inside]


def execute(state: Path, host: str, command: list[str]) -> NoReturn:
    """Become a command in a host."""
    argv = command_in_host(state, host, command)
    cgroups.join_tools(state)
    os.execvp(argv[0], argv)  # noqa: S606 (becoming it passes on stdin and the exit code)


def execute_in_network(state: Path, command: list[str]) -> NoReturn:
    """Become a command that sees the machine's files and the lab's network."""
    labd = control.running_labd_pid(state)
    cgroups.join_tools(state)
    _enter_lab_network(labd)
    try:
        os.execvp(command[0], command)  # noqa: S606 (as above)
    except OSError as error:
        raise LabError(f"{command[0]}: {(error.strerror or '').lower()}") from None


def dial(state: Path, host: str, port: int) -> None:
    """Connect our stdin and stdout with a port in the lab."""
    labd = control.running_labd_pid(state)
    target = LabSpec.read(state).host(host).address if host.startswith("h") else host
    cgroups.join_tools(state)
    _enter_lab_network(labd)
    try:
        remote = socket.create_connection((target, port), _CONNECT_SECONDS)
    except OSError as error:
        raise LabError(f"dial {host} {port}: {error.strerror or error}".lower()) from None
    remote.settimeout(None)
    with_terminal(remote)
    os._exit(0)  # a thread may still wait for stdin


def secure_shell(state: Path, host: str, command: list[str]) -> NoReturn:
    """Become ssh."""
    addresses.host_address(host)
    LabSpec.read(state).host(host)
    os.execvp("ssh", ["ssh", "-F", str(state / furnish.SSH_CONFIG), host, *command])  # noqa: S606 (as above)


def _enter_lab_network(labd: int) -> None:
    descriptor = os.open(f"/proc/{labd}/ns/net", os.O_RDONLY)
    enter_network(descriptor)
    os.close(descriptor)

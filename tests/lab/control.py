"""The line between a command and the running lab: a Unix socket in the state directory.

Whoever can connect knows that the lab is up, and the kernel tells the process id of labd as seen from here:
no process-id file that could lie. One request is one line of JSON, one reply is one line of JSON.
"""

import json
import os
import socket
import struct
from dataclasses import asdict, dataclass
from pathlib import Path

from .errors import LabError

SOCKET_NAME = "labd.sock"
_REPLY_SECONDS = 60


@dataclass(frozen=True, kw_only=True)
class HostState:
    """What labd knows about one host."""

    name: str
    address: str
    running: bool
    boot_count: int
    cut: bool
    last_end: str


@dataclass(frozen=True, kw_only=True)
class Forward:
    """A port of the machine's loopback that leads into the lab."""

    listen: str
    target: str


@dataclass(frozen=True, kw_only=True)
class LabState:
    """What labd knows about the lab."""

    hosts: tuple[HostState, ...]
    partitions: tuple[tuple[str, str], ...]
    forwards: tuple[Forward, ...]

    def host(self, name: str) -> HostState:
        """The host of that name."""
        for host in self.hosts:
            if host.name == name:
                return host
        raise LabError(f"there is no host '{name}'; this lab has {', '.join(h.name for h in self.hosts)}")

    def to_json(self) -> str:
        """For programs."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> "LabState":
        """Back from JSON."""
        document = json.loads(text)
        return LabState(
            hosts=tuple(HostState(**host) for host in document["hosts"]),
            partitions=tuple((left, right) for left, right in document["partitions"]),
            forwards=tuple(Forward(**forward) for forward in document["forwards"]),
        )


def _socket_address(directory: int) -> str:
    # A Unix socket address holds 107 bytes, a state directory may be longer: go through the open directory.
    return f"/proc/self/fd/{directory}/{SOCKET_NAME}"


def listen(state: Path) -> socket.socket:
    """The server's end, made by labd."""
    (state / SOCKET_NAME).unlink(missing_ok=True)
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    directory = os.open(state, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        server.bind(_socket_address(directory))
    finally:
        os.close(directory)
    server.listen(16)
    return server


def connect(state: Path) -> socket.socket | None:
    """The client's end, or nothing when no lab is up."""
    try:
        directory = os.open(state, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    client.settimeout(_REPLY_SECONDS)
    try:
        client.connect(_socket_address(directory))
    except (FileNotFoundError, ConnectionRefusedError):
        client.close()
        return None
    finally:
        os.close(directory)
    return client


def labd_pid(state: Path) -> int | None:
    """labd's process id in this process's numbering, or nothing when no lab is up."""
    client = connect(state)
    if client is None:
        return None
    with client:
        credentials = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid: int = struct.unpack("3i", credentials)[0]
    return pid


def running_labd_pid(state: Path) -> int:
    """labd's process id, or one line that the lab is down."""
    pid = labd_pid(state)
    if pid is None:
        raise LabError("the lab is down; start it with: tests/lab/lab up 3")
    return pid


def ask(state: Path, *request: str) -> str:
    """Send one request and return the answer's text."""
    client = connect(state)
    if client is None:
        raise LabError("the lab is down; start it with: tests/lab/lab up 3")
    with client, client.makefile("rw") as stream:
        stream.write(json.dumps(request) + "\n")
        stream.flush()
        line = stream.readline()
    if not line:
        raise LabError(f"labd gave no answer to '{' '.join(request)}'; see {state}/labd.log")
    reply = json.loads(line)
    if "error" in reply:
        raise LabError(reply["error"])
    return str(reply["answer"])


def lab_state(state: Path) -> LabState:
    """Ask labd how things stand."""
    return LabState.from_json(ask(state, "state"))

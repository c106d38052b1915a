"""labd: process 1 of the lab's own mount, pid and network namespace. When it dies, the kernel ends all the rest.

It lays the network, boots hosts, boots them again when they reboot, and answers the control socket.
One thread, one loop: child exits and requests are handled one after the other.
"""

import json
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

from . import addresses, control, places
from .cgroups import Subtree, mount_table
from .errors import LabError
from .namespaces import DROPPED_CAPABILITIES, inside_network
from .network import Network
from .spec import HostSpec, LabSpec

POWER_OFF_SIGNAL = signal.SIGRTMIN + 4  # systemd(1): "Powers off the machine"
_REBOOTED = 128 + signal.SIGHUP  # pid_namespaces(7): how reboot(2) inside a pid namespace ends process 1
_POWERED_OFF = 128 + signal.SIGINT
_PASSED_DESCRIPTOR = 3


class Labd:
    """The running lab."""

    def __init__(self, state: Path) -> None:
        self._state = state
        self._spec = LabSpec.read(state)
        self._subtree = Subtree(state)
        self._network = Network()
        self._boots = {host.name: 0 for host in self._spec.hosts}
        self._ends = {host.name: "never started" for host in self._spec.hosts}
        self._wrappers: dict[str, int] = {}  # host -> pid of the unshare(1) that waits for its process 1
        self._killed: set[str] = set()  # unshare(1) does not tell a kill from a failure, we do
        self._forwards: dict[int, control.Forward] = {}
        for host in self._spec.hosts:
            self._network.add_host(host.name, host.address)
        (state / "cgroup-mounts").write_text(mount_table(self._subtree.hierarchies))
        self._verbs: dict[str, Callable[..., str]] = {
            "state": self._tell_state,
            "start": self._start,
            "kill": self._kill,
            "power-off": self._power_off,
            "init-pid": self._ready_init_pid,
            "cut": lambda name: self._change(self._network.cut_host, name),
            "heal": lambda name: self._change(self._network.heal_host, name),
            "partition": lambda one, other: self._change(self._network.separate, one, other),
            "join": lambda: self._change(self._network.join),
            "forward": self._forward,
        }

    def serve(self) -> None:
        """Answer and reap until killed."""
        wake_up, on_signal = socket.socketpair()
        for end in (wake_up, on_signal):
            end.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(on_signal.fileno(), warn_on_full_buffer=False)
        self._start_proxy()
        server = control.listen(self._state)
        with selectors.DefaultSelector() as selector:
            selector.register(server, selectors.EVENT_READ)
            selector.register(wake_up, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    if key.fileobj is server:
                        self._answer(server)
                    else:
                        wake_up.recv(4096)
                self._reap()

    def _answer(self, server: socket.socket) -> None:
        client, _ = server.accept()
        client.settimeout(2)
        with client, client.makefile("rw") as stream:
            try:
                line = stream.readline()
                if not line:  # somebody who only wanted to know whether we live
                    return
                verb, *arguments = json.loads(line)
                try:
                    reply = {"answer": self._handle(verb, arguments)}
                except (LabError, OSError) as error:
                    reply = {"error": str(error)}
                stream.write(json.dumps(reply) + "\n")
                stream.flush()
            except OSError as error:
                _log(f"control: {error}")

    def _handle(self, verb: str, arguments: list[str]) -> str:
        if verb not in self._verbs:
            raise LabError(f"this labd does not know '{verb}'; was it started by another version?")
        return self._verbs[verb](*arguments)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self._forwards.pop(pid, None)
            for name, wrapper in self._wrappers.items():
                if wrapper == pid:
                    self._ended(name, status)
                    break

    def _ended(self, name: str, status: int) -> None:
        del self._wrappers[name]
        code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)
        self._subtree.remove(name)
        meanings = {_REBOOTED: "rebooted", _POWERED_OFF: "powered off"}
        self._ends[name] = "killed" if name in self._killed else meanings.get(code, f"ended with {code}")
        self._killed.discard(name)
        _log(f"{name} {self._ends[name]}")
        if code == _REBOOTED:
            self._boot(self._spec.host(name))

    def _boot(self, host: HostSpec) -> None:
        groups = self._subtree.create(host.name, restrict_devices=True)
        # Only process 1 enters the host's groups, and the group it is in becomes what the host sees as the top:
        # with the waiting unshare(1) as a member, cgroup v2 would refuse every limit below it.
        argv = [
            *("unshare", "--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child", "--propagation", "private"),
            *(str(places.LAB_DIR / "join-groups.sh"), *map(str, groups), "--"),
            *("unshare", "--cgroup", str(places.LAB_DIR / "host-init.sh")),
        ]
        environment = {
            "PATH": os.environ["PATH"],
            "LAB_NAME": host.name,
            "LAB_DIR": str(self._state / "hosts" / host.name),
            "LAB_LOWER": ":".join(host.lower),
            "LAB_MOUNTS": str(self._state / "cgroup-mounts"),
            "LAB_DROP": DROPPED_CAPABILITIES,
        }
        with inside_network(self._network.of_host(host.name)):
            self._wrappers[host.name] = _spawn(argv, environment=environment)
        self._boots[host.name] += 1
        _log(f"{host.name} boots")

    def _start(self, name: str) -> str:
        host = self._spec.host(name)
        if name in self._wrappers:
            raise LabError(f"{name} is running already")
        self._boot(host)
        return ""

    def _init_pid(self, name: str) -> int:
        """Process 1 of a host, in labd's numbering."""
        self._spec.host(name)
        if name not in self._wrappers:
            raise LabError(f"{name} is off ({self._ends[name]}); start it with: tests/lab/lab start {name}")
        pid = _child_of(self._wrappers[name])
        if pid is None:
            raise LabError(f"{name} is booting")
        return pid

    def _ready_init_pid(self, name: str) -> str:
        """The same, but only once systemd runs: before that the host's root is still being built."""
        pid = self._init_pid(name)
        if Path(f"/proc/{pid}/comm").read_text().strip() != "systemd":
            raise LabError(f"{name} is booting")
        return str(pid)

    def _kill(self, name: str) -> str:
        os.kill(self._init_pid(name), signal.SIGKILL)
        self._killed.add(name)
        return ""

    def _power_off(self, name: str) -> str:
        os.kill(int(self._ready_init_pid(name)), POWER_OFF_SIGNAL)
        return ""

    def _change(self, action: Callable[..., None], *names: str) -> str:
        for name in names:
            self._spec.host(name)
        action(*names)
        return ""

    def _forward(self, listen: str, target: str) -> str:
        wanted = control.Forward(listen=listen, target=target)
        if wanted in self._forwards.values():
            return listen
        address, port = addresses.parse_endpoint(listen)
        host, host_port = addresses.parse_endpoint(target)
        destination = self._spec.host(host).address
        with inside_network(self._network.machine):
            server = _listener(address, port, purpose=f"forward {listen}")
        with server:
            actual = f"{address}:{server.getsockname()[1]}"
            argv = _internal("forward", str(_PASSED_DESCRIPTOR), destination, str(host_port))
            pid = _spawn(argv, descriptor=server.fileno())
        self._forwards[pid] = control.Forward(listen=actual, target=target)
        return actual

    def _start_proxy(self) -> None:
        # It listens in the lab and dials out from the machine: the hosts' only way out.
        server = _listener(addresses.BRIDGE_ADDRESS, addresses.PROXY_PORT, purpose="proxy")
        with server, inside_network(self._network.machine):
            argv = _internal("proxy", str(_PASSED_DESCRIPTOR), str(places.debs_dir()))
            _spawn(argv, descriptor=server.fileno())

    def _tell_state(self) -> str:
        hosts = tuple(
            control.HostState(
                name=host.name,
                address=host.address,
                running=host.name in self._wrappers,
                boot_count=self._boots[host.name],
                cut=host.name in self._network.cut,
                last_end=self._ends[host.name],
            )
            for host in self._spec.hosts
        )
        return control.LabState(
            hosts=hosts,
            partitions=tuple(sorted(self._network.partitions)),
            forwards=tuple(self._forwards.values()),
        ).to_json()


def main(state: Path) -> None:
    """Entry of `lab internal labd`."""
    try:
        Labd(state).serve()
    except (LabError, OSError) as error:
        _log(str(error))
        sys.exit(1)


def _log(message: str) -> None:
    print(time.strftime("%H:%M:%S"), message, flush=True)


def _internal(*arguments: str) -> list[str]:
    return [sys.executable, "-I", str(places.LAB_COMMAND), "internal", *arguments]


def _listener(address: str, port: int, *, purpose: str) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        return socket.create_server((address, port), family=family, backlog=64)
    except OSError as error:
        raise LabError(f"{purpose}: {os.strerror(error.errno or 0).lower()}") from None


def _spawn(argv: list[str], *, environment: dict[str, str] | None = None, descriptor: int | None = None) -> int:
    """Start a program in its own session; our loop reaps it. The descriptor becomes its number 3."""
    actions = [] if descriptor is None else [(os.POSIX_SPAWN_DUP2, descriptor, _PASSED_DESCRIPTOR)]
    return os.posix_spawnp(argv[0], argv, environment or dict(os.environ), file_actions=actions, setsid=True)


def _child_of(parent: int) -> int | None:
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                after_name = (entry / "stat").read_text().rpartition(") ")[2]
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(after_name.split()[1]) == parent:
                return int(entry.name)
    return None

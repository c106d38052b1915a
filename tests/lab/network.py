"""The lab's own network: a bridge in a namespace of its own, one cable per host, and what is broken on purpose.

Runs inside labd, which holds every host's namespace open: a host keeps its cable, cut or not, across a reboot.
The machine's own network is never touched: no address translation, no forwarding, no firewall rule, no interface.
"""

import os
import subprocess

from . import addresses
from .errors import LabError
from .namespaces import current_network, enter_network, inside_network, new_network


def ruleset(cut: set[str], partitions: set[tuple[str, str]]) -> str:
    """The nftables bridge table that loses the frames of cut hosts and of separated pairs."""
    ingress = [f'iifname "{addresses.bridge_port(name)}" drop' for name in sorted(cut)]
    egress = [f'oifname "{addresses.bridge_port(name)}" drop' for name in sorted(cut)]
    forward = []
    for left, right in sorted(partitions):
        for one, other in ((left, right), (right, left)):
            ports = addresses.bridge_port(one), addresses.bridge_port(other)
            forward.append('iifname "{}" oifname "{}" drop'.format(*ports))
    chains = [("prerouting", ingress), ("postrouting", egress), ("forward", forward)]
    lines = ["table bridge lab", "delete table bridge lab", "table bridge lab {"]
    for hook, rules in chains:
        lines.append(f"  chain {hook} {{")
        lines.append(f"    type filter hook {hook} priority 0;")
        lines += [f"    {rule}" for rule in rules]
        lines.append("  }")
    return "\n".join([*lines, "}"]) + "\n"


class Network:
    """Everything below the bridge. The process that makes it lives in the lab's namespace from then on."""

    def __init__(self) -> None:
        self.machine = current_network()
        self._lab = new_network()
        self._hosts: dict[str, int] = {}
        self.cut: set[str] = set()
        self.partitions: set[tuple[str, str]] = set()
        address = f"{addresses.BRIDGE_ADDRESS}/{addresses.PREFIX_LENGTH}"
        _ip("link", "set", "lo", "up")
        _ip("link", "add", addresses.BRIDGE, "type", "bridge")
        _ip("address", "add", address, "dev", addresses.BRIDGE)
        _ip("link", "set", addresses.BRIDGE, "up")

    def add_host(self, name: str, address: str) -> None:
        """Lay the cable of one host."""
        descriptor = new_network()
        enter_network(self._lab)
        self._hosts[name] = descriptor
        port = addresses.bridge_port(name)
        peer = f"/proc/{os.getpid()}/fd/{descriptor}"
        _ip("link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", peer)
        _ip("link", "set", port, "master", addresses.BRIDGE, "up")
        with inside_network(descriptor):
            _ip("link", "set", "lo", "up")
            _ip("address", "add", f"{address}/{addresses.PREFIX_LENGTH}", "dev", "eth0")
            _ip("link", "set", "eth0", "up")
            _ip("route", "add", "default", "via", addresses.BRIDGE_ADDRESS)

    def of_host(self, name: str) -> int:
        """The descriptor of a host's namespace."""
        return self._hosts[name]

    def cut_host(self, name: str) -> None:
        """The cable carries nothing any more; the link light stays on."""
        self._change(self.cut | {name}, self.partitions)

    def heal_host(self, name: str) -> None:
        """The cable works again."""
        self._change(self.cut - {name}, self.partitions)

    def separate(self, left: str, right: str) -> None:
        """These two lose each other and nobody else."""
        if left == right:
            raise LabError(f"a partition needs two hosts, not {left} twice")
        self._change(self.cut, self.partitions | {(min(left, right), max(left, right))})

    def join(self) -> None:
        """Every separated pair finds each other again; cut hosts stay cut."""
        self._change(self.cut, set())

    def _change(self, cut: set[str], partitions: set[tuple[str, str]]) -> None:
        _run(["nft", "-f", "-"], stdin=ruleset(cut, partitions))
        self.cut, self.partitions = cut, partitions


def _ip(*arguments: str) -> None:
    _run(["ip", *arguments])


def _run(argv: list[str], *, stdin: str = "") -> None:
    done = subprocess.run(argv, input=stdin, text=True, capture_output=True, check=False)
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise LabError(f"{' '.join(argv)}: {said[-1] if said else f'exit code {done.returncode}'}")

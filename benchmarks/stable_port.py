"""Stable port: one that is still free when its server comes back after a kill.

A port that the kernel gave may become the source of somebody's outgoing connection meanwhile. Ports below that range
do not.
"""

import random
import socket
from pathlib import Path

RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
LOWEST, OUTGOING = 12_000, 32_768  # where the range cannot be read, Linux' own
ATTEMPTS = 1_000


def stable_port() -> int:
    """A free port on loopback."""
    first = int(RANGE.read_text(encoding="ascii").split()[0]) if RANGE.is_file() else OUTGOING
    highest = first if first > LOWEST + ATTEMPTS else OUTGOING
    for _ in range(ATTEMPTS):
        port = random.randrange(LOWEST, highest)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError(f"no free port on loopback from {LOWEST} to {highest}, {ATTEMPTS} were tried")

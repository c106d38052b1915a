"""The two system calls Python 3.11 lacks, and the capabilities that nothing inside a host may hold."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager

CLONE_NEWNET = 0x40000000

# A host shares the machine's kernel. Without this list root in a host could set the machine's clock,
# load modules, touch ports, read the kernel log and open the machine's disks.
DROPPED_CAPABILITIES = "-sys_time,-sys_module,-sys_rawio,-syslog,-mknod"

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, call: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}")


def enter_network(descriptor: int) -> None:
    """Move this thread into a network namespace."""
    _check(_libc.setns(descriptor, CLONE_NEWNET), "setns")


def new_network() -> int:
    """Move this thread into a new network namespace and return a descriptor that keeps it alive."""
    _check(_libc.unshare(CLONE_NEWNET), "unshare")
    return current_network()


def current_network() -> int:
    """A descriptor of the network namespace this thread is in."""
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


@contextmanager
def inside_network(descriptor: int) -> Iterator[None]:
    """Run the body in another network namespace; processes started there stay there."""
    home = current_network()
    enter_network(descriptor)
    try:
        yield
    finally:
        enter_network(home)
        os.close(home)

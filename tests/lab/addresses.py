"""Names and addresses inside a lab. Every lab has its own network namespace, so all labs use the same ones."""

import re

from .errors import UsageError

BRIDGE = "br0"
BRIDGE_ADDRESS = "10.77.0.1"
PREFIX_LENGTH = 24
PROXY_PORT = 3128
MAX_HOSTS = 99
_FIRST_HOST_OCTET = 11
_HOST_NAME = re.compile(r"h([1-9][0-9]?)")


def host_name(number: int) -> str:
    """The name of the n-th host, counted from 1."""
    return f"h{number}"


def host_address(name: str) -> str:
    """The address of a host: h1 is 10.77.0.11, h2 is 10.77.0.12."""
    match = _HOST_NAME.fullmatch(name)
    if not match:
        raise UsageError(f"'{name}' is no lab host; hosts are named h1, h2, ...")
    return f"10.77.0.{_FIRST_HOST_OCTET - 1 + int(match.group(1))}"


def bridge_port(name: str) -> str:
    """The lab's end of a host's network cable."""
    return f"v-{name}"


def hosts_file(names: list[str]) -> str:
    """/etc/hosts of every host: there is no DNS in the lab."""
    lines = ["127.0.0.1 localhost", "::1 localhost ip6-localhost ip6-loopback"]
    lines += [f"{host_address(name)} {name}" for name in names]
    return "\n".join(lines) + "\n"


def parse_endpoint(text: str) -> tuple[str, int]:
    """ADDRESS:PORT as typed by a person."""
    address, colon, port = text.rpartition(":")
    if not colon or not address or not port.isdecimal() or int(port) > 65535:
        raise UsageError(f"'{text}' is not ADDRESS:PORT")
    return address.strip("[]"), int(port)

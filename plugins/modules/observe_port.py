#!/usr/bin/python
# Apache License 2.0 (see LICENSE)
"""Ansible module: which of these addresses let this host connect to a port. It connects, says nothing, and hangs up."""

from __future__ import annotations

import ipaddress
import socket
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: observe_port
short_description: Try to connect to a port that should be closed to this host
options:
  own_address: {type: str, required: true, description: This host's address.}
  addresses: {type: list, elements: str, required: true, description: Whom to try.}
  port: {type: int, required: true, description: The TCP port.}
  allowed_networks: {type: list, elements: str, default: [], description: From there it may be open; nothing is tried.}
attributes: {check_mode: {support: full}}
"""
EXAMPLES = r"""
- name: Try the gateway
  observe_port:
    own_address: 10.0.0.21
    addresses: [10.0.0.11]
    port: 4000
"""
RETURN = r"""
reached: {returned: when this host has no business there, type: list, description: Addresses that let it connect.}
"""

ARGUMENTS = {
    "own_address": {"type": "str", "required": True},
    "addresses": {"type": "list", "elements": "str", "required": True},
    "port": {"type": "int", "required": True},
    "allowed_networks": {"type": "list", "elements": "str", "default": []},
}
TIMEOUT_SECONDS = 3.0


def is_allowed(address: str, networks: list[str]) -> bool:
    """Whether one of the networks holds the address; a host's name is in none."""
    try:
        own = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(own in ipaddress.ip_network(network, strict=False) for network in networks)


def reaches(address: str, port: int) -> bool:
    """Whether a connection comes about."""
    try:
        with socket.create_connection((address, port), timeout=TIMEOUT_SECONDS):
            return True
    except OSError:
        return False


def main() -> None:
    """Runs the module."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    given: dict[str, Any] = module.params
    if is_allowed(given["own_address"], given["allowed_networks"]):
        module.exit_json(changed=False)
        return
    reached = [address for address in given["addresses"] if reaches(address, given["port"])]
    module.exit_json(changed=False, reached=reached)


if __name__ == "__main__":
    main()

#!/usr/bin/python
# Apache License 2.0 (see LICENSE)
"""Ansible module: what clients, strangers and the curious get from this host's edge. It asks, and changes nothing."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: observe_edge
short_description: Ask an edge what it lets through and what it stops
description:
  - Every answer is an observation, an error as well.
  - The certificate has to be valid for the name that clients use, under the authority that is handed in.
options:
  address: {type: str, required: true, description: Where the edge listens.}
  port: {type: int, default: 443, description: Its TLS port.}
  server_name: {type: str, required: true, description: A name under which clients call.}
  certificate: {type: str, required: true, description: The certificate in PEM; trusted here as its own authority.}
  key: {type: str, required: true, description: A key that the gateway knows.}
  virtual_address: {type: str, default: "", description: The address that one of the edges holds, with prefix length.}
attributes: {check_mode: {support: full}}
"""
EXAMPLES = r"""
- name: Ask the edge
  observe_edge:
    address: "{{ ansible_host }}"
    server_name: ai.example.com
    certificate: "{{ vault_edge_certificate }}"
    key: "{{ vault_gateway_master_key }}"
"""
RETURN = r"""
observation: {returned: always, type: dict, description: EdgeObservation.}
"""

ARGUMENTS = {
    "address": {"type": "str", "required": True},
    "port": {"type": "int", "default": 443},
    "server_name": {"type": "str", "required": True},
    "certificate": {"type": "str", "required": True},
    "key": {"type": "str", "required": True, "no_log": True},
    "virtual_address": {"type": "str", "default": ""},
}
TIMEOUT_SECONDS = 10
FOREIGN_NAME = "foreign.invalid"
DISGUISED_PATH = "/v1/models/..%2f..%2fkey/list"
SECONDS_PER_DAY = 86400


class Edge:
    """One edge, asked over TLS as a client would."""

    def __init__(self, module: Any) -> None:
        self.module = module
        self.given: dict[str, Any] = module.params
        self.context = ssl.create_default_context(cadata=self.given["certificate"])

    def observe(self) -> dict[str, Any]:
        """Status codes, the days that the certificate has left, and whether the shared address is here."""
        observation: dict[str, Any] = {
            "address": f"{self.given['address']}:{self.given['port']}",
            "holds_virtual_address": self._holds_virtual_address(),
        }
        try:
            observation["certificate_days_left"] = self._days_left()
            observation["models_status"] = self._ask("/v1/models", key=self.given["key"])
            observation["keyless_status"] = self._ask("/v1/models")
            observation["disguised_path_status"] = self._ask(DISGUISED_PATH, key=self.given["key"])
            observation["foreign_host_status"] = self._ask("/v1/models", key=self.given["key"], host=FOREIGN_NAME)
        except (OSError, http.client.HTTPException) as error:
            observation["error"] = str(error) or type(error).__name__
        return observation

    def _connect(self) -> ssl.SSLSocket:
        plain = socket.create_connection((self.given["address"], self.given["port"]), timeout=TIMEOUT_SECONDS)
        return self.context.wrap_socket(plain, server_hostname=self.given["server_name"])

    def _days_left(self) -> float:
        with self._connect() as connection:
            certificate = connection.getpeercert() or {}
        return round((ssl.cert_time_to_seconds(str(certificate["notAfter"])) - time.time()) / SECONDS_PER_DAY, 1)

    def _ask(self, path: str, *, key: str | None = None, host: str | None = None) -> int:
        connection = http.client.HTTPConnection(self.given["address"], timeout=TIMEOUT_SECONDS)
        connection.sock = self._connect()
        try:
            headers = {"Host": host or self.given["server_name"], "Connection": "close"}
            if key:
                headers["Authorization"] = "Bearer " + key
            connection.request("GET", path, headers=headers)
            return connection.getresponse().status
        finally:
            connection.close()

    def _holds_virtual_address(self) -> bool | None:
        wanted = self.given["virtual_address"].partition("/")[0]
        if not wanted:
            return None
        _, out, _ = self.module.run_command(["ip", "-json", "address"], check_rc=True)
        return any(address.get("local") == wanted for link in json.loads(out) for address in link.get("addr_info", []))


def main() -> None:
    """Runs the module."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    module.exit_json(changed=False, observation=Edge(module).observe())


if __name__ == "__main__":
    main()

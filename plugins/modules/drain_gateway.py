#!/usr/bin/python
# Apache License 2.0 (see LICENSE)
"""Ansible module: the HAProxy of this host sends a gateway nothing new, or sends to it again, also after a restart."""

from __future__ import annotations

import os
import socket
import tempfile
import time
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: drain_gateway
short_description: Take a gateway out at an edge, or put it back
description:
  - With C(out) HAProxy gives the gateway no new request; what runs goes on. It refuses if no other gateway serves.
  - With C(in) HAProxy gives it requests again; the module returns when HAProxy's own checks call it up.
  - It is kept in a file that HAProxy reads when it starts, so that neither a reload nor a restart forgets it.
  - An HAProxy that does not run, or that does not know the gateway, sends it nothing, so there is nothing to do.
options:
  gateway: {type: str, required: true, description: The gateway's address, by which the edge calls it.}
  state: {type: str, required: true, choices: [in, out], description: What to reach.}
  backend: {type: str, default: gateways, description: Where HAProxy has its gateways and checks them.}
  unchecked: {type: str, default: unchecked, description: Where it has them for when its checks call none up.}
  socket: {type: path, default: /run/haproxy/admin.sock, description: HAProxy's runtime socket.}
  kept: {type: path, default: /var/lib/edge/drained, description: The file that HAProxy reads when it starts.}
  wait_seconds: {type: int, default: 60, description: How long HAProxy's checks may take to find the gateway.}
attributes: {check_mode: {support: full}}
"""
EXAMPLES = r"""
- name: Take a gateway out
  drain_gateway:
    gateway: 10.0.0.11
    state: out
"""
RETURN = r"""
known: {returned: always, type: bool, description: Whether HAProxy runs and knows the gateway.}
"""

ARGUMENTS = {
    "gateway": {"type": "str", "required": True},
    "state": {"type": "str", "required": True, "choices": ["in", "out"]},
    "backend": {"type": "str", "default": "gateways"},
    "unchecked": {"type": "str", "default": "unchecked"},
    "socket": {"type": "path", "default": "/run/haproxy/admin.sock"},
    "kept": {"type": "path", "default": "/var/lib/edge/drained"},
    "wait_seconds": {"type": "int", "default": 60},
}
TIMEOUT_SECONDS = 10.0
POLL_SECONDS = 0.2
WORDS = {"in": "ready", "out": "drain"}
RUNNING = "2"  # srv_op_state: up
FORCED_MAINTENANCE, FORCED_DRAIN = 0x01, 0x08  # bits of srv_admin_state


class Refused(Exception):
    """HAProxy did not do what was asked; the message is the line to show."""


class Edge:
    """The HAProxy of this host, over its runtime socket."""

    def __init__(self, given: dict[str, Any]) -> None:
        self.given = given
        self.gateway: str = given["gateway"]

    def rows(self) -> list[dict[str, str]]:
        """HAProxy's gateways as it would keep them in a file, the checked ones first; none = it does not run."""
        try:
            lines = self._say("show servers state").splitlines()
        except (FileNotFoundError, ConnectionRefusedError):
            return []
        if not lines or not lines[0].startswith("1") or len(lines) < 2:  # noqa: PLR2004  version, names
            raise Refused(f"{self.given['socket']}: no servers of version 1, but {' '.join(lines)[:200]!r}")
        names = lines[1].removeprefix("# ").split(" ")
        rows = [dict(zip(names, line.split(" "), strict=False)) for line in lines[2:] if line]
        backends = (self.given["backend"], self.given["unchecked"])
        return [row for backend in backends for row in rows if row["be_name"] == backend]

    def own(self, rows: list[dict[str, str]]) -> list[dict[str, str]]:
        """This gateway's, the checked one first."""
        return [row for row in rows if row["srv_name"] == self.gateway]

    def has_state(self, row: dict[str, str]) -> bool:
        """Whether HAProxy needs no telling."""
        is_out = bool(int(row["srv_admin_state"]) & (FORCED_DRAIN | FORCED_MAINTENANCE))
        return bool(is_out == (self.given["state"] == "out"))

    def check_others(self, rows: list[dict[str, str]]) -> None:
        """Somebody must serve meanwhile."""
        others = [row for row in rows if row["be_name"] == self.given["backend"] and row["srv_name"] != self.gateway]
        if not any(row["srv_op_state"] == RUNNING and row["srv_admin_state"] == "0" for row in others):
            names = ", ".join(row["srv_name"] for row in others) or "there is no other"
            raise Refused(f"{self.gateway} is the last gateway that serves ({names}); put another one back first")

    def tell(self, row: dict[str, str]) -> None:
        """Tells HAProxy."""
        answer = self._say(f"set server {row['be_name']}/{self.gateway} state {WORDS[self.given['state']]}")
        if answer.strip():
            raise Refused(f"HAProxy: {answer.strip()}")

    def keep(self) -> bool:
        """Writes who is out; whether the file was another one. A file without servers changes nothing for HAProxy."""
        path = Path(self.given["kept"])
        lines = self._say("show servers state").splitlines()
        index = lines[1].removeprefix("# ").split(" ").index("srv_admin_state")
        drained = [line for line in lines[2:] if line and int(line.split(" ")[index]) & FORCED_DRAIN]
        content = "\n".join([*lines[:2], *_as_if_checked(lines[1], drained)]) + "\n"
        if path.is_file() and path.read_text(encoding="utf-8") == content:
            return False
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".drained.")
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
        return True

    def wait_until_up(self) -> None:
        """Until HAProxy's checks have found the gateway."""
        begun = time.monotonic()
        while True:
            own = self.own(self.rows())
            if not own or own[0]["srv_op_state"] == RUNNING:
                return
            if time.monotonic() - begun > self.given["wait_seconds"]:
                raise Refused(f"{self.gateway} does not answer HAProxy's checks after {self.given['wait_seconds']} s")
            time.sleep(POLL_SECONDS)

    def _say(self, command: str) -> str:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(TIMEOUT_SECONDS)
            connection.connect(self.given["socket"])
            connection.sendall(command.encode() + b"\n")
            answer = b""
            while chunk := connection.recv(65536):
                answer += chunk
        return answer.decode()


def _as_if_checked(names: str, lines: list[str]) -> list[str]:
    """Rows that do not change each second: the time since the last change is nobody's business in a file."""
    index = names.removeprefix("# ").split(" ").index("srv_time_since_last_change")
    rows = [line.split(" ") for line in lines]
    return [" ".join([*row[:index], "0", *row[index + 1 :]]) for row in rows]


def main() -> None:
    """Runs the module."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    edge = Edge(module.params)
    try:
        rows = edge.rows()
        own = edge.own(rows)
        if not own:
            module.exit_json(changed=False, known=False)
            return
        to_tell = [row for row in own if not edge.has_state(row)]
        changed = bool(to_tell)
        if changed and module.params["state"] == "out":
            edge.check_others(rows)
        if not module.check_mode:
            for row in to_tell:
                edge.tell(row)
            changed = edge.keep() or changed
            if module.params["state"] == "in":
                edge.wait_until_up()
    except (Refused, OSError) as refusal:
        module.fail_json(msg=str(refusal))
    module.exit_json(changed=changed, known=True)


if __name__ == "__main__":
    main()

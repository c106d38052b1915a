#!/usr/bin/python
# Apache License 2.0 (see LICENSE)
"""Ansible module: takes an engine out at one relay of this host and waits for its answers to end, or puts it back."""

from __future__ import annotations

import time
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.http_exchange import exchange

DOCUMENTATION = r"""
module: drain_replica
short_description: Take an engine out at a relay, or put it back
description:
  - With C(out) the relay gives the engine no new request; the module returns when the running ones have ended.
  - With C(in) the relay sends requests to it again; the module returns when the relay calls it serving.
  - A relay that is not there, or that does not know the engine, sends it nothing, so there is nothing to do.
options:
  url: {type: str, required: true, description: Where the relay listens, without a path.}
  api_key: {type: str, required: true, description: The engines' key.}
  replica: {type: str, required: true, description: Id of the engine at the relay.}
  state: {type: str, required: true, choices: [in, out], description: What to reach.}
  wait_seconds: {type: int, default: 600, description: How long running answers may take.}
attributes: {check_mode: {support: full}}
"""
EXAMPLES = r"""
- name: Take an engine out
  drain_replica:
    url: http://127.0.0.1:4101
    api_key: "{{ vault_vllm_api_key }}"
    replica: chat@h2
    state: out
"""
RETURN = r"""
known: {returned: always, type: bool, description: Whether the relay is there and knows the engine.}
waited_seconds: {returned: always, type: float, description: How long running answers took.}
"""

ARGUMENTS = {
    "url": {"type": "str", "required": True},
    "api_key": {"type": "str", "required": True, "no_log": True},
    "replica": {"type": "str", "required": True},
    "state": {"type": "str", "required": True, "choices": ["in", "out"]},
    "wait_seconds": {"type": "int", "default": 600},
}
POLL_SECONDS = 0.2
REQUEST_SECONDS = 10.0
VERBS = {"out": "drain", "in": "restore"}


class Refused(Exception):
    """The relay did not do what was asked; the message is the line to show."""


class Replica:
    """One engine at one relay."""

    def __init__(self, given: dict[str, Any]) -> None:
        self.given = given
        self.name: str = given["replica"]

    def seen(self) -> dict[str, Any] | None:
        """The relay's row of the engine; None when nothing listens or it is not known."""
        answer = exchange(
            "GET", self.given["url"] + "/relay/status", key=self.given["api_key"], timeout_seconds=REQUEST_SECONDS
        )
        if answer.status is None and "refused" in answer.error.lower():
            return None
        if answer.status != HTTPStatus.OK:
            words = answer.error or answer.message()
            raise Refused(f"{self.given['url']}/relay/status: {answer.status or 'no answer'} {words}".strip())
        rows: list[dict[str, Any]] = answer.content().get("replicas") or []
        return next((row for row in rows if row.get("id") == self.name), None)

    def has_state(self, row: dict[str, Any]) -> bool:
        """Whether the relay needs no telling."""
        return bool((row.get("state") == "draining") == (self.given["state"] == "out"))

    def tell(self) -> None:
        """Tells the relay."""
        path = f"/relay/replicas/{quote(self.name, safe='')}/{VERBS[self.given['state']]}"
        answer = exchange(
            "POST", self.given["url"] + path, key=self.given["api_key"], body={}, timeout_seconds=REQUEST_SECONDS
        )
        if answer.status is None or answer.status >= HTTPStatus.MULTIPLE_CHOICES:
            raise Refused(f"{self.given['url']}{path}: {answer.status or answer.error} {answer.message()}".strip())

    def wait(self) -> float:
        """Until nothing runs on it (out) or it serves (in); how long that took."""
        begun = time.monotonic()
        while True:
            row = self.seen()
            if row is None or self._is_reached(row):
                return time.monotonic() - begun
            if time.monotonic() - begun > self.given["wait_seconds"]:
                raise Refused(
                    f"{self.name} is {row.get('state')} with {row.get('outstanding_requests')} requests after "
                    f"{self.given['wait_seconds']} s at {self.given['url']}"
                )
            time.sleep(POLL_SECONDS)

    def _is_reached(self, row: dict[str, Any]) -> bool:
        if self.given["state"] == "out":
            return row.get("state") == "draining" and not row["outstanding_requests"]
        return bool(row.get("state") == "serving")


def main() -> None:
    """Runs the module."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    replica = Replica(module.params)
    try:
        row = replica.seen()
        if row is None:
            module.exit_json(changed=False, known=False, waited_seconds=0.0)
            return
        changed = not replica.has_state(row)
        if module.check_mode:
            module.exit_json(changed=changed, known=True, waited_seconds=0.0)
        if changed:
            replica.tell()
        waited_seconds = replica.wait()
    except Refused as refusal:
        module.fail_json(msg=str(refusal))
    module.exit_json(changed=changed, known=True, waited_seconds=waited_seconds)


if __name__ == "__main__":
    main()

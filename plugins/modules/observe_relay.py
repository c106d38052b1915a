#!/usr/bin/python
# Apache License 2.0 (see LICENSE)
"""Ansible module: what one relay of this host and its unit say. It judges nothing and changes nothing."""

from __future__ import annotations

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.http_exchange import exchange

DOCUMENTATION = r"""
module: observe_relay
short_description: Look at one relay of this host
description:
  - Asks a relay for its replicas and their states, tries it without a key, and reads the state of its systemd unit.
  - A relay that does not answer is an observation, not a failure of the module.
options:
  group: {type: str, required: true, description: Instance name of the unit C(relay@<group>).}
  url: {type: str, required: true, description: Where the relay listens, without a path.}
  model: {type: str, required: true, description: The served model name.}
  api_key: {type: str, required: true, description: The engines' key.}
  timeout_seconds: {type: int, default: 20, description: For each request.}
attributes: {check_mode: {support: full}}
"""
EXAMPLES = r"""
- name: Observe a relay
  observe_relay:
    group: chat
    url: http://127.0.0.1:4101
    model: chat
    api_key: "{{ vault_vllm_api_key }}"
"""
RETURN = r"""
observation: {returned: always, type: dict, description: RelayObservation.}
"""

ARGUMENTS = {
    "group": {"type": "str", "required": True},
    "url": {"type": "str", "required": True},
    "model": {"type": "str", "required": True},
    "api_key": {"type": "str", "required": True, "no_log": True},
    "timeout_seconds": {"type": "int", "default": 20},
}


def observed(module: Any) -> dict[str, Any]:
    """The RelayObservation."""
    given: dict[str, Any] = module.params
    limit_seconds: float = given["timeout_seconds"]
    status = exchange("GET", given["url"] + "/relay/status", key=given["api_key"], timeout_seconds=limit_seconds)
    body = {"model": given["model"], "messages": [{"role": "user", "content": "Hello."}], "max_tokens": 1}
    keyless = exchange("POST", given["url"] + "/v1/chat/completions", body=body, timeout_seconds=limit_seconds)
    unit = "relay@{}.service".format(given["group"])
    _, state, _ = module.run_command(["systemctl", "show", "--property=ActiveState", "--value", unit])
    replicas = status.content().get("replicas") or []
    return {
        "group": given["group"],
        "error": status.error,
        "active_state": state.strip() or None,
        "status": status.status,
        "keyless_status": keyless.status,
        "replicas": [{"id": str(one.get("id")), "state": str(one.get("state"))} for one in replicas],
    }


def main() -> None:
    """Runs the module."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    module.exit_json(changed=False, observation=observed(module))


if __name__ == "__main__":
    main()

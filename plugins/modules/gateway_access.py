#!/usr/bin/python
# Apache License 2.0 (see LICENSE)
"""Ansible module: makes a gateway's users, teams and virtual keys what access.yml declares."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from ansible.module_utils.access_api import Gateway
from ansible.module_utils.access_state import AccessRefused, GatewayAway, Step, Thing, declared, shown, steps_between
from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: gateway_access
short_description: Make users, teams, members and virtual keys of a LiteLLM gateway what is declared
description:
  - What is not declared any more is removed, if this module made it; things of others are never touched, and a name
    that others use is refused.
  - A key whose value differs from the gateway's is rotated. Its limits and its spend go over to the new value.
  - In check mode a gateway that does not answer is taken as an empty one, so that a dry run of a new site passes.
  - Key values go in and never come out. The declaration is taken as checked (`llm-size check`).
options:
  url: {type: str, required: true, description: Base URL of the gateway.}
  master_key: {type: str, required: true, description: The gateway's master key.}
  access: {type: dict, required: true, description: The access document of the site.}
  key_values: {type: dict, required: true, description: Value of each key by its alias.}
  timeout_seconds: {type: int, default: 60, description: Limit for one question to the gateway.}
attributes: {check_mode: {support: full}, diff_mode: {support: full}}
"""
EXAMPLES = r"""
- name: Apply the declared access
  gateway_access:
    url: http://10.0.0.11:4000
    master_key: "{{ vault_gateway_master_key }}"
    access: "{{ access }}"
    key_values: "{{ vault_access_keys }}"
"""
RETURN = r"""
steps: {returned: always, type: list, elements: str, description: What was done, or would be in check mode.}
"""

ARGUMENTS = {
    "url": {"type": "str", "required": True},
    "master_key": {"type": "str", "required": True, "no_log": True},
    "access": {"type": "dict", "required": True},
    "key_values": {"type": "dict", "required": True, "no_log": True},
    "timeout_seconds": {"type": "int", "default": 60},
}


def apply(given: dict[str, Any], *, check_mode: bool) -> dict[str, Any]:
    """The module's answer; raises AccessRefused."""
    now = datetime.now(UTC)
    gateway = Gateway(given["url"], given["master_key"], timeout_seconds=given["timeout_seconds"])
    key_values = {alias: str(value) for alias, value in given["key_values"].items()}
    wanted = declared(given["access"], key_values, may_lack_values=check_mode)
    try:
        present = gateway.present()
    except GatewayAway:
        if not check_mode:  # a dry run comes before the first gateway
            raise
        present = []
    steps = steps_between(wanted, present, now=now)
    done: list[str] = []
    for step in steps:
        if not check_mode:
            try:
                gateway.carry_out(step, key_values=key_values, grace=given["access"].get("rotation_grace"))
            except AccessRefused as refused:
                raise AccessRefused(f"{refused} (done before: {', '.join(done) or 'nothing'})") from None
        done.append(str(step))
    return {"changed": bool(steps), "steps": done, "diff": _diff(steps, wanted, present)}


def _diff(steps: list[Step], wanted: list[Thing], present: list[Thing]) -> dict[str, Any]:
    """Only what changes, on both sides."""
    touched = {(step.thing.kind, step.thing.name) for step in steps}
    gone = {(step.thing.kind, step.thing.name) for step in steps if step.verb == "remove"}
    before = [one for one in present if not one.retired and (one.kind, one.name) in touched]
    after = [one for one in wanted if (one.kind, one.name) in touched - gone]
    return {"before": _readable(shown(before)), "after": _readable(shown(after))}


def _readable(content: Any) -> Any:
    """Moments as text."""
    if isinstance(content, dict):
        return {name: _readable(value) for name, value in content.items()}
    return content.isoformat() if isinstance(content, datetime) else content


def main() -> None:
    """Runs the module."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    try:
        answer = apply(module.params, check_mode=module.check_mode)
    except AccessRefused as refused:
        module.fail_json(msg=str(refused))
    module.exit_json(**answer)


if __name__ == "__main__":
    main()

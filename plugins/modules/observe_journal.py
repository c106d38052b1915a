#!/usr/bin/python
# Apache License 2.0 (see LICENSE)
"""Ansible module: which requests one vLLM engine has received, by its own journal. It judges nothing."""

from __future__ import annotations

import re
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: observe_journal
short_description: Read the request ids that a vLLM engine has logged
description:
  - Without a cursor, says where the journal of C(vllm@<name>) stands. With one, gives the ids of all requests that the
    engine has logged since, in their order.
  - Needs an engine that runs with C(enable-log-requests).
options:
  name: {type: str, required: true, description: Instance name of the unit C(vllm@<name>).}
  cursor: {type: str, description: Where to begin.}
attributes: {check_mode: {support: full}}
"""
EXAMPLES = r"""
- name: Read which requests the engine has received
  observe_journal:
    name: qwen-0
    cursor: "{{ __cursor }}"
"""
RETURN = r"""
cursor: {returned: "without a cursor", type: str, description: Where the journal stands; empty where it is empty.}
request_ids: {returned: "with a cursor", type: list, elements: str, description: Ids as the engine logged them.}
"""

ARGUMENTS = {"name": {"type": "str", "required": True}, "cursor": {"type": "str"}}
RECEIVED = re.compile(r"\bReceived request (?:chatcmpl-|cmpl-)?(\S+): ")
CURSOR = re.compile(r"^-- cursor: (\S+)$", re.MULTILINE)


def received_ids(journal: str) -> list[str]:
    """The ids in a journal's lines, without the prefix that vLLM puts before them."""
    return RECEIVED.findall(journal)


def read(module: Any) -> dict[str, Any]:
    """The answer of the module."""
    command = ["journalctl", "--unit", "vllm@{}.service".format(module.params["name"]), "--output", "cat", "--no-pager"]
    if module.params["cursor"] is None:
        _, out, _ = module.run_command([*command, "--lines", "1", "--show-cursor"])
        found = CURSOR.search(out)
        return {"cursor": found.group(1) if found else ""}
    if module.params["cursor"]:
        command += ["--after-cursor", module.params["cursor"]]
    rc, out, err = module.run_command(command)
    if rc != 0:
        module.fail_json(msg="the journal cannot be read: " + " ".join(err.split()))
    return {"request_ids": received_ids(out)}


def main() -> None:
    """Runs the module."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    module.exit_json(changed=False, **read(module))


if __name__ == "__main__":
    main()

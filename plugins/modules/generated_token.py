#!/usr/bin/python
# Apache License 2.0 (see LICENSE)
"""Ansible module: a model generates one token through a gateway, or it says why not."""

from __future__ import annotations

import time
import uuid
from http import HTTPStatus
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.http_exchange import exchange

DOCUMENTATION = r"""
module: generated_token
short_description: Have a model generate one token (or one vector) through a gateway
description:
  - Nothing else proves that a gateway serves; health paths answer 200 beside dead engines.
  - The token is booked, to the key that asks. Its request id begins with C(proof-).
options:
  url: {type: str, required: true, description: Where the gateway listens, without a path.}
  key: {type: str, required: true, description: A key that may use the model.}
  model: {type: str, required: true, description: The model's public name.}
  task: {type: str, default: chat, choices: [chat, embedding], description: Whether a token is wanted or a vector.}
  wait_seconds: {type: int, default: 60, description: How long it may take until a token comes.}
attributes: {check_mode: {support: full}}
"""
EXAMPLES = r"""
- name: Prove that the gateway serves
  generated_token:
    url: http://10.0.0.11:4000
    key: "{{ vault_gateway_master_key }}"
    model: chat
"""
RETURN = r"""
waited_seconds: {returned: always, type: float, description: How long it took.}
"""

ARGUMENTS = {
    "url": {"type": "str", "required": True},
    "key": {"type": "str", "required": True, "no_log": True},
    "model": {"type": "str", "required": True},
    "task": {"type": "str", "default": "chat", "choices": ["chat", "embedding"]},
    "wait_seconds": {"type": "int", "default": 60},
}
POLL_SECONDS = 1.0
REQUEST_SECONDS = 30.0


def fault(given: dict[str, Any]) -> str:
    """Why no token came; empty = one came."""
    path, body = "/v1/chat/completions", {"max_tokens": 1, "messages": [{"role": "user", "content": "Hello"}]}
    if given["task"] == "embedding":
        path, body = "/v1/embeddings", {"input": "Hello"}
    # another model's token proves nothing about this one
    body |= {"model": given["model"], "disable_fallbacks": True}
    answer = exchange(
        "POST",
        given["url"] + path,
        key=given["key"],
        body=body,
        headers={"x-litellm-call-id": f"proof-{uuid.uuid4()}"},
        timeout_seconds=REQUEST_SECONDS,
    )
    if answer.status != HTTPStatus.OK:
        return f"{answer.status or answer.error} {answer.message()}".strip()
    if given["task"] == "embedding":
        return "" if answer.content().get("data") else f"200, but no vector: {answer.text[:200]}"
    usage = answer.content().get("usage")
    count = usage.get("completion_tokens") if isinstance(usage, dict) else None
    return "" if isinstance(count, int) and count > 0 else f"200, but no token: {answer.text[:200]}"


def main() -> None:
    """Runs the module."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    begun = time.monotonic()
    while not module.check_mode:
        words = fault(module.params)
        waited = time.monotonic() - begun
        if not words:
            break
        if waited > module.params["wait_seconds"]:
            module.fail_json(msg=f"{module.params['url']} generates no token with {module.params['model']}: {words}")
        time.sleep(POLL_SECONDS)
    module.exit_json(changed=False, waited_seconds=time.monotonic() - begun)


if __name__ == "__main__":
    main()

#!/usr/bin/python
# Apache License 2.0 (see LICENSE)
"""Ansible module: whether an engine still says what it said when it was deployed.

A greedy answer to one fixed prompt is recorded under the engine's fingerprint (options, release, model). An engine that
comes back with the same fingerprint must give the same tokens: a damaged model, a wrong release or a sick GPU does not.
"""

from __future__ import annotations

import json
from http import HTTPStatus
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.http_exchange import exchange

DOCUMENTATION = r"""
module: golden_answer
short_description: Record or compare the greedy answer of an engine
description:
  - Records the answer where there is none for the engine's present fingerprint.
  - With C(compare) an engine that gives another answer than the recorded one is refused. Let it be idle then, for what
    else runs in the batch may tip a close choice.
options:
  name: {type: str, required: true, description: Instance name of the unit C(vllm@<name>).}
  url: {type: str, required: true, description: Where the engine listens, without a path.}
  model: {type: str, required: true, description: The served model name.}
  api_key: {type: str, required: true, description: The key that the engine asks for.}
  directory: {type: path, default: /var/lib/vllm/golden, description: Where records lie.}
  fingerprint: {type: path, required: true, description: The file that holds what the engine was started with.}
  compare: {type: bool, default: false, description: Whether a recorded answer has to be given again.}
  timeout_seconds: {type: int, default: 300, description: For the answer.}
attributes: {check_mode: {support: full}}
"""
EXAMPLES = r"""
- name: Refuse an engine that answers otherwise than it did
  golden_answer:
    name: chat
    url: http://10.0.0.2:8001
    model: chat
    api_key: "{{ vault_vllm_api_key }}"
    fingerprint: /run/vllm/chat/fingerprint
    compare: true
"""
RETURN = r"""
verdict: {returned: always, type: str, description: "recorded, equal or not compared."}
"""

ARGUMENTS = {
    "name": {"type": "str", "required": True},
    "url": {"type": "str", "required": True},
    "model": {"type": "str", "required": True},
    "api_key": {"type": "str", "required": True, "no_log": True},
    "directory": {"type": "path", "default": "/var/lib/vllm/golden"},
    "fingerprint": {"type": "path", "required": True},
    "compare": {"type": "bool", "default": False},
    "timeout_seconds": {"type": "int", "default": 300},
}
PROMPT = "The five largest cities of the world, each with its river: "
ANSWER_TOKENS = 32


class Refused(Exception):
    """There is no answer, or not the recorded one; the message is the line to show."""


def answer_of(given: dict[str, Any]) -> list[int]:
    """The token ids of the engine's greedy answer."""
    body = {
        "model": given["model"],
        "prompt": PROMPT,
        "max_tokens": ANSWER_TOKENS,
        "temperature": 0,
        "ignore_eos": True,
        "return_token_ids": True,
    }
    url = given["url"] + "/v1/completions"
    answer = exchange("POST", url, key=given["api_key"], body=body, timeout_seconds=given["timeout_seconds"])
    ids = (answer.content().get("choices") or [{}])[0].get("token_ids")
    if answer.status != HTTPStatus.OK or not isinstance(ids, list) or len(ids) != ANSWER_TOKENS:
        words = answer.error or answer.message()[:200]
        raise Refused(f"{given['name']} gave no golden answer: {answer.status or 'no answer'} {words}")
    return ids


def recorded_in(path: Path, fingerprint: str) -> list[int] | None:
    """The recorded answer of an engine with this fingerprint."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record["token_ids"] if record.get("fingerprint") == fingerprint else None


def record(path: Path, fingerprint: str, token_ids: list[int]) -> None:
    """Writes the record in one step."""
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps({"fingerprint": fingerprint, "token_ids": token_ids}) + "\n", encoding="utf-8")
    fresh.replace(path)


def judged(given: dict[str, Any], *, check_mode: bool) -> tuple[bool, str]:
    """Whether anything was recorded, and the verdict."""
    path = Path(given["directory"]) / (given["name"] + ".json")
    try:
        fingerprint = Path(given["fingerprint"]).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise Refused(f"{given['name']} is not running: {error}") from error
    expected = recorded_in(path, fingerprint)
    if expected is None:
        if not check_mode:
            record(path, fingerprint, answer_of(given))
        return True, "recorded"
    if not given["compare"] or check_mode:
        return False, "not compared"
    found = answer_of(given)
    if found != expected:
        at = next(index for index, pair in enumerate(zip(expected, found, strict=True)) if pair[0] != pair[1])
        raise Refused(
            f"{given['name']} answers otherwise than when it was deployed, from token {at + 1} of {ANSWER_TOKENS}: "
            f"expected {expected[at]}, got {found[at]}. It stays out. Check its model files (sha256sum -c), "
            f"memory and GPU; to accept the new answer remove {path}"
        )
    return False, "equal"


def main() -> None:
    """Runs the module."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    try:
        changed, verdict = judged(module.params, check_mode=module.check_mode)
    except Refused as refusal:
        module.fail_json(msg=str(refusal))
    module.exit_json(changed=changed, verdict=verdict)


if __name__ == "__main__":
    main()

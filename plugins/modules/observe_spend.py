#!/usr/bin/python
# Apache License 2.0 (see LICENSE)
"""Ansible module: what PostgreSQL holds about the calls of a run. It reads, and waits for LiteLLM's next flush."""

from __future__ import annotations

import json
import math
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: observe_spend
short_description: Read LiteLLM's spend log of some keys from PostgreSQL
description:
  - LiteLLM writes spend in batches, so the module asks again until the awaited rows and their sums are there, or until
    the time is over. What it has read by then is the observation.
  - Runs as a system user whom PostgreSQL lets in by peer authentication.
options:
  database: {type: str, required: true, description: The gateway's database.}
  key_hashes: {type: list, elements: str, required: true, description: SHA-256 of each key.}
  awaited_count: {type: int, required: true, description: How many answered calls the rows should hold.}
  wait_seconds: {type: int, default: 150, description: How long to wait for them.}
attributes: {check_mode: {support: full}}
"""
EXAMPLES = r"""
- name: Read the spend of the calls
  become: true
  become_user: postgres
  observe_spend:
    database: litellm
    key_hashes: ["{{ __observed_gateway.observation.key_hash }}"]
    awaited_count: 4
"""
RETURN = r"""
observation: {returned: always, type: dict, description: SpendObservation.}
"""

ARGUMENTS = {
    "database": {"type": "str", "required": True},
    "key_hashes": {"type": "list", "elements": "str", "required": True, "no_log": False},
    "awaited_count": {"type": "int", "required": True},
    "wait_seconds": {"type": "int", "default": 150},
}
PAUSE_SECONDS = 1.0
QUERY = """
with keys as (select unnest(string_to_array(current_setting('observe.hashes'), ',')) as hash)
select json_build_object(
  'rows', coalesce((
    select json_agg(json_build_object(
      'request_id', log.request_id, 'call_id', log.litellm_call_id, 'model', coalesce(log.model_group, log.model),
      'key_hash', log.api_key, 'deployment_id', nullif(log.model_id, ''), 'status', log.status,
      'prompt_tokens', log.prompt_tokens, 'completion_tokens', log.completion_tokens,
      'spend', log.spend) order by log."startTime")
    from "LiteLLM_SpendLogs" log join keys on log.api_key = keys.hash), '[]'::json),
  'key_spend', coalesce((
    select json_object_agg(token.token, token.spend)
    from "LiteLLM_VerificationToken" token join keys on token.token = keys.hash), '{}'::json),
  'has_audit', to_regproc('appliance.unwatched') is not null);
"""
# Asked for only where the site has an audit. What the gateway noted is booked some seconds after the calls.
AUDIT = """
with keys as (select unnest(string_to_array(current_setting('observe.hashes'), ',')) as hash)
select json_build_object(
  'audit', coalesce((
    select json_agg(json_build_object('call_id', seen.call_id, 'key_hash', seen.key_hash, 'model', seen.model,
      'result', seen.result, 'status', seen.status) order by seen.at)
    from appliance.audit_request seen join keys on seen.key_hash = keys.hash
    where seen.at > now() - interval '2 days' and seen.result <> 'administered'), '[]'::json),
  'unwatched', coalesce((select json_agg(name) from appliance.unwatched() as one(name)), '[]'::json));
"""
PSQL = ("psql", "--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set", "ON_ERROR_STOP=1")


def is_complete(observation: dict[str, Any], awaited_count: int) -> bool:
    """Whether every awaited row is there and the keys' sums have caught up with the rows."""
    rows = [row for row in observation["rows"] if row["status"] != "failure"]
    booked = math.fsum(observation["key_spend"].values())
    logged = math.fsum(row["spend"] for row in rows)
    audit = observation.get("audit")
    if audit is not None and len(audit) < len(observation["rows"]):
        return False
    return len(rows) >= awaited_count and math.isclose(booked, logged, rel_tol=1e-9, abs_tol=1e-15)


class Ledger:
    """The gateway's database, asked through psql."""

    def __init__(self, module: Any) -> None:
        self.module = module
        self.given: dict[str, Any] = module.params

    def observe(self) -> dict[str, Any]:
        """What is there when all is there, or when the time is over."""
        started = time.monotonic()
        while True:
            observation = self._read()
            waited_seconds = time.monotonic() - started
            observation["waited_seconds"] = waited_seconds
            if observation.get("error") or is_complete(observation, self.given["awaited_count"]):
                return observation
            if waited_seconds > self.given["wait_seconds"]:
                return observation
            time.sleep(PAUSE_SECONDS)

    def _read(self) -> dict[str, Any]:
        rc, out, err = self._ask(QUERY)
        if rc != 0:
            return {"error": " ".join(err.split()) or f"psql ended with {rc}"}
        observation: dict[str, Any] = json.loads(out)
        if observation.pop("has_audit", False):
            rc, out, err = self._ask(AUDIT)
            if rc != 0:
                return {"error": " ".join(err.split()) or f"psql ended with {rc}"}
            observation.update(json.loads(out))
        return observation

    def _ask(self, query: str) -> tuple[int, str, str]:
        hashes = ",".join(self.given["key_hashes"])
        command = [*PSQL, "--dbname", self.given["database"], "--command", query]
        answer: tuple[int, str, str] = self.module.run_command(
            command, environ_update={"PGOPTIONS": f"-c observe.hashes={hashes}"}
        )
        return answer


def main() -> None:
    """Runs the module."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    module.exit_json(changed=False, observation=Ledger(module).observe())


if __name__ == "__main__":
    main()

#!/usr/bin/python
# Apache License 2.0 (see LICENSE)
"""Ansible module: what one vLLM engine, its unit and its journal say. It judges nothing and changes nothing."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.http_exchange import exchange

DOCUMENTATION = r"""
module: observe_engine
short_description: Look at one vLLM engine of this host
description:
  - Asks a running engine for its window, its KV cache, its release and one token, tries it without a key, reads the
    state of its systemd unit, searches its journal for the request ids of a run, and keeps of its last start the lines
    that say where memory went.
  - An engine that does not answer is an observation, not a failure of the module.
options:
  name: {type: str, required: true, description: Instance name of the unit C(vllm@<name>).}
  url: {type: str, required: true, description: Where the engine listens, without a path.}
  model: {type: str, required: true, description: The served model name.}
  api_key: {type: str, required: true, description: The key that the engine asks for.}
  runner: {type: str, default: generate, description: "C(pooling) for an engine that is to make a vector, no token."}
  moment: {type: str, required: true, choices: [before, after], description: Before or after the calls of the run.}
  run_id: {type: str, required: true, description: What every request id of the run begins with.}
  journal_cursor: {type: str, description: "With C(after): where the journal stood before the calls."}
  timeout_seconds: {type: int, default: 60, description: For each request.}
attributes: {check_mode: {support: full}}
"""
EXAMPLES = r"""
- name: Observe an engine after the calls
  observe_engine:
    name: qwen-0
    url: http://10.77.0.12:8001
    model: tiny-qwen3
    api_key: "{{ vault_vllm_api_key }}"
    moment: after
    run_id: verify-20261121t050000z-3f2a
"""
RETURN = r"""
observation: {returned: always, type: dict, description: "EngineCounters (before) or EngineObservation (after)."}
journal_cursor: {returned: "with moment before", type: str, description: Where the journal stands.}
"""

ARGUMENTS = {
    "name": {"type": "str", "required": True},
    "url": {"type": "str", "required": True},
    "model": {"type": "str", "required": True},
    "api_key": {"type": "str", "required": True, "no_log": True},
    "runner": {"type": "str", "default": "generate"},
    "moment": {"type": "str", "required": True, "choices": ["before", "after"]},
    "run_id": {"type": "str", "required": True},
    "journal_cursor": {"type": "str"},
    "timeout_seconds": {"type": "int", "default": 60},
}
ONE_TOKEN = {"messages": [{"role": "user", "content": "Say one word."}], "max_tokens": 1, "temperature": 0}
METRIC_LINE = re.compile(r"^(?P<name>[a-zA-Z_:][\w:]*)(?:\{(?P<labels>.*)\})? (?P<value>\S+)$")
START_UP_WORDS = (
    *("Initializing a V1 LLM engine", "Chunked prefill is enabled", "Using V2 Model Runner", "Model loading took"),
    *("Available KV cache memory", "KV cache size", "Maximum concurrency for", "Estimated CUDA graph memory"),
    *("CUDA graph pool memory", "Graph capturing finished", "Free memory on device", "Memory profiling takes"),
    *("memory for KV Cache as", "Cache the graph of compile range", "Directly load the compiled graph"),
)
"""What the lines about memory begin with; sizing/start_up_log.py reads them. None holds text of a user or a key."""
LONGEST_LINE_CHARACTERS = 4000
NOT_SET = 2**63
"""From here on systemd means "not set"."""
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


def series(metrics: str, name: str) -> list[tuple[dict[str, str], float]]:
    """Every series of one metric in Prometheus' text form."""
    lines = (METRIC_LINE.match(line) for line in metrics.splitlines() if line.startswith(name))
    return [
        (dict(LABEL.findall(line["labels"] or "")), float(line["value"]))
        for line in lines
        if line and line["name"] == name
    ]


def refused_chat_count(metrics: str) -> int:
    """How often the engine answered a chat with 4xx since it started."""
    return int(
        sum(
            value
            for labels, value in series(metrics, "http_requests_total")
            if labels.get("handler") == "/v1/chat/completions" and labels.get("status", "").startswith("4")
        )
    )


def whole_number(text: str | None) -> int | None:
    """The number in a label or a property, or None where it says that there is none."""
    return int(text) if text is not None and text.isdigit() and int(text) < NOT_SET else None


class EngineWitness:
    """Asks one engine, its unit and its journal."""

    def __init__(self, module: Any) -> None:
        self.module = module
        self.given: dict[str, Any] = module.params
        self.unit = "vllm@{}.service".format(self.given["name"])

    def before(self) -> dict[str, Any]:
        """The counters, and where the journal stands."""
        answer = self._get("/metrics")
        counters = {
            "name": self.given["name"],
            "refused_chat_count": refused_chat_count(answer.text) if answer.status == HTTPStatus.OK else None,
        }
        return {"observation": counters, "journal_cursor": self._cursor()}

    def after(self) -> dict[str, Any]:
        """Everything. The metrics come first: our own refused requests must not be counted."""
        metrics = self._get("/metrics")
        seen: dict[str, Any] = {"name": self.given["name"], "error": metrics.error}
        if metrics.status == HTTPStatus.OK:
            cache = series(metrics.text, "vllm:cache_config_info")
            labels = cache[0][0] if cache else {}
            seen.update(
                refused_chat_count=refused_chat_count(metrics.text),
                kv_cache_tokens=whole_number(labels.get("kv_cache_size_tokens")),
                block_count=whole_number(labels.get("num_gpu_blocks")),
                block_size_tokens=whole_number(labels.get("block_size")),
            )
        seen["health_status"] = self._get("/health").status
        seen["version"] = self._get("/version").content().get("version")
        seen.update(self._models())
        seen.update(self._first_token())
        seen["keyless_models_status"] = self._get("/v1/models").status
        seen["keyless_chat_status"] = self._chat(key=None).status
        seen.update(self._unit_state())
        seen.update(self._journal())
        return {"observation": seen}

    def _get(self, path: str, key: str | None = None) -> Any:
        return exchange("GET", self.given["url"] + path, key=key, timeout_seconds=self.given["timeout_seconds"])

    def _chat(self, key: str | None) -> Any:
        return exchange(
            "POST",
            self.given["url"] + "/v1/chat/completions",
            key=key,
            body={"model": self.given["model"], **ONE_TOKEN},
            timeout_seconds=self.given["timeout_seconds"],
        )

    def _vector(self) -> Any:
        return exchange(
            "POST",
            self.given["url"] + "/v1/embeddings",
            key=self.given["api_key"],
            body={"model": self.given["model"], "input": "Say one word."},
            timeout_seconds=self.given["timeout_seconds"],
        )

    def _models(self) -> dict[str, Any]:
        answer = self._get("/v1/models", key=self.given["api_key"])
        rows = [row for row in answer.content().get("data", []) if row.get("id") == self.given["model"]]
        if not rows:
            return {}
        return {"served_model_name": rows[0]["id"], "max_model_len": rows[0].get("max_model_len")}

    def _first_token(self) -> dict[str, Any]:
        if self.given["runner"] == "pooling":
            answer = self._vector()
            rows = answer.content().get("data") or [{}]
            return {
                "first_token_status": answer.status,
                "vector_numbers_count": len(rows[0].get("embedding") or ()),
                "first_token_seconds": answer.seconds,
            }
        answer = self._chat(key=self.given["api_key"])
        return {
            "first_token_status": answer.status,
            "first_token_count": answer.content().get("usage", {}).get("completion_tokens"),
            "first_token_seconds": answer.seconds,
        }

    def _unit_state(self) -> dict[str, Any]:
        wanted = ("ActiveState", "NRestarts", "MemoryCurrent", "InvocationID")
        rc, out, err = self.module.run_command(["systemctl", "show", "--property", ",".join(wanted), self.unit])
        if rc != 0:
            return {"error": err.strip()}
        state = dict(line.split("=", 1) for line in out.splitlines() if "=" in line)
        return {
            "active_state": state.get("ActiveState"),
            "restart_count": whole_number(state.get("NRestarts")),
            "memory_current_bytes": whole_number(state.get("MemoryCurrent")),
            "start_up_lines": self._start_up_lines(state.get("InvocationID", "")),
        }

    def _start_up_lines(self, invocation: str) -> list[str]:
        """What the engine said about memory when it last started; nothing where the journal no longer has it."""
        if not re.fullmatch(r"[0-9a-f]{32}", invocation):
            return []
        command = ["journalctl", "_SYSTEMD_INVOCATION_ID=" + invocation, "--output", "cat", "--no-pager"]
        rc, out, _ = self.module.run_command([*command, "--grep", "|".join(START_UP_WORDS)])
        if rc != 0:
            return []
        lines = [line[:LONGEST_LINE_CHARACTERS] for line in out.splitlines()]
        return [line for line in lines if any(words in line for words in START_UP_WORDS)]

    def _cursor(self) -> str | None:
        command = ["journalctl", "--unit", self.unit, "--lines", "1", "--show-cursor", "--output", "cat", "--no-pager"]
        out = self.module.run_command(command)[1]
        found = re.search(r"^-- cursor: (\S+)$", out, re.MULTILINE)
        return found.group(1) if found else None

    def _journal(self) -> dict[str, Any]:
        command = ["journalctl", "--unit", self.unit, "--output", "cat", "--no-pager"]
        cursor = self.given["journal_cursor"]
        command += ["--after-cursor", cursor] if cursor else ["--boot"]
        rc, out, err = self.module.run_command(command)
        if rc != 0:
            return {"journal_read": False, "error": err.strip()}
        ids = re.findall(re.escape(self.given["run_id"]) + r"[0-9a-z]*-\d{3}", out)
        return {"journal_read": True, "journal_request_ids": sorted(set(ids))}


def main() -> None:
    """Runs the module."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    witness = EngineWitness(module)
    module.exit_json(changed=False, **(witness.before() if module.params["moment"] == "before" else witness.after()))


if __name__ == "__main__":
    main()

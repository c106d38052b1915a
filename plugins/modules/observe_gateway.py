#!/usr/bin/python
# Apache License 2.0 (see LICENSE)
"""Ansible module: what the gateway declares, and what its clients get. It judges nothing.

The calls are made with a virtual key of their own, which lives only in this process: the play learns its alias and its
hash, never the key. `moment: afterwards` deletes it, when the spend has been read.
"""

from __future__ import annotations

import hashlib
import json
from http import HTTPStatus
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.http_exchange import Exchange, StreamEvent, exchange, stream

DOCUMENTATION = r"""
module: observe_gateway
short_description: Look at the gateway as its clients see it
description:
  - Reads the declared windows, makes a short-lived virtual key, and calls every model four times, namely a chat, a
    streamed chat, a prompt longer than the window, and a prompt that fits with a max_tokens that does not.
  - A gateway that does not answer is an observation, not a failure of the module.
options:
  url: {type: str, required: true, description: "Where the gateway listens, without a path."}
  master_key: {type: str, required: true, description: The key that may make keys.}
  moment: {type: str, required: true, choices: [calls, afterwards], description: To call, or to delete the key.}
  run_id: {type: str, required: true, description: "What every request id begins with; also the alias of the key."}
  models:
    type: list
    elements: dict
    default: []
    description: "The models to call, as the plan has them: name, task, max_input_tokens, max_output_tokens are read."
  output_tokens: {type: int, default: 16, description: Length of an answer.}
  timeout_seconds: {type: int, default: 120, description: For each request.}
attributes: {check_mode: {support: full}}
"""
EXAMPLES = r"""
- name: Call every model through the gateway
  observe_gateway:
    url: http://10.77.0.11:4000
    master_key: "{{ vault_gateway_master_key }}"
    moment: calls
    run_id: verify-20261121t050000z-3f2a
    models: [{name: chat, max_input_tokens: 1536, max_output_tokens: 512}]
"""
RETURN = r"""
observation: {returned: "with moment calls", type: dict, description: GatewayObservation.}
answered_count: {returned: "with moment calls", type: int, description: How many calls were answered with 200.}
deleted: {returned: "with moment afterwards", type: bool, description: Whether the gateway deleted the key.}
"""

ARGUMENTS = {
    "url": {"type": "str", "required": True},
    "master_key": {"type": "str", "required": True, "no_log": True},
    "moment": {"type": "str", "required": True, "choices": ["calls", "afterwards"]},
    "run_id": {"type": "str", "required": True},
    "models": {"type": "list", "elements": "dict", "default": []},
    "output_tokens": {"type": "int", "default": 16},
    "timeout_seconds": {"type": "int", "default": 120},
}
AS_STREAM = {"stream": True, "stream_options": {"include_usage": True}}
KEY_LIFETIME = "30m"
"""A run that is cut short leaves a key behind; this ends it."""


class Gateway:
    """One gateway, asked with its master key."""

    def __init__(self, given: dict[str, Any]) -> None:
        self.given = given
        self.url: str = given["url"]
        self.timeout_seconds: float = given["timeout_seconds"]

    def administer(self, method: str, path: str, body: Any = None) -> Exchange:
        """One exchange with the master key."""
        return exchange(
            method,
            self.url + path,
            key=self.given["master_key"],
            body=body,
            timeout_seconds=self.timeout_seconds,
        )

    def observe(self) -> dict[str, Any]:
        """Declared windows, then the calls of every model with a key of their own."""
        seen: dict[str, Any] = {"url": self.url}
        listed = self.administer("GET", "/model/info")
        if listed.status != HTTPStatus.OK:
            return {**seen, "error": _trouble("/model/info", listed)}
        seen["declared"] = [_declared(row) for row in listed.content().get("data", [])]
        names = [model["name"] for model in self.given["models"]]
        made = self.administer(
            "POST",
            "/key/generate",
            {"key_alias": self.given["run_id"], "duration": KEY_LIFETIME, "models": names},
        )
        key = made.content().get("key")
        if made.status != HTTPStatus.OK or not key:
            return {**seen, "error": _trouble("/key/generate", made)}
        seen["key_alias"] = self.given["run_id"]
        seen["key_hash"] = hashlib.sha256(key.encode()).hexdigest()
        seen["calls"] = []
        for number, model in enumerate(self.given["models"]):
            client = Client(self, key, model, first_number=4 * number)
            embeds = model.get("task") == "embedding"
            seen["calls"].extend([client.embedding()] if embeds else client.calls())
            seen["version"] = client.gateway_version or seen.get("version")
            if not embeds:
                seen.setdefault("keyless_status", client.keyless().status)
        if "keyless_status" not in seen:
            keyless = exchange("GET", self.url + "/v1/models", timeout_seconds=self.timeout_seconds)
            seen["keyless_status"] = keyless.status
        return seen

    def forget(self) -> bool:
        """Deletes the key of the run; its spend log stays."""
        answer = self.administer("POST", "/key/delete", {"key_aliases": [self.given["run_id"]]})
        deleted: bool = answer.status == HTTPStatus.OK
        return deleted


class Client:
    """A client of one model: four calls, each with a request id of its own."""

    def __init__(self, gateway: Gateway, key: str, model: dict[str, Any], *, first_number: int) -> None:
        self.gateway = gateway
        self.key = key
        self.model = model
        self.number = first_number
        self.output_tokens: int = gateway.given["output_tokens"]
        self.gateway_version: str | None = None

    def calls(self) -> list[dict[str, Any]]:
        """All four, the refused ones last: the first tells how many tokens its prompt has."""
        window_tokens = self.model["max_input_tokens"] + self.model["max_output_tokens"]
        question = "{}: name a colour and a city.".format(self.gateway.given["run_id"])
        words = " ".join(f"w{number}" for number in range(window_tokens + 1))
        chat = self._chat("chat", question, self.output_tokens)
        one_too_many = window_tokens - (chat["prompt_tokens"] or 1) + 1
        return [
            chat,
            self._stream(question + " Take others."),
            # Of this model, not of a larger one that long prompts may go on to.
            self._chat("over-long", words, 1, disable_fallbacks=True),
            self._chat("over-window", question, one_too_many, disable_fallbacks=True),
        ]

    def embedding(self) -> dict[str, Any]:
        """The one call of a model that answers with vectors."""
        request_id = self._next_id()
        text = "{}: a colour and a city.".format(self.gateway.given["run_id"])
        answer = exchange(
            "POST",
            self.gateway.url + "/v1/embeddings",
            key=self.key,
            body={"model": self.model["name"], "input": text},
            headers=_named(request_id),
            timeout_seconds=self.gateway.timeout_seconds,
        )
        seen = self._call("embedding", request_id, 0, answer)
        if answer.status == HTTPStatus.OK:
            content = answer.content()
            rows = content.get("data") or [{}]
            usage = content.get("usage") or {}
            seen.update(
                vector_numbers_count=len(rows[0].get("embedding") or ()),
                prompt_tokens=usage.get("prompt_tokens"),
                completion_tokens=usage.get("completion_tokens") or 0,
            )
        return seen

    def keyless(self) -> Exchange:
        """A chat without any key."""
        return exchange(
            "POST",
            self._url(),
            body=self._body("Hello.", 1),
            timeout_seconds=self.gateway.timeout_seconds,
        )

    def _chat(self, kind: str, question: str, output_tokens: int, **more: bool) -> dict[str, Any]:
        request_id = self._next_id()
        answer = exchange(
            "POST",
            self._url(),
            key=self.key,
            body={**self._body(question, output_tokens), **more},
            headers=_named(request_id),
            timeout_seconds=self.gateway.timeout_seconds,
        )
        seen = self._call(kind, request_id, output_tokens, answer)
        if answer.status == HTTPStatus.OK:
            content = answer.content()
            choice = (content.get("choices") or [{}])[0]
            seen.update(_usage(content))
            seen.update(
                response_id=content.get("id"),
                text_characters=len(_text(choice.get("message") or {})),
                finish_reason=choice.get("finish_reason"),
            )
        return seen

    def _stream(self, question: str) -> dict[str, Any]:
        request_id = self._next_id()
        answer, events = stream(
            self._url(),
            key=self.key,
            body={
                **self._body(question, self.output_tokens),
                "stream": True,
                "stream_options": {"include_usage": True},
            },
            headers=_named(request_id),
            timeout_seconds=self.gateway.timeout_seconds,
        )
        seen = self._call("stream", request_id, self.output_tokens, answer)
        seen.update(read_stream(events))
        return seen

    def _call(self, kind: str, request_id: str, output_tokens: int, answer: Exchange) -> dict[str, Any]:
        self.gateway_version = answer.headers.get("x-litellm-version") or self.gateway_version
        fallbacks = answer.headers.get("x-litellm-attempted-fallbacks", "0")
        return {
            "model": self.model["name"],
            "kind": kind,
            "request_id": request_id,
            "asked_output_tokens": output_tokens,
            "status": answer.status,
            "error": answer.error,
            "message": "" if answer.status == HTTPStatus.OK else answer.message(),
            "deployment_id": answer.headers.get("x-litellm-model-id"),
            "attempted_fallbacks_count": int(fallbacks) if fallbacks.isdigit() else 0,
            "prompt_tokens": None,
            "seconds": answer.seconds,
        }

    def _url(self) -> str:
        return self.gateway.url + "/v1/chat/completions"

    def _body(self, question: str, output_tokens: int) -> dict[str, Any]:
        return {
            "model": self.model["name"],
            "messages": [{"role": "user", "content": question}],
            "max_tokens": output_tokens,
            "temperature": 0,
        }

    def _next_id(self) -> str:
        self.number += 1
        return "{}-{:03d}".format(self.gateway.given["run_id"], self.number)


def read_stream(events: list[StreamEvent]) -> dict[str, Any]:
    """What a stream said: its text, how it ended, and when the first words came."""
    seen: dict[str, Any] = {"text_characters": 0}
    for event in events:
        if event.data == "[DONE]":
            seen["done_after_finish"] = seen.get("finish_reason") is not None
            continue
        try:
            content = json.loads(event.data)
        except ValueError:
            seen["error"] = "the stream broke off in the middle of an event"
            break
        if content.get("error"):
            error = content["error"]
            seen["error"] = str(error.get("message", error) if isinstance(error, dict) else error)[:600]
            continue
        seen["response_id"] = content.get("id", seen.get("response_id"))
        if content.get("usage"):
            seen.update(_usage(content))
        for choice in content.get("choices", []):
            characters_count = len(_text(choice.get("delta") or {}))
            if characters_count and "first_token_seconds" not in seen:
                seen["first_token_seconds"] = event.seconds
            seen["text_characters"] += characters_count
            seen["finish_reason"] = choice.get("finish_reason") or seen.get("finish_reason")
    return seen


def _named(request_id: str) -> dict[str, str]:
    return {"X-Request-Id": request_id, "x-litellm-call-id": request_id}


def _text(message: dict[str, Any]) -> str:
    return "".join(message.get(name) or "" for name in ("content", "reasoning_content", "reasoning"))


def _usage(content: dict[str, Any]) -> dict[str, Any]:
    usage = content.get("usage") or {}
    return {"prompt_tokens": usage.get("prompt_tokens"), "completion_tokens": usage.get("completion_tokens")}


def _declared(row: dict[str, Any]) -> dict[str, Any]:
    info = row.get("model_info") or {}
    return {
        "model": row.get("model_name", ""),
        "deployment_id": str(info.get("id", "")),
        "api_base": (row.get("litellm_params") or {}).get("api_base", ""),
        "max_input_tokens": info.get("max_input_tokens"),
        "max_output_tokens": info.get("max_output_tokens"),
    }


def _trouble(path: str, answer: Exchange) -> str:
    if answer.status is None:
        return f"{path}: {answer.error}"
    return f"{path}: {answer.status} {answer.message()}".strip()


def main() -> None:
    """Runs the module."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    gateway = Gateway(module.params)
    if module.params["moment"] == "afterwards":
        module.exit_json(changed=False, deleted=gateway.forget())
    seen = gateway.observe()
    answered = [call for call in seen.get("calls", []) if call["status"] == HTTPStatus.OK]
    module.exit_json(changed=False, observation=seen, answered_count=len(answered))


if __name__ == "__main__":
    main()

"""Calls: what the clients of a run know about each of its requests, kept short while the raw histories lie on disk."""

import hashlib
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httpx

from benchmarks.endpoint import trusting
from benchmarks.history import History
from benchmarks.load import Load
from benchmarks.metrics import usage_of
from benchmarks.record import OK
from benchmarks.running import Runner
from sizing.documents import Part

TIMEOUT_SECONDS = 300.0


class Call(Part):
    """One request and what its client saw of it."""

    request_id: str
    model: str
    base_url: str
    key_hash: str
    status: int
    outcome: str
    prompt_tokens: int | None = None
    completion_tokens: int | None = None

    @property
    def answered(self) -> bool:
        """Whether the client has a whole answer."""
        return self.outcome == OK


@dataclass(kw_only=True)
class CallBook:
    """Notes every call of every run, whichever suite makes it."""

    calls: list[Call] = field(default_factory=list)

    def watching(self, run: Runner, secret: Callable[[Load], str]) -> Runner:
        """The same runner, with its calls noted under the key that they were made with."""

        def watched(load: Load) -> History:
            history = run(load)
            self.calls.extend(_calls(history, _hash(secret(load))))
            return history

        return watched

    def chat(self, base_url: str, secret: str, model: str, *, output_tokens: int, ca_file: Path | None = None) -> Call:
        """One plain chat, sent and noted here."""
        request_id = f"accept-{uuid.uuid4().hex[:12]}"
        headers = {"Authorization": f"Bearer {secret}", "x-litellm-call-id": request_id, "X-Request-Id": request_id}
        body = {
            "model": model,
            "messages": [{"role": "user", "content": f"[{request_id}] Name a colour and a city."}],
            "max_tokens": output_tokens,
            "temperature": 0,
        }
        usage: dict[str, Any] = {}
        status = 0
        try:
            url = base_url + "/chat/completions"
            with httpx.Client(timeout=TIMEOUT_SECONDS, trust_env=False, verify=trusting(ca_file)) as client:
                answer = client.post(url, headers=headers, json=body)
            status, content = answer.status_code, _content(answer)
            usage = content.get("usage") or {}
            error = content.get("error") or {}
            outcome = OK if status == HTTPStatus.OK and usage else str(error.get("type") or f"HTTP {status}")
        except httpx.HTTPError as error:
            outcome = f"no answer: {type(error).__name__}"
        call = Call(
            request_id=request_id,
            model=model,
            base_url=base_url,
            key_hash=_hash(secret),
            status=status,
            outcome=outcome,
            prompt_tokens=usage.get("prompt_tokens"),
            completion_tokens=usage.get("completion_tokens"),
        )
        self.calls.append(call)
        return call


def _calls(history: History, key_hash: str) -> list[Call]:
    target = history.load.target
    found = []
    for record in history.records:
        usage = usage_of(record)
        found.append(
            Call(
                request_id=record.request_id,
                model=target.model,
                base_url=target.base_url,
                key_hash=key_hash,
                status=record.status,
                outcome=record.outcome,
                prompt_tokens=usage.get("prompt_tokens"),
                completion_tokens=usage.get("completion_tokens"),
            )
        )
    return found


def _content(answer: httpx.Response) -> dict[str, Any]:
    try:
        content = answer.json()
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()

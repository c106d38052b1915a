"""The gateway's hook that writes down whose request each one is, and keeps spend from being lost or counted twice.

Relays write what a request used, and know nothing of keys. This hook writes the other half before a request leaves the
gateway: a `begin` line with its X-Request-Id, key (hash and alias), team, user, end user, tags and model. When LiteLLM
books the request, an `end` line follows with the id of LiteLLM's own row and, for models without a relay (`billed_by`
"provider"), the usage and cost. One file per worker process, in the relay's line format and durability.

LiteLLM would add the cost to its key, user, team and team member in memory and write it seconds later: a killed worker
loses that. So the sums of a request that was written down here are left to the ledger (`python -m ledger`), which adds
them in the transaction that books the request. Budgets still stop at once: the counters in Redis are LiteLLM's, as
before. Lines that the disk refuses wait in memory, and in the journal in full; they are booked once it takes them.
"""

from __future__ import annotations

import contextvars
import functools
import json
import logging
import os
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audit_lines import client_of, failure_line, note_administration, prompt_line, request_id_of
from outage_budget import remember_spend

from relay.ledger_lines import encode
from relay.ledger_writer import SegmentWriter

CONFIG_VARIABLE = "IDENTITY_LEDGER_CONFIG"
# Requests under way in one worker. Those that end without LiteLLM booking them (refused later, failed) are forgotten.
OPEN_MAXIMUM = 50_000
_LOG = logging.getLogger("identity_ledger")
_left_to_ledger: contextvars.ContextVar[frozenset[tuple[str, str]]] = contextvars.ContextVar(
    "left_to_ledger", default=frozenset()
)


@dataclass(frozen=True, kw_only=True)
class OpenRequest:
    """What is remembered between a request's two lines."""

    entry: str
    request: str
    begun_at: float
    asks_cache: bool = False


class IdentityLedger:
    """The lines of one worker process. Workers are forked, so the file is opened by the first request."""

    def __init__(self, directory: Path, *, relay_deployments: frozenset[str]) -> None:
        self._directory = directory
        self._relay_deployments = relay_deployments
        self._writer: SegmentWriter | None = None
        self._pid = 0
        self._number = 0
        self._open: OrderedDict[tuple[str, str | None], list[OpenRequest]] = OrderedDict()

    @property
    def writer(self) -> SegmentWriter:
        """This process's own."""
        if self._writer is None or self._pid != os.getpid():
            self._writer = SegmentWriter(self._directory, name="gateway", head={"writer": "gateway"})
            self._pid = os.getpid()
            self._open.clear()
        return self._writer

    def begin(self, *, request: str, call_id: str, key: Any, tags: list[str], model: str, end_user: str | None,
              client: str | None = None, asks_cache: bool = False) -> None:  # fmt: skip
        """Writes whose request it is; on the disk within milliseconds, without anybody waiting for that."""
        self._number += 1
        now = time.time()
        entry = f"{self.writer.process}-{self._number}"
        key_hash = getattr(key, "api_key", None) or getattr(key, "token", None)
        line = {
            "kind": "begin",
            "at": now,
            "entry": entry,
            "request": request,
            "call_id": call_id,
            "key_hash": key_hash,
            "key_alias": getattr(key, "key_alias", None),
            "team_id": getattr(key, "team_id", None),
            "team_alias": getattr(key, "team_alias", None),
            "user_id": getattr(key, "user_id", None),
            "organization_id": getattr(key, "org_id", None),
            "end_user": end_user,
            "tags": tags,
            "model": model,
            "client": client,
        }
        self._write(line)
        self._open.setdefault((call_id, key_hash), []).append(
            OpenRequest(entry=entry, request=request, begun_at=now, asks_cache=asks_cache)
        )
        if len(self._open) > OPEN_MAXIMUM:
            self._open.popitem(last=False)

    def note(self, line: Mapping[str, Any]) -> None:
        """Writes a line of the audit."""
        self._number += 1
        self._write({**line, "at": time.time(), "entry": f"{self.writer.process}-{self._number}"})

    def end(self, payload: Mapping[str, Any], *, key_hash: str | None) -> bool:
        """Writes how LiteLLM saw the request. True when the ledger will add its cost, False when LiteLLM must.

        A full disk changes nothing: the line waits in memory and is booked later; its relay's may be booked already.
        """
        names = (str(payload.get("litellm_call_id")), key_hash)
        requests = self._open.get(names)
        if not requests:
            return False
        opened = requests.pop(0)
        if not requests:
            del self._open[names]
        is_cached = payload.get("cache_hit") == "True"
        is_relayed = payload.get("model_id") in self._relay_deployments and not is_cached
        line = {
            "kind": "end",
            "at": time.time(),
            "entry": opened.entry,
            "request": opened.request,
            "begun_at": opened.begun_at,
            "billed_by": "relay" if is_relayed else "provider",
            "spend_log_id": payload["request_id"],
            "model": str(payload.get("model") or ""),
            "endpoint": payload.get("call_type"),
            # An answer out of the cache cost no engine anything, and costs its key nothing.
            "prompt_tokens": 0 if is_cached else int(payload.get("prompt_tokens") or 0),
            "completion_tokens": 0 if is_cached else int(payload.get("completion_tokens") or 0),
            "cached_tokens": 0 if is_cached else cached_tokens(payload),
            "outcome": "cached" if is_cached else "completed" if payload.get("status") != "failure" else "failed",
            "cost": repr(0.0 if is_cached else float(payload.get("spend") or 0.0)),
            "cache": "hit" if is_cached else "miss" if opened.asks_cache else None,
        }
        self._write(line)
        return True

    def _write(self, record: Mapping[str, Any]) -> None:
        line = encode(record)
        self.writer.append(line)
        self.writer.commit_soon(line=line)


def cached_tokens(payload: Mapping[str, Any]) -> int:
    """Prompt tokens that the provider found in its cache, from the usage in LiteLLM's metadata."""
    try:
        usage = json.loads(payload.get("metadata") or "{}").get("usage_object") or {}
        return int((usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0)
    except (TypeError, ValueError, AttributeError):
        return 0


def tags_of(data: Mapping[str, Any], key: Any = None) -> list[str]:
    """The tags that LiteLLM counts the request under, and those that access.yml gives its key."""
    found: list[str] = []
    for bucket in ("metadata", "litellm_metadata"):
        inside = data.get(bucket)
        if isinstance(inside, Mapping):
            found += _words(inside.get("tags"))
    marked = (getattr(key, "metadata", None) or {}).get("appliance")
    declared = marked.get("tags") if isinstance(marked, Mapping) else None
    return list(dict.fromkeys([*found, *_words(declared)]))


def _words(value: Any) -> list[str]:
    return [one for one in value if isinstance(one, str)] if isinstance(value, list | tuple) else []


def asks_cache(data: Mapping[str, Any]) -> bool:
    """Whether the cache of answers may be asked, as response_cache.py or the client has it."""
    control = data.get("cache")
    return isinstance(control, Mapping) and control.get("use-cache") is True


def make_hook(ledger: IdentityLedger, *, record_prompts: bool = False) -> Any:
    """The object LiteLLM calls. Its base class exists in the gateway's interpreter only, hence a function."""
    from litellm.integrations.custom_logger import CustomLogger  # noqa: PLC0415

    class WritesIdentity(CustomLogger):
        async def async_pre_call_hook(
            self,
            user_api_key_dict: Any,
            cache: Any,  # noqa: ARG002  (LiteLLM passes all four by name)
            data: dict[str, Any],
            call_type: str,  # noqa: ARG002
        ) -> None:
            request = request_id_of(data)
            if request is None:
                return
            ledger.begin(
                request=request,
                call_id=str(data.get("litellm_call_id")),
                key=user_api_key_dict,
                tags=tags_of(data, user_api_key_dict),
                model=str(data.get("model")),
                end_user=getattr(user_api_key_dict, "end_user_id", None) or data.get("user"),
                client=client_of(data),
                asks_cache=asks_cache(data),
            )
            if record_prompts:
                ledger.note(prompt_line(data, request=request))

        async def async_post_call_failure_hook(
            self,
            request_data: dict[str, Any],
            original_exception: Exception,
            user_api_key_dict: Any,
            traceback_str: str | None = None,  # noqa: ARG002  (LiteLLM passes all four by name)
        ) -> None:
            ledger.note(failure_line(request_data, original_exception, user_api_key_dict))

    return WritesIdentity()


def leave_sums_to_ledger(ledger: IdentityLedger) -> None:
    """Keeps LiteLLM's writer from adding what the ledger adds. Everything else it writes, it goes on writing."""
    from litellm.proxy.db.db_spend_update_writer import DBSpendUpdateWriter  # noqa: PLC0415
    from litellm.proxy.db.db_transaction_queue.spend_update_queue import SpendUpdateQueue  # noqa: PLC0415

    batch_updates = DBSpendUpdateWriter._batch_database_updates
    add_update = SpendUpdateQueue.add_update

    async def batch_updates_of_strangers(self: Any, **request: Any) -> None:
        key, user, team = request.get("hashed_token"), request.get("user_id"), request.get("team_id")
        sums: set[tuple[str, str]] = set()
        if ledger.end(request["payload"], key_hash=key):
            sums = {(kind, name) for kind, name in (("key", key), ("user", user), ("team", team)) if name}
            if team and user:
                sums.add(("team_member", f"team_id::{team}::user_id::{user}"))
        token = _left_to_ledger.set(frozenset(sums))
        try:
            await batch_updates(self, **request)
        finally:
            _left_to_ledger.reset(token)

    async def add_what_is_not_the_ledgers(self: Any, update: Any) -> None:
        kind = getattr(update["entity_type"], "value", update["entity_type"])
        if (kind, update["entity_id"]) not in _left_to_ledger.get():
            await add_update(self, update)

    DBSpendUpdateWriter._batch_database_updates = batch_updates_of_strangers
    SpendUpdateQueue.add_update = add_what_is_not_the_ledgers


@functools.cache
def _gateway_hook() -> Any:
    config = json.loads(Path(os.environ[CONFIG_VARIABLE]).read_text(encoding="utf-8"))
    ledger = IdentityLedger(
        Path(config["identity_directory"]), relay_deployments=frozenset(config["relay_deployments"])
    )
    leave_sums_to_ledger(ledger)
    remember_spend()
    note_administration(ledger.note)
    return make_hook(ledger, record_prompts=config.get("record_prompts") is True)


def __getattr__(name: str) -> Any:
    """LiteLLM takes `identity_ledger.instance`; made when asked for, so that importing this module needs no gateway."""
    if name == "instance":
        return _gateway_hook()
    raise AttributeError(name)

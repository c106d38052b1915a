"""The gateway's hook that tells Langfuse, and whatever takes OpenTelemetry's protocol, of every request.

LiteLLM brings callbacks for both. They are not used: they need a dozen further packages, write tool definitions and
error texts into spans also when content is switched off, and know nothing of models that must stay inside. This hook
takes what LiteLLM logs when a request is over, in some ten microseconds; threads of its own do the rest.

What concerns a model marked `data: internal` is told to receivers inside only.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import socket
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from data_fence import Fence
from trace_sender import Sender, receiver_of
from trace_spans import Call, call_of

CONFIG_VARIABLE = "TRACE_EXPORT_CONFIG"
FENCE_VARIABLE = "DATA_FENCE_CONFIG"
# Requests for internal models under way in one worker, by call id.
INTERNAL_MAXIMUM = 50_000
_LOG = logging.getLogger("trace_export")


class TraceExport:
    """Who is told what; knows nothing of LiteLLM's classes."""

    def __init__(self, senders: Sequence[Sender], *, fence: Fence, content_bytes_max: int) -> None:
        self._senders = senders
        self._fence = fence
        self._content_bytes_max = content_bytes_max if any(one.receiver.content for one in senders) else 0
        self._internal: OrderedDict[str, None] = OrderedDict()

    def begins(self, data: Mapping[str, Any]) -> None:
        """A request came in; remembers that it is internal, whatever it falls back to."""
        if self._fence.internal and self._fence.stated_by(data) is not None:
            self._internal[str(data.get("litellm_call_id"))] = None
            if len(self._internal) > INTERNAL_MAXIMUM:
                self._internal.popitem(last=False)

    def ended(self, kwargs: Mapping[str, Any]) -> None:
        """LiteLLM logs an attempt. A fault in here is logged, and is nobody else's."""
        try:
            self._tell(kwargs)
        except (AttributeError, KeyError, TypeError, ValueError):
            _LOG.exception("a request could not be told to the receivers of traces")

    def _tell(self, kwargs: Mapping[str, Any]) -> None:
        payload = kwargs.get("standard_logging_object")
        if not isinstance(payload, Mapping):
            return
        call = call_of(payload, headers=_headers_of(kwargs), content_bytes_max=self._content_bytes_max)
        internal = self._is_internal(kwargs, payload)
        for sender in self._senders:
            if sender.receiver.inside or not internal:
                sender.tell(_for(sender, call))

    def _is_internal(self, kwargs: Mapping[str, Any], payload: Mapping[str, Any]) -> bool:
        if not self._fence.internal:
            return False
        parameters = kwargs.get("litellm_params")
        metadata = parameters.get("metadata") if isinstance(parameters, Mapping) else None
        names = [payload.get("model_group"), payload.get("model_id"), payload.get("model"), kwargs.get("model")]
        return (
            str(payload.get("litellm_call_id")) in self._internal
            or self._fence.internal_among(iter([str(name) for name in names])) is not None
            or self._fence.internal_of({"metadata": metadata}) is not None
        )


def _for(sender: Sender, call: Call) -> Call:
    """Content waits in the queues of those alone who are sent it."""
    if sender.receiver.content or (call.question is None and call.answer is None):
        return call
    return Call(**{**call.__dict__, "question": None, "answer": None})


def _headers_of(kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
    parameters = kwargs.get("litellm_params")
    request = parameters.get("proxy_server_request") if isinstance(parameters, Mapping) else None
    headers = request.get("headers") if isinstance(request, Mapping) else None
    return headers if isinstance(headers, Mapping) else {}


def make_hook(export: TraceExport) -> Any:
    """The object LiteLLM calls. Its base class exists in the gateway's interpreter only, hence a function."""
    from litellm.integrations.custom_logger import CustomLogger  # noqa: PLC0415

    class TellsReceivers(CustomLogger):
        async def async_pre_call_hook(
            self,
            user_api_key_dict: Any,  # noqa: ARG002  (LiteLLM passes all four by name)
            cache: Any,  # noqa: ARG002
            data: dict[str, Any],
            call_type: str,  # noqa: ARG002
        ) -> None:
            export.begins(data)

        async def async_log_success_event(
            self,
            kwargs: dict[str, Any],
            response_obj: Any,  # noqa: ARG002
            start_time: Any,  # noqa: ARG002
            end_time: Any,  # noqa: ARG002
        ) -> None:
            export.ended(kwargs)

        async def async_log_failure_event(
            self,
            kwargs: dict[str, Any],
            response_obj: Any,  # noqa: ARG002
            start_time: Any,  # noqa: ARG002
            end_time: Any,  # noqa: ARG002
        ) -> None:
            export.ended(kwargs)

    return TellsReceivers()


@functools.cache
def _gateway_hook() -> Any:
    config = json.loads(Path(os.environ[CONFIG_VARIABLE]).read_text(encoding="utf-8"))
    fenced = json.loads(Path(os.environ[FENCE_VARIABLE]).read_text(encoding="utf-8"))
    resource = {
        "service.name": "llm-gateway",
        "service.version": version("litellm"),
        "host.name": socket.gethostname(),
        "process.pid": os.getpid(),
    }
    senders = [Sender(receiver_of(one, os.environ), resource=resource) for one in config["receivers"]]
    fence = Fence(internal=frozenset(fenced["internal"]), inside=frozenset(fenced["inside"]))
    return make_hook(TraceExport(senders, fence=fence, content_bytes_max=config["content_bytes_max"]))


def __getattr__(name: str) -> Any:
    """LiteLLM takes `trace_export.instance`; made when asked for, so that importing this module needs no gateway."""
    if name == "instance":
        return _gateway_hook()
    raise AttributeError(name)

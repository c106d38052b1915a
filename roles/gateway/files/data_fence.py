"""The gateway's hook that keeps requests for internal models on the premises, whatever sends them on.

`llm-size check` refuses every declared way from a model marked `data: internal` to an endpoint outside. This hook holds
while requests run, also against what nobody declared: fallbacks that a client sends along, several models named at
once, settings that somebody made in the dashboard, a model that changes on the way. Three gates, each enough alone:

- a request that names an internal model together with one outside, as a second model or as its own fallback, is
  answered 400 at once;
- for a request that began with an internal model the router is offered only deployments inside;
- whatever deployment was chosen, the call is refused right before it leaves if that deployment does not stand inside.

A request is internal if anything says so: what this hook saw when it came in (kept in the task's context, which every
retry and fallback shares), or what LiteLLM noted as the model asked for. A deployment stands inside only if it is in
the list; an unknown one does not.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import json
import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CONFIG_VARIABLE = "DATA_FENCE_CONFIG"
FALLBACKS = ("fallbacks", "context_window_fallbacks", "content_policy_fallbacks")
NOTED = ("original_model_group", "model_group")
_LOG = logging.getLogger("data_fence")
# The internal model that the request began with, beside its task: a context may outlive a request, a task does not.
_began_with: contextvars.ContextVar[tuple[object, str] | None] = contextvars.ContextVar("began_with", default=None)


@dataclass(frozen=True, kw_only=True)
class Fence:
    """Every name of the internal models (aliases and ids of deployments too), and the ids of deployments inside."""

    internal: frozenset[str]
    inside: frozenset[str]

    def internal_among(self, names: Iterator[str]) -> str | None:
        """The first internal one."""
        return next((name for name in names if name in self.internal), None)

    def internal_of(self, data: Mapping[str, Any]) -> str | None:
        """The internal model that a request began with, by everything that is known of it, or None."""
        began = _began_with.get()
        return began[1] if began is not None else self.stated_by(data)

    def stated_by(self, data: Mapping[str, Any]) -> str | None:
        """The internal model that the data of a request name."""
        return self.internal_among(_noted(data)) or self.internal_among(named(data.get("model")))


def named(model: object) -> Iterator[str]:
    """LiteLLM asks several models when they stand in one name, or in a list."""
    for one in model if isinstance(model, list) else [model]:
        if isinstance(one, str):
            yield from (name.strip() for name in one.split(","))


def own_fallbacks(data: Mapping[str, Any]) -> Iterator[str]:
    """Every model that the client itself wants to be asked instead, in any of LiteLLM's forms."""
    waiting = [data.get(name) for name in FALLBACKS]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            yield one
        elif isinstance(one, list | tuple):
            waiting += one
        elif isinstance(one, Mapping):
            waiting += [one["model"]] if "model" in one else list(one.values())


def _noted(data: Mapping[str, Any]) -> Iterator[str]:
    for bucket in ("metadata", "litellm_metadata"):
        inside = data.get(bucket)
        if isinstance(inside, Mapping):
            yield from (str(inside[name]) for name in NOTED if isinstance(inside.get(name), str))


def deployment_id(kwargs: Mapping[str, Any]) -> str | None:
    """The deployment that a call is about to be sent to."""
    info = kwargs.get("model_info")
    value = info.get("id") if isinstance(info, Mapping) else None
    return str(value) if value is not None else None


def make_hook(fence: Fence, models_inside: Any = None) -> Any:
    """The object LiteLLM calls. Its base classes exist in the gateway's interpreter only, hence a function.

    `models_inside` tells which model names only deployments inside serve; LiteLLM's router knows when requests come.
    """
    from litellm.exceptions import BadRequestError  # noqa: PLC0415
    from litellm.integrations.custom_logger import CustomLogger  # noqa: PLC0415
    from litellm.proxy._types import ProxyException  # noqa: PLC0415

    stays = models_inside or (lambda name: _stays_inside(fence, name))

    def refusal(model: str, what: str) -> str:
        return f"{model} is an internal model: its requests stay on the premises. {what}"

    class DataFence(CustomLogger):
        enforces_request_content = True

        async def async_pre_call_hook(
            self,
            user_api_key_dict: Any,  # noqa: ARG002  (LiteLLM passes all four by name)
            cache: Any,  # noqa: ARG002
            data: dict[str, Any],
            call_type: str,  # noqa: ARG002
        ) -> None:
            # LiteLLM calls this again, with another model, when a key has used up its rate for the first one.
            task, began = asyncio.current_task(), _began_with.get()
            internal = began[1] if began is not None and began[0] is task else fence.stated_by(data)
            _began_with.set((task, internal) if internal is not None else None)
            if internal is None:
                return
            for other in (*named(data.get("model")), *own_fallbacks(data)):
                if not stays(other):
                    message = refusal(internal, f"Ask for it without {other}, which is elsewhere.")
                    raise ProxyException(message=message, type="invalid_request_error", param="model", code=400)

        async def async_filter_deployments(
            self,
            model: str,
            healthy_deployments: list[Any],
            messages: Any,  # noqa: ARG002
            request_kwargs: dict[str, Any] | None = None,
            parent_otel_span: Any = None,  # noqa: ARG002
        ) -> list[Any]:
            request = request_kwargs or {}
            ids = [str(one.get("model_info", {}).get("id")) for one in healthy_deployments]
            # Whatever name led to an internal model, from there the request stays.
            internal = fence.internal_of(request) or fence.internal_among(iter((model, *ids)))
            if internal is None:
                return healthy_deployments
            _began_with.set((asyncio.current_task(), internal))
            inside = [one for one, name in zip(healthy_deployments, ids, strict=True) if name in fence.inside]
            if healthy_deployments and not inside:
                _LOG.warning("a request for %s was kept from %s, which is not inside", internal, model)
                raise BadRequestError(
                    message=refusal(internal, f"{model} is elsewhere and was not asked."), model=model, llm_provider=""
                )
            return inside

        async def async_pre_call_deployment_hook(
            self,
            kwargs: dict[str, Any],
            call_type: Any,  # noqa: ARG002
        ) -> None:
            internal = fence.internal_of(kwargs)
            if internal is None or deployment_id(kwargs) in fence.inside:
                return
            _LOG.error("a request for %s was stopped before %s", internal, deployment_id(kwargs))
            raise BadRequestError(
                message=refusal(internal, "A deployment elsewhere was chosen and not asked."),
                model=str(kwargs.get("model")),
                llm_provider="",
            )

    return DataFence()


def _stays_inside(fence: Fence, model: str) -> bool:
    """Whether a model is served inside alone. What nobody serves is not there to be asked; the router says so."""
    from litellm.proxy.proxy_server import llm_router  # noqa: PLC0415

    if model in fence.internal or model in fence.inside:
        return True
    found = llm_router.get_model_list(model_name=model) if llm_router is not None else None
    return bool(found) and all(str(one.get("model_info", {}).get("id")) in fence.inside for one in found or [])


@functools.cache
def _gateway_hook() -> Any:
    config = json.loads(Path(os.environ[CONFIG_VARIABLE]).read_text(encoding="utf-8"))
    return make_hook(Fence(internal=frozenset(config["internal"]), inside=frozenset(config["inside"])))


def __getattr__(name: str) -> Any:
    """LiteLLM takes `data_fence.instance`; made when asked for, so that importing this module needs no gateway."""
    if name == "instance":
        return _gateway_hook()
    raise AttributeError(name)

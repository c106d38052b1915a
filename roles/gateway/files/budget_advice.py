"""The gateway's hook that tells a client whose budget is spent what to do about it.

LiteLLM answers 422 with who has spent how much of what. This adds when the budget starts anew, where it is known, and
who can raise it. The status and the error's type stay LiteLLM's.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

_WHOSE = {"key": "this key", "team": "the team of this key", "user": "the user of this key"}


def advice(*, entity: str | None, key_alias: str | None, resets_at: datetime | None) -> str:
    """What stands behind LiteLLM's own words."""
    whose = _WHOSE.get(entity or "", "the budget it names")
    if entity == "key" and key_alias:
        whose = f"key {key_alias}"
    anew = ""
    if entity == "key" and resets_at is not None:
        moment = resets_at if resets_at.tzinfo else resets_at.replace(tzinfo=UTC)
        anew = f" It starts anew at {moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC."
    return f"Nothing was sent to a model.{anew} To go on before, ask your operators to raise the budget of {whose}."


def with_advice(message: str, more: str) -> str:
    """Once, however often the error passes."""
    return message if more in message else f"{message.rstrip('. ')}. {more}"


def make_hook() -> Any:
    """The object LiteLLM calls. Its base class exists in the gateway's interpreter only, hence a function."""
    from litellm.exceptions import BudgetExceededError  # noqa: PLC0415
    from litellm.integrations.custom_logger import CustomLogger  # noqa: PLC0415

    class Advises(CustomLogger):
        async def async_post_call_failure_hook(
            self,
            request_data: Mapping[str, Any],  # noqa: ARG002  (LiteLLM passes all by name)
            original_exception: Exception,
            user_api_key_dict: Any,
            traceback_str: str | None = None,  # noqa: ARG002
        ) -> None:
            if not isinstance(original_exception, BudgetExceededError):
                return
            resets_at = getattr(user_api_key_dict, "budget_reset_at", None)
            more = advice(
                entity=str(original_exception.entity_type or "").lower() or None,
                key_alias=getattr(user_api_key_dict, "key_alias", None),
                resets_at=resets_at if isinstance(resets_at, datetime) else None,
            )
            original_exception.message = with_advice(original_exception.message, more)
            original_exception.args = (original_exception.message,)

    return Advises()


@functools.cache
def _gateway_hook() -> Any:
    return make_hook()


def __getattr__(name: str) -> Any:
    """LiteLLM takes `budget_advice.instance`; made when asked for, so that importing this module needs no gateway."""
    if name == "instance":
        return _gateway_hook()
    raise AttributeError(name)

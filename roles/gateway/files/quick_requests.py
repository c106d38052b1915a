"""The gateway's hook that spares LiteLLM work at every request that leads nowhere.

At each request LiteLLM asks where a tenant's traces go, and imports its OpenTelemetry integration for that. That needs
OpenTelemetry's SDK, which gateways do not have (tracing is trace_export.py's), so Python finds the file, reads and runs
it up to the line that fails, and forgets it: 0.17 ms of every request and more. Here the import fails at once.

And before it looks into its cache it asks Python for the signature of its own function, to give names to arguments that
were given without: there are none, which needs no 0.05 ms to find out.
"""

from __future__ import annotations

import functools
import importlib.util
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

NEEDS = {"litellm.integrations.otel.logger": "opentelemetry.sdk"}


def fail_at_once(modules: dict[str, ModuleType | None]) -> list[str]:
    """Marks what cannot be imported, for want of something that is not installed, as Python itself does. Says which."""
    marked = [name for name, need in NEEDS.items() if name not in modules and not _installed(need)]
    modules.update(dict.fromkeys(marked))
    return marked


def _installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # not even the package above it
        return False


def ask_only_with_arguments(handler: Any) -> None:
    """No arguments have no names, whatever the signature is. A LiteLLM without this function is left as it is."""
    convert: Callable[..., dict[str, object]] | None = getattr(handler, "convert_args_to_kwargs", None)
    if convert is None:
        return

    @functools.wraps(convert)
    def convert_some(original_function: Any, args: tuple[object, ...] | None = None) -> dict[str, object]:
        return convert(original_function, args) if args else {}

    handler.convert_args_to_kwargs = convert_some


@functools.cache
def _gateway_hook() -> Any:
    from litellm.caching import caching_handler  # noqa: PLC0415 - only the gateway has it
    from litellm.integrations.custom_logger import CustomLogger  # noqa: PLC0415

    ask_only_with_arguments(caching_handler)
    fail_at_once(sys.modules)  # type: ignore[arg-type]
    return CustomLogger()


def __getattr__(name: str) -> Any:
    """LiteLLM takes `quick_requests.instance`; made when asked for, so that importing this module needs no gateway."""
    if name == "instance":
        return _gateway_hook()
    raise AttributeError(name)

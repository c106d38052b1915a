"""Refuses a gateway configuration that LiteLLM would misread in silence.

LiteLLM ignores keys that it does not know: a misspelt `cooldown_time` or a window under the wrong name is dropped
without a word. So before a configuration lands, everything this appliance writes is checked against the models of
config_shapes.py, which know exactly the keys that the template writes, and every fault is one line with its path in
the YAML.

Usage: validate_config.py CONFIG.yaml (exit status 1 and the faults on stderr, or 0 and silence)
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from config_shapes import (
    ENVIRONMENT_PATTERN,
    KEY_PATTERN,
    Deployment,
    GatewayConfig,
    ProviderDeployment,
    RouterSettings,
)
from pydantic import ValidationError


def path_in_yaml(location: tuple[int | str, ...]) -> str:
    """('model_list', 1, 'own', 'model_info') -> model_list[1].model_info"""
    if location[:1] == ("model_list",) and location[2:3] in {("own",), ("declared",)}:
        location = location[:2] + location[3:]
    steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in location)
    return "".join(steps).removeprefix(".")


def shape_faults(error: ValidationError) -> Iterator[str]:
    """Unknown keys, missing keys, wrong types and values."""
    for fault in error.errors(include_url=False):
        path = path_in_yaml(fault["loc"])
        match fault["type"]:
            case "extra_forbidden":
                yield f"{path}: unknown key; LiteLLM would ignore it in silence"
            case "missing":
                yield f"{path}: missing"
            case "string_pattern_mismatch" if fault["ctx"]["pattern"] in {ENVIRONMENT_PATTERN, KEY_PATTERN}:
                yield f"{path}: must be os.environ/NAME; the value itself has no place in this file"
            case "value_error":
                yield f"{path}: {fault['ctx']['error']}"
            case _:
                yield f"{path}: {fault['msg']}; found {fault['input']!r}"


def meaning_faults(config: GatewayConfig) -> Iterator[str]:
    """What single fields cannot show: repeated ids, fallbacks to nowhere, windows that differ within one model."""
    times = Counter(deployment.model_info.id for deployment in config.model_list)
    first_of_model: dict[str, tuple[int, Deployment | ProviderDeployment]] = {}
    for index, deployment in enumerate(config.model_list):
        name, info = deployment.model_name, deployment.model_info
        if times[info.id] > 1:
            yield f"model_list[{index}].model_info.id: {info.id!r} stands {times[info.id]} times; ids must differ"
        first_index, first = first_of_model.setdefault(name, (index, deployment))
        if first.model_info.window_tokens != info.window_tokens:
            yield (
                f"model_list[{index}].model_info: {name} declares max_input_tokens + max_output_tokens = "
                f"{info.max_input_tokens} + {info.max_output_tokens} here and {first.model_info.max_input_tokens} + "
                f"{first.model_info.max_output_tokens} in model_list[{first_index}]; one model has one window"
            )
    yield from route_faults(config.router_settings, set(first_of_model))


def route_faults(router: RouterSettings, models: set[str]) -> Iterator[str]:
    """Names that lead nowhere."""
    aliases = router.model_group_alias or {}
    for kind in ("fallbacks", "context_window_fallbacks", "content_policy_fallbacks"):
        for index, chain in enumerate(getattr(router, kind) or []):
            for name, targets in chain.items():
                path = f"router_settings.{kind}[{index}].{name}"
                if name not in models and name not in aliases:
                    yield f"{path}: no model of that name in model_list"
                yield from target_faults(path, name, targets, models)
    yield from target_faults("router_settings.default_fallbacks", None, router.default_fallbacks or [], models)
    for index, group in enumerate(router.routing_groups or []):
        if group.models != [group.group_name] or group.group_name not in models:
            yield f"router_settings.routing_groups[{index}]: must be named as its one model, and that be in model_list"
    for alias, target in aliases.items():
        if alias in models or target not in models:
            yield f"router_settings.model_group_alias.{alias}: must be a new name for a model in model_list"


def target_faults(path: str, name: str | None, targets: list[str], models: set[str]) -> Iterator[str]:
    """Fallbacks that are no other model."""
    for target in targets:
        if target == name:
            yield f"{path}: falls back to itself"
        elif target not in models:
            yield f"{path}: falls back to {target!r}, which is not in model_list"


def faults(content: Any) -> list[str]:
    """Everything wrong with a parsed configuration."""
    try:
        config = GatewayConfig.model_validate(content)
    except ValidationError as error:
        return list(shape_faults(error))
    return list(meaning_faults(config))


def main() -> int:
    """Command line."""
    path = Path(sys.argv[1])
    try:
        found = faults(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, yaml.YAMLError) as error:
        found = [" ".join(str(error).split())]
    for fault in found:
        print(f"gateway configuration: {fault}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

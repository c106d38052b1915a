"""A role's public variables stand in two files, its defaults and its argument specs; they must agree."""

from pathlib import Path
from typing import Any

import pytest
import yaml

ROLES = Path(__file__).resolve().parents[2] / "roles"
ROLE_NAMES = sorted(path.name for path in ROLES.iterdir() if (path / "meta" / "argument_specs.yml").exists())


def _options(role: str) -> dict[str, Any]:
    content = yaml.safe_load((ROLES / role / "meta" / "argument_specs.yml").read_text(encoding="utf-8"))
    return content["argument_specs"]["main"]["options"]


def _defaults(role: str) -> dict[str, Any]:
    return yaml.safe_load((ROLES / role / "defaults" / "main.yml").read_text(encoding="utf-8")) or {}


def test_every_role_of_the_appliance_declares_its_arguments() -> None:
    roles = {path.name for path in ROLES.iterdir() if path.is_dir()}

    assert roles == set(ROLE_NAMES)


@pytest.mark.parametrize("role", ROLE_NAMES)
def test_an_option_has_a_default_or_is_required_and_never_both(role: str) -> None:
    options, defaults = _options(role), _defaults(role)

    required = {name for name, spec in options.items() if spec.get("required")}
    optional = {name for name in options if name not in required}

    assert set() == required & set(defaults)
    assert optional == set(defaults)


@pytest.mark.parametrize("role", ROLE_NAMES)
def test_public_variables_carry_the_name_of_their_role(role: str) -> None:
    strangers = [name for name in _options(role) if not name.startswith(f"{role}_")]

    assert [] == strangers


@pytest.mark.parametrize("role", ROLE_NAMES)
def test_the_defaults_in_both_files_are_the_same(role: str) -> None:
    options, defaults = _options(role), _defaults(role)

    different = [
        name
        for name, spec in options.items()
        if "default" in spec and "{{" not in str(defaults[name]) and spec["default"] != defaults[name]
    ]

    assert [] == different


@pytest.mark.parametrize("role", ROLE_NAMES)
def test_a_role_never_reads_the_plan_or_other_hosts(role: str) -> None:
    files = [path for path in (ROLES / role).rglob("*.y*ml") if "files" not in path.parts]
    files += list((ROLES / role).rglob("*.j2"))

    readers = [
        str(path.relative_to(ROLES))
        for path in files
        for word in ("appliance_plan", "hostvars", "groups[")
        if word in path.read_text(encoding="utf-8")
    ]

    assert [] == readers

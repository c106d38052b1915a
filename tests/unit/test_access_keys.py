"""Values of keys: made once, kept, rotated by name, forgotten with their alias; encrypted wherever they lie."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from ansible.parsing.vault import VaultLib, VaultSecret

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "site" / "group_vars" / "all").mkdir(parents=True)
    (tmp_path / "password").write_text("of this test\n", encoding="utf-8")
    return tmp_path / "site"


def declare(site: Path, *aliases: str) -> None:
    keys = "".join(f"    - {{alias: {alias}, models: [alpha]}}\n" for alias in aliases)
    (site / "group_vars/all/access.yml").write_text(f"access:\n  keys:\n{keys}", encoding="utf-8")


def access_keys(site: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tools.access_keys", str(site), *options],
        cwd=ROOT,
        env=os.environ | {"LLM_APPLIANCE_VAULT_PASSWORD_FILE": str(site.parent / "password")},
        capture_output=True,
        text=True,
        check=False,
    )


def values(site: Path) -> dict[str, str]:
    """What lies encrypted in the vault."""
    stored = (site / "group_vars/all/vault_access.yml").read_text(encoding="utf-8")
    vault = VaultLib([("default", VaultSecret(b"of this test"))])
    found: dict[str, str] = yaml.safe_load(vault.decrypt(stored))["vault_access_keys"]
    return found


def test_values_are_kept_and_only_the_named_one_is_rotated(site: Path) -> None:
    declare(site, "one", "two")
    made = access_keys(site)
    before = values(site)

    rotated = access_keys(site, "--rotate", "one")
    after = values(site)

    assert "made one, two; forgot none" in made.stdout
    assert "made one; forgot none" in rotated.stdout
    assert before["one"] != after["one"]
    assert before["two"] == after["two"]
    assert all(value.startswith("sk-") and len(value) > 40 for value in after.values())
    assert not any(value in made.stdout + rotated.stdout for value in (*before.values(), *after.values()))


def test_a_dry_run_and_a_mistyped_alias_write_nothing(site: Path) -> None:
    declare(site, "one")

    dry = access_keys(site, "--check")
    wrong = access_keys(site, "--rotate", "won")

    assert (0, "would make one; forgot none") == (dry.returncode, dry.stdout.split(": ")[-1].strip())
    assert (2, "access: no key won in access.yml; nothing was changed\n") == (wrong.returncode, wrong.stderr)
    assert not (site / "group_vars/all/vault_access.yml").exists()

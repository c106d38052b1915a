"""Makes the values of a site's virtual keys: `group_vars/all/vault_access.yml`, encrypted with Ansible Vault.

One value for each alias of access.yml. What is there stays; `--rotate ALIAS` replaces one; values of aliases that are
not declared any more go. A value exists in the vault before the gateway hears of it, so that no value is ever lost
between the two, and a gateway with an empty database gets the same keys again.
"""

import argparse
import secrets
import sys
from pathlib import Path
from typing import Any

from sizing.access import load_access
from sizing.errors import SizingError
from tools import init_vault

VALUE_BYTES = 32
VARIABLE = "vault_access_keys"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("site", type=Path, help="inventory directory, e.g. inventories/lab")
    parser.add_argument("--rotate", metavar="ALIAS", action="append", default=[], help="give this key a new value")
    parser.add_argument("--show", metavar="ALIAS", help="print the value of this key, to hand it over")
    parser.add_argument("--check", action="store_true", help="say what would change")
    arguments = parser.parse_args()
    try:
        access = load_access(arguments.site)
    except SizingError as error:
        print(f"access: {error}", file=sys.stderr)
        return error.exit_code
    if access is None:
        print(f"access: {arguments.site} declares no access (group_vars/all/access.yml)", file=sys.stderr)
        return 2
    path = arguments.site / "group_vars" / "all" / "vault_access.yml"
    present = read_values(path)
    if arguments.show:
        return show(arguments.show, present)
    aliases = [key.alias for key in access.keys]
    unknown = sorted(set(arguments.rotate) - set(aliases))
    if unknown:
        print(f"access: no key {', '.join(unknown)} in access.yml; nothing was changed", file=sys.stderr)
        return 2
    made = [alias for alias in aliases if alias in arguments.rotate or alias not in present]
    gone = sorted(set(present) - set(aliases))
    if not made and not gone:
        print(f"access: {path} holds the values of all {len(aliases)} keys already")
        return 0
    if not arguments.check:
        kept = {alias: value for alias, value in present.items() if alias in aliases}
        new = {alias: "sk-" + secrets.token_urlsafe(VALUE_BYTES) for alias in made}
        init_vault.make_password_file()
        init_vault.write_vault(path, {VARIABLE: {**kept, **new}})
    would = "would make" if arguments.check else "made"
    print(f"access: {path}: {would} {', '.join(made) or 'none'}; forgot {', '.join(gone) or 'none'}")
    return 0


def read_values(path: Path) -> dict[str, str]:
    """The decrypted values by alias."""
    content: dict[str, Any] = dict(init_vault.read_vault(path)) if path.exists() else {}
    values = content.get(VARIABLE, {})
    if not isinstance(values, dict):
        sys.exit(f"access: {path} holds no {VARIABLE}")
    return {str(alias): str(value) for alias, value in values.items()}


def show(alias: str, values: dict[str, str]) -> int:
    """The one place where a value appears, because somebody asked for it."""
    if alias not in values:
        print(f"access: there is no value for {alias}", file=sys.stderr)
        return 2
    print(values[alias])
    return 0


if __name__ == "__main__":
    sys.exit(main())

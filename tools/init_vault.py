"""Makes the secrets of a site: `group_vars/all/vault.yml`, encrypted with Ansible Vault.

Only what is missing is generated, so that running it again never changes a secret. The vault password is made too when
there is none (`.vault-password`, mode 0600). Secrets pass between programs through pipes, never through arguments.
A site with edges gets a self-signed certificate for its `edge_server_names`, unless the vault holds the operator's own.
"""

import argparse
import json
import os
import secrets
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import yaml

from tools import edge_certificate

REPOSITORY = Path(__file__).resolve().parent.parent
PASSWORD_BYTES = 32
SECRET_PREFIXES = {
    "vault_vllm_api_key": "",
    "vault_gateway_master_key": "sk-",  # LiteLLM refuses a master key without this prefix
    "vault_gateway_salt_key": "",
    "vault_postgres_gateway_password": "",
    "vault_redis_password": "",
    "vault_redis_monitor_password": "",
    "vault_grafana_admin_password": "",
    "vault_gateway_dashboard_password": "",
}
CERTIFICATE, PRIVATE_KEY = "vault_edge_certificate", "vault_edge_private_key"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("site", type=Path, help="inventory directory, e.g. inventories/lab")
    parser.add_argument("--new-certificate", action="store_true", help="replace the edges' certificate")
    arguments = parser.parse_args()
    site: Path = arguments.site
    if not site.is_dir():
        print(f"vault: {site}: no such site", file=sys.stderr)
        return 2
    make_password_file()
    path = site / "group_vars" / "all" / "vault.yml"
    present = read_vault(path) if path.exists() else {}
    missing = [name for name in SECRET_PREFIXES if name not in present]
    made = {name: SECRET_PREFIXES[name] + secrets.token_urlsafe(PASSWORD_BYTES) for name in missing}
    server_names = edge_server_names(site)
    if server_names and (arguments.new_certificate or CERTIFICATE not in present):
        new = edge_certificate.make_certificate(server_names)
        made |= {CERTIFICATE: new.certificate, PRIVATE_KEY: new.private_key}
    if not made:
        print(f"vault: {path} holds every secret already")
        return 0
    write_vault(path, {**present, **made})
    print(f"vault: {path}: generated {', '.join(made)}")
    return 0


def edge_server_names(site: Path) -> list[str]:
    """Under which names clients will call; empty on a site without edges."""
    program = Path(sys.executable).with_name("ansible-inventory")
    answer = subprocess.run(
        [str(program), "-i", str(site.resolve()), "--list"],
        capture_output=True,
        text=True,
        check=False,
        cwd=REPOSITORY,
    )
    if answer.returncode != 0:
        sys.exit(f"vault: {site} is no inventory that Ansible can read: {answer.stderr.strip()}")
    inventory = json.loads(answer.stdout)
    edges = inventory.get("edge", {}).get("hosts", [])
    if not edges:
        return []
    variables = inventory["_meta"]["hostvars"][edges[0]]
    names = variables.get("edge_server_names")
    if not names:
        sys.exit(f"vault: {site} has edges but no edge_server_names; set it in group_vars/edge.yml")
    return [str(name) for name in names]


def make_password_file() -> None:
    """A password for the vault where the operator has not named or made one."""
    if os.environ.get("LLM_APPLIANCE_VAULT_PASSWORD_FILE"):
        return
    path = REPOSITORY / ".vault-password"
    if not path.exists():
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(secrets.token_urlsafe(PASSWORD_BYTES) + "\n")
        print(f"vault: made {path}; keep a copy of it in a safe place")


def read_vault(path: Path) -> dict[str, str]:
    """The decrypted secrets; ends the program with one line when the password is wrong."""
    answer = _ansible_vault("decrypt", "--output", "-", str(path.resolve()))
    if answer.returncode != 0:
        reason = next((line for line in answer.stderr.splitlines() if "ERROR" in line), "no reason given")
        sys.exit(f"vault: {path} cannot be decrypted with the present vault password: {reason}")
    content = yaml.safe_load(answer.stdout)
    if not isinstance(content, dict):
        sys.exit(f"vault: {path} holds no variables")
    return content


def write_vault(path: Path, content: Mapping[str, object]) -> None:
    """Encrypts in memory and replaces the file at once."""
    answer = _ansible_vault("encrypt", "--output", "-", "-", text=yaml.safe_dump(dict(content)))
    if answer.returncode != 0:
        sys.exit(f"vault: {path} cannot be encrypted: {answer.stderr.strip()}")
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(answer.stdout, encoding="utf-8")
    unfinished.chmod(0o600)
    unfinished.replace(path)


def _ansible_vault(*arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("ansible-vault")
    return subprocess.run(
        [str(program), *arguments], input=text, capture_output=True, text=True, check=False, cwd=REPOSITORY
    )


if __name__ == "__main__":
    sys.exit(main())

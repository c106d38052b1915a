"""Makes the secrets of a site: `group_vars/all/vault.yml`, encrypted with Ansible Vault.

Only what is missing is generated, so that running it again never changes a secret. The vault password is made too when
there is none (`.vault-password`, mode 0600). Secrets pass between programs through pipes, never through arguments.
"""

import argparse
import os
import secrets
import subprocess
import sys
from pathlib import Path

import yaml

REPOSITORY = Path(__file__).resolve().parent.parent
PASSWORD_BYTES = 32
SECRET_PREFIXES = {
    "vault_vllm_api_key": "",
    "vault_gateway_master_key": "sk-",  # LiteLLM refuses a master key without this prefix
    "vault_gateway_salt_key": "",
    "vault_postgres_gateway_password": "",
    "vault_redis_password": "",
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("site", type=Path, help="inventory directory, e.g. inventories/lab")
    site: Path = parser.parse_args().site
    if not site.is_dir():
        print(f"vault: {site}: no such site", file=sys.stderr)
        return 2
    make_password_file()
    path = site / "group_vars" / "all" / "vault.yml"
    present = read_vault(path) if path.exists() else {}
    missing = [name for name in SECRET_PREFIXES if name not in present]
    if not missing:
        print(f"vault: {path} holds every secret already")
        return 0
    made = {name: SECRET_PREFIXES[name] + secrets.token_urlsafe(PASSWORD_BYTES) for name in missing}
    write_vault(path, {**present, **made})
    print(f"vault: {path}: generated {', '.join(missing)}")
    return 0


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


def write_vault(path: Path, content: dict[str, str]) -> None:
    """Encrypts in memory and replaces the file at once."""
    answer = _ansible_vault("encrypt", "--output", "-", "-", text=yaml.safe_dump(content))
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

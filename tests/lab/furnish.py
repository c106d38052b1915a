"""What `up` writes before the first boot: each host's own files, and the ssh keys and configuration to reach them."""

import hashlib
import subprocess
from pathlib import Path

from . import addresses, places
from .spec import HostSpec, LabSpec, pip_conf

KEY = "key"
KNOWN_HOSTS = "known_hosts"
SSH_CONFIG = "ssh_config"
_HOST_KEY = "etc/ssh/ssh_host_ed25519_key"


def furnish(state: Path, spec: LabSpec) -> None:
    """Write everything below the state directory."""
    _make_key(state / KEY, comment="lab")
    authorized = (state / f"{KEY}.pub").read_text()
    names = [host.name for host in spec.hosts]
    known_hosts = ""
    for host in spec.hosts:
        public_key = _furnish_host(state / "hosts" / host.name, host, names, authorized)
        known_hosts += f"{host.name},{host.address} {public_key}\n"
    (state / KNOWN_HOSTS).write_text(known_hosts)
    (state / SSH_CONFIG).write_text(ssh_config(state, spec))


def ssh_config(state: Path, spec: LabSpec) -> str:
    """How ssh, and so Ansible, reaches the hosts from outside: through `lab dial`, with strict host keys."""
    patterns = " ".join(f"{host.name} {host.address}" for host in spec.hosts)
    return f"""Host {patterns}
    User root
    IdentityFile "{state / KEY}"
    IdentitiesOnly yes
    PasswordAuthentication no
    UserKnownHostsFile "{state / KNOWN_HOSTS}"
    GlobalKnownHostsFile none
    StrictHostKeyChecking yes
    ProxyCommand env "LLM_APPLIANCE_LAB_STATE={state}" "{places.LAB_COMMAND}" dial %h %p
"""


def _furnish_host(place: Path, host: HostSpec, names: list[str], authorized: str) -> str:
    """One host's upper layer; returns its public host key."""
    upper = place / "upper"
    for directory in ("work", "root"):
        (place / directory).mkdir(parents=True, mode=0o755)
    # These become the modes of the merged directories.
    for path, mode in (("", 0o755), ("etc", 0o755), ("etc/ssh", 0o755), ("root", 0o700), ("root/.ssh", 0o700)):
        (upper / path).mkdir(mode=mode)
        (upper / path).chmod(mode)
    (upper / "etc/hostname").write_text(f"{host.name}\n")
    (upper / "etc/hosts").write_text(addresses.hosts_file(names))
    (upper / "etc/pip.conf").write_text(pip_conf(host.binds))
    machine_id = hashlib.sha256(f"{place}".encode()).hexdigest()[:32]
    (upper / "etc/machine-id").write_text(f"{machine_id}\n")
    keys = upper / "root/.ssh/authorized_keys"
    keys.write_text(authorized)
    keys.chmod(0o600)
    (place / "binds").write_text("".join(f"{bind.source}\t{bind.target}\n" for bind in host.binds))
    _make_key(upper / _HOST_KEY, comment=host.name)
    kind, key, _ = (upper / f"{_HOST_KEY}.pub").read_text().split()
    return f"{kind} {key}"


def _make_key(path: Path, *, comment: str) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(path)], check=True)

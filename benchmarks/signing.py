"""Signing: an acceptance bundle is sealed by one list of checksums and one signature over that list (`ssh-keygen -Y`).

Everybody has the tool, keys may live on a hardware token, and the signature is bound to this purpose by its namespace.
Checking wants the list of allowed signers and trusts nothing inside the bundle.
"""

import hashlib
import subprocess
from pathlib import Path

from benchmarks.errors import BrokenBundle

NAMESPACE = "llm-appliance-acceptance"
KEY_VARIABLE = "LLM_APPLIANCE_SIGNING_KEY"
SUMS = "SHA256SUMS"
SIGNATURE = SUMS + ".sig"


def seal(bundle: Path, *, key: Path) -> None:
    """Writes the checksums of every file and signs them. A public key works too, if the agent holds the private one."""
    for old in (SUMS, SIGNATURE):
        (bundle / old).unlink(missing_ok=True)
    lines = [f"{_digest(bundle / name)}  {name}\n" for name in _files(bundle)]
    if not lines:
        raise BrokenBundle(f"{bundle}: nothing to sign")
    (bundle / SUMS).write_text("".join(lines), encoding="utf-8")
    done = _ssh_keygen("-Y", "sign", "-q", "-f", str(key), "-n", NAMESPACE, str(bundle / SUMS))
    if done.returncode or not (bundle / SIGNATURE).is_file():
        (bundle / SUMS).unlink()
        raise BrokenBundle(f"{bundle}: not signed with {key}: {_reason(done)}")


def check(bundle: Path, *, allowed_signers: Path) -> str:
    """The signer's name; raises BrokenBundle with the first thing that does not hold."""
    for needed in (bundle / SUMS, bundle / SIGNATURE, allowed_signers):
        if not needed.is_file():
            raise BrokenBundle(f"{needed}: no such file; a bundle has {SUMS} and {SIGNATURE}")
    sums = (bundle / SUMS).read_bytes()
    allowed, signature = str(allowed_signers), str(bundle / SIGNATURE)
    found = _ssh_keygen("-Y", "find-principals", "-f", allowed, "-s", signature, "-n", NAMESPACE)
    signer = found.stdout.decode().strip().partition("\n")[0]
    if found.returncode or not signer:
        raise BrokenBundle(f"{bundle}: signed by nobody in {allowed_signers}: {_reason(found)}")
    verified = _ssh_keygen(
        "-Y", "verify", "-f", allowed, "-I", signer, "-n", NAMESPACE, "-s", signature, standard_input=sums
    )
    if verified.returncode:
        raise BrokenBundle(f"{bundle}: the signature does not hold: {_reason(verified)}")
    listed = _parse(sums.decode("utf-8", "replace"), bundle)
    present = set(_files(bundle))
    for name in sorted(listed.keys() - present):
        raise BrokenBundle(f"{bundle / name}: signed, and no longer there")
    for name in sorted(present - listed.keys()):
        raise BrokenBundle(f"{bundle / name}: not among the signed files")
    for name, digest in listed.items():
        if _digest(bundle / name) != digest:
            raise BrokenBundle(f"{bundle / name}: changed after it was signed")
    return signer


def _files(bundle: Path) -> list[str]:
    """Every file's path inside the bundle, sorted; links are refused, because they could lead out of it."""
    names = []
    for path in sorted(bundle.rglob("*")):
        if path.is_symlink():
            raise BrokenBundle(f"{path}: a bundle holds no links")
        if path.is_file() and path.name not in {SUMS, SIGNATURE}:
            names.append(path.relative_to(bundle).as_posix())
    if any("\n" in name or "\\" in name for name in names):
        raise BrokenBundle(f"{bundle}: file names with line breaks or backslashes cannot be listed")
    return names


def _parse(sums: str, bundle: Path) -> dict[str, str]:
    listed = {}
    for line in sums.splitlines():
        digest, _, name = line.partition("  ")
        if not name or name in listed or ".." in Path(name).parts or Path(name).is_absolute():
            raise BrokenBundle(f"{bundle / SUMS}: not a list of checksums: {line[:80]!r}")
        listed[name] = digest
    return listed


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _ssh_keygen(*arguments: str, standard_input: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(["ssh-keygen", *arguments], input=standard_input, capture_output=True, check=False)
    except FileNotFoundError:
        raise BrokenBundle("ssh-keygen is not installed (package openssh-client)") from None


def _reason(done: subprocess.CompletedProcess[bytes]) -> str:
    lines = (done.stderr or done.stdout).decode("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else f"ssh-keygen ended with {done.returncode}"

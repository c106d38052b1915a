"""Fetching into the model store, from a hub on the loopback address and from a directory."""

import errno
import hashlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sizing.errors import SizingError
from sizing.fetch import fetch
from sizing.hub import Hub
from sizing.model_store import read_manifest, stored_revision
from tests.command_line import Answer, llm_size
from tests.fakes.hub import COMMIT, NEXT_COMMIT, FakeHub, running

WEIGHTS = bytes(range(256)) * 100_000
PIECE_BYTES = 10 * 1024 * 1024
"""What reaches the disk at once (huggingface_hub 2.4.0, DOWNLOAD_CHUNK_SIZE)."""
WANTED_FILES = {
    "config.json": b'{"model_type": "qwen3"}',
    "model.safetensors": WEIGHTS,
    "tokenizer.json": b"{}",
    "chat_template.jinja": b"{{ messages }}",
}
OTHER_FILES = {
    ".gitattributes": b"",
    "README.md": b"# small",
    "consolidated.safetensors": b"the same weights once more",
    "original/consolidated.00.safetensors": b"and once more",
    "pytorch_model.bin": b"pickle",
}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with running(FakeHub(files={**WANTED_FILES, **OTHER_FILES})) as hub:
        yield hub


def _options(hub: FakeHub, store: Path) -> list[str]:
    return ["--store", str(store), "--endpoint", hub.url]


def _fetch(hub: FakeHub, store: Path, *arguments: str) -> Answer:
    return llm_size("fetch", *(arguments or ("lab/small",)), *_options(hub, store))


def _files_in(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def test_a_model_arrives_pinned_checksummed_and_without_what_vllm_does_not_load(hub: FakeHub, tmp_path: Path) -> None:
    answer = _fetch(hub, tmp_path)

    directory = tmp_path / "lab--small"
    assert (0, f"{directory}\n") == (answer.returncode, answer.stdout), answer.stderr
    assert {**WANTED_FILES, "REVISION": f"{COMMIT}\n".encode()} == {
        name: content for name, content in _files_in(directory).items() if name != "MANIFEST.sha256"
    }
    assert COMMIT == stored_revision(directory)
    checked = subprocess.run(["sha256sum", "--check", "--quiet", "MANIFEST.sha256"], cwd=directory, check=False)
    assert 0 == checked.returncode
    assert ["lab--small"] == [path.name for path in tmp_path.iterdir()]


def test_the_second_fetch_changes_nothing_and_needs_no_hub_when_the_commit_is_named(
    hub: FakeHub, tmp_path: Path
) -> None:
    _fetch(hub, tmp_path)
    before = (tmp_path / "lab--small" / "MANIFEST.sha256").stat().st_mtime_ns
    downloads = {name: len(ranges) for name, ranges in hub.ranges.items()}

    again = _fetch(hub, tmp_path)
    hub.url = "http://127.0.0.1:9"
    offline = _fetch(hub, tmp_path, "lab/small", "--revision", COMMIT)

    assert (0, 0) == (again.returncode, offline.returncode)
    assert f"unchanged: lab/small at commit {COMMIT}" in again.stderr
    assert downloads == {name: len(ranges) for name, ranges in hub.ranges.items()}
    assert before == (tmp_path / "lab--small" / "MANIFEST.sha256").stat().st_mtime_ns


def test_a_connection_cut_in_the_middle_is_continued_where_it_broke(hub: FakeHub, tmp_path: Path) -> None:
    hub.cut = {"model.safetensors": [PIECE_BYTES + 2_000_000]}

    answer = _fetch(hub, tmp_path)

    assert 0 == answer.returncode, answer.stderr
    assert ["", f"bytes={PIECE_BYTES}-"] == hub.ranges["model.safetensors"]
    assert WEIGHTS == (tmp_path / "lab--small" / "model.safetensors").read_bytes()


def test_a_killed_fetch_leaves_no_complete_directory_and_the_next_one_continues_it(
    hub: FakeHub, tmp_path: Path
) -> None:
    hub.stalled = {"model.safetensors": 2 * PIECE_BYTES + 3_000_000}
    command = [sys.executable, "-m", "sizing", "fetch", "lab/small", *_options(hub, tmp_path)]
    first = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    assert hub.silence.wait(timeout=60)
    part = tmp_path / ".lab--small.partial" / "model.safetensors.part"
    _wait_for_bytes(part, PIECE_BYTES)
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert not (tmp_path / "lab--small").exists()
    present_bytes = part.stat().st_size
    hub.stalled = {}

    answer = _fetch(hub, tmp_path)

    assert 0 == answer.returncode, answer.stderr
    assert f"bytes={present_bytes}-" == hub.ranges["model.safetensors"][-1]
    assert hashlib.sha256(WEIGHTS).hexdigest() == (read_manifest(tmp_path / "lab--small") or {})["model.safetensors"]


def _wait_for_bytes(path: Path, length_bytes: int) -> None:
    deadline = time.monotonic() + 60
    while not path.exists() or path.stat().st_size < length_bytes:
        assert time.monotonic() < deadline, "nothing arrived"
        time.sleep(0.05)


def test_content_that_is_not_what_the_hub_promised_is_refused_and_fetched_anew(hub: FakeHub, tmp_path: Path) -> None:
    hub.wrong = {"model.safetensors"}
    spoiled = _fetch(hub, tmp_path)
    hub.wrong = set()

    good = _fetch(hub, tmp_path)

    assert 2 == spoiled.returncode
    assert "model.safetensors does not have the checksum" in spoiled.stderr.splitlines()[-1]
    assert 0 == good.returncode, good.stderr
    assert WEIGHTS == (tmp_path / "lab--small" / "model.safetensors").read_bytes()


def test_a_new_commit_replaces_the_old_one_whole(hub: FakeHub, tmp_path: Path) -> None:
    _fetch(hub, tmp_path)
    hub.commit = NEXT_COMMIT
    del hub.files["chat_template.jinja"]

    answer = _fetch(hub, tmp_path, "lab/small", "--revision", "v1")

    directory = tmp_path / "lab--small"
    assert 0 == answer.returncode, answer.stderr
    assert NEXT_COMMIT == stored_revision(directory)
    assert not (directory / "chat_template.jinja").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("lab/unknown",), "has no model lab/unknown"),
        (("lab/gated",), "lab/gated is gated: accept its terms"),
        (("lab/small", "--revision", "v9"), "lab/small has no revision v9"),
        (("not a model",), "is not the name of a model"),
    ],
)
def test_what_the_hub_does_not_give_is_one_line(
    hub: FakeHub, tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    answer = _fetch(hub, tmp_path, *arguments)

    assert (2, "", 1) == (answer.returncode, answer.stdout, answer.stderr.count("\n")), answer.stderr
    assert words in answer.stderr


def test_a_hub_that_cannot_be_reached_is_one_line(tmp_path: Path) -> None:
    answer = _fetch(FakeHub(files={}, url="http://127.0.0.1:9"), tmp_path)

    assert (2, 1) == (answer.returncode, answer.stderr.count("\n")), answer.stderr
    assert "cannot reach http://127.0.0.1:9" in answer.stderr


def test_the_token_comes_from_the_environment_and_nothing_else(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _fetch(hub, tmp_path / "without")
    assert {""} == hub.tokens

    monkeypatch.setenv("HF_TOKEN", "hf_generated_for_this_test")
    answer = _fetch(hub, tmp_path / "with")

    assert "Bearer hf_generated_for_this_test" in hub.tokens
    assert "hf_generated" not in answer.stdout + answer.stderr


def test_a_model_that_needs_more_room_than_there_is_says_so_before_it_starts(hub: FakeHub, tmp_path: Path) -> None:
    hub.tree = lambda: [  # type: ignore[method-assign]
        {"type": "file", "path": "model.safetensors", "size": 10**17, "oid": "0" * 40}
    ]

    answer = _fetch(hub, tmp_path)

    assert 2 == answer.returncode
    assert "lab/small needs 93132257.46 GiB more" in answer.stderr
    assert {} == hub.ranges


class _FullDisk(Hub):
    def download(self, *_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "model.safetensors.part")


class _NoTalk:
    def begin(self, total_bytes: int, file_count: int) -> None:
        """Nobody listens."""

    def advance(self, count_bytes: int) -> None:
        """Nobody listens."""

    def finished(self, path: str, length_bytes: int) -> None:
        """Nobody listens."""


def test_a_disk_that_fills_up_on_the_way_is_one_error_that_says_it_resumes(hub: FakeHub, tmp_path: Path) -> None:
    with pytest.raises(SizingError, match="is full; make room and run again, it resumes"):
        fetch("lab/small", revision=None, store=tmp_path, hub=_FullDisk(endpoint=hub.url), listener=_NoTalk())


def test_a_directory_is_adopted_once_with_links_followed_and_hidden_files_left_out(tmp_path: Path) -> None:
    source, store = tmp_path / "tuned", tmp_path / "store"
    source.mkdir()
    (source / "config.json").write_text("{}")
    (tmp_path / "blob").write_bytes(b"weights")
    (source / "model.safetensors").symlink_to(tmp_path / "blob")
    (source / ".git").mkdir()
    (source / ".git" / "HEAD").write_text("x")

    first = llm_size("fetch", "--from-directory", str(source), "tuned", "--store", str(store))
    second = llm_size("fetch", "--from-directory", str(source), "tuned", "--store", str(store))

    assert (0, 0) == (first.returncode, second.returncode), first.stderr + second.stderr
    assert {"config.json", "model.safetensors", "MANIFEST.sha256"} == set(_files_in(store / "tuned"))
    assert not (store / "tuned" / "model.safetensors").is_symlink()
    assert "unchanged: tuned" in second.stderr


def test_a_directory_that_is_no_model_is_refused(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "sizing",
        "fetch",
        "--from-directory",
        str(tmp_path),
        "x",
        "--store",
        str(tmp_path),
    ]

    answer = subprocess.run(command, capture_output=True, text=True, check=False)

    assert (2, 1) == (answer.returncode, answer.stderr.count("\n"))
    assert "no config.json in it" in answer.stderr

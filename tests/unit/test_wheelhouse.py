"""A wheelhouse holds the wheels of one lock, each with a hash that the lock names, and says when it is complete."""

import hashlib
import zipfile
from pathlib import Path

import pytest

from tools import wheelhouse


def _wheel(folder: Path, name: str, text: str = "") -> str:
    """A real, tiny wheel; returns its sha256."""
    info = f"{name}-1.0.dist-info"
    path = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}.py", text)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip is configured to look in, and nothing else; the cache is empty."""
    folder = tmp_path / "source"
    folder.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("LLM_APPLIANCE_CACHE", str(tmp_path / "cache"))
    return folder


def _lock(tmp_path: Path, **hashes: str) -> Path:
    lock = tmp_path / "requirements-demo.txt"
    lock.write_text("# made by hand\n" + "".join(f"{n}==1.0 \\\n    --hash=sha256:{h}\n" for n, h in hashes.items()))
    return lock


def test_a_lock_is_read_with_all_its_hashes(tmp_path: Path) -> None:
    lock = tmp_path / "requirements-demo.txt"
    lock.write_text(f"a-b[x]==1.0+cpu \\\n    --hash=sha256:{'1' * 64} \\\n    --hash=sha256:{'2' * 64}\n    # via c\n")

    pins = wheelhouse.read_lock(lock)

    assert [("a-b", "1.0+cpu", {"1" * 64, "2" * 64})] == [(pin.name, pin.version, set(pin.hashes)) for pin in pins]


def test_a_built_wheelhouse_holds_the_wheels_and_is_marked_complete(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lock = _lock(tmp_path, one=_wheel(source, "one"), two=_wheel(source, "two"))

    assert 0 == wheelhouse.main(["build", str(lock)])

    folder = Path(capsys.readouterr().out.strip())
    assert tmp_path / "cache" / "wheelhouse" == folder.parent
    assert f"demo-{hashlib.sha256(lock.read_bytes()).hexdigest()[:12]}" == folder.name
    assert {".complete", "one-1.0-py3-none-any.whl", "two-1.0-py3-none-any.whl"} == {p.name for p in folder.iterdir()}


def test_an_interrupted_build_keeps_what_is_right_and_replaces_what_is_not(source: Path, tmp_path: Path) -> None:
    lock = _lock(tmp_path, one=_wheel(source, "one"), two=_wheel(source, "two"))
    folder = wheelhouse.wheelhouse_path(lock)
    folder.mkdir(parents=True)
    kept = folder / "one-1.0-py3-none-any.whl"
    kept.write_bytes((source / kept.name).read_bytes())
    (source / kept.name).unlink()  # it cannot be fetched again
    (folder / "two-1.0-py3-none-any.whl").write_bytes(b"half of it")
    (folder / "stranger-1.0-py3-none-any.whl").write_bytes(b"")

    wheelhouse.build(lock)

    assert {".complete", "one-1.0-py3-none-any.whl", "two-1.0-py3-none-any.whl"} == {p.name for p in folder.iterdir()}
    assert (source / "two-1.0-py3-none-any.whl").read_bytes() == (folder / "two-1.0-py3-none-any.whl").read_bytes()


def test_a_wheel_with_another_hash_is_refused_in_one_line(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _wheel(source, "one", text="tampered = True")
    lock = _lock(tmp_path, one="0" * 64)

    assert 1 == wheelhouse.main(["build", str(lock)])

    said = capsys.readouterr()
    assert "" == said.out
    assert said.err.splitlines()[-1].startswith("wheelhouse: ERROR: ")
    assert not (wheelhouse.wheelhouse_path(lock) / ".complete").exists()


def test_the_path_of_an_incomplete_wheelhouse_is_printed_with_exit_code_one(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lock = _lock(tmp_path, one=_wheel(source, "one"))

    assert 1 == wheelhouse.main(["path", str(lock)])
    wheelhouse.build(lock)
    assert 0 == wheelhouse.main(["path", str(lock)])

    assert [str(wheelhouse.wheelhouse_path(lock))] * 2 == capsys.readouterr().out.split()

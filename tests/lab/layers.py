"""Saved overlay layers: what was installed once in a host, given to later hosts ready-made.

A layer is complete or absent: it is copied beside its place and renamed. Files are hard-linked where the cache is on
the same file system; a host that writes such a file later gets its own copy, because the layer is below it then.
"""

import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from . import places
from .errors import LabError, UsageError
from .spec import layer_name


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One saved layer."""

    name: str
    path: str
    saved_at: str


def saved() -> list[Layer]:
    """Every complete layer of this cache."""
    directory = places.layers_dir()
    if not directory.is_dir():
        return []
    complete = sorted(path for path in directory.iterdir() if path.suffix != ".unfinished")
    return [Layer(name=path.name, path=str(path), saved_at=_saved_at(path)) for path in complete]


def _saved_at(path: Path) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(path.stat().st_ctime))


def find(name: str) -> Path:
    """The directory of a layer, or a line that says how to make it."""
    path = places.layers_dir() / layer_name(name)
    if not path.is_dir():
        raise LabError(f"there is no layer '{name}'; `tests/lab/lab layers` lists them, `save-layer` makes them")
    return path


def save(upper: Path, host: str, name: str, paths: list[str]) -> None:
    """Copy what a host wrote below these paths into the cache."""
    finished = places.layers_dir() / layer_name(name)
    if finished.is_dir():
        print(f"lab: layer {name} is there already", file=sys.stderr)
        return
    relative = [_inside(upper, host, path) for path in paths]
    unfinished = finished.with_name(f"{name}.{os.getpid()}.unfinished")
    unfinished.mkdir(parents=True, mode=0o755)
    try:
        # --parents keeps owner and mode of the directories above, which become those of the merged ones.
        _copy(["--link"], upper, relative, unfinished)
        unfinished.rename(finished)
    except OSError as error:
        raise LabError(f"layer {name}: {error.strerror}") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _inside(upper: Path, host: str, path: str) -> str:
    relative = path.strip("/")
    if not path.startswith("/") or not relative or ".." in Path(relative).parts:
        raise UsageError(f"'{path}' is not an absolute path inside the host")
    if not os.path.lexists(upper / relative):
        raise LabError(f"{host} has written nothing at {path} since it was made, so there is nothing to save")
    return relative


def _copy(how: list[str], upper: Path, relative: list[str], target: Path) -> None:
    argv = ["cp", "--archive", "--parents", *how, "--", *relative, str(target)]
    done = subprocess.run(argv, cwd=upper, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return
    said = (done.stderr.strip().splitlines() or ["cp failed"])[-1]
    if how == ["--link"] and "cross-device" in said.lower():
        _copy(["--reflink=auto"], upper, relative, target)
    else:
        raise LabError(f"layer {target.name.split('.')[0]}: {said}")

"""Drained: which replicas an operator has taken out, on disk, so that a relay that restarts sends them nothing either.

One small JSON file, replaced whole: {"schema_version": 1, "drained": [ids]}. A relay and its stand-in share it, and
each looks whether the other was told something. A file that cannot be written costs the memory of an order, not the
order; one that cannot be read counts as if nobody were drained, which a stopped engine itself puts right.
"""

import json
import os
import tempfile
from collections.abc import Collection
from pathlib import Path

from relay.fault_log import log

SCHEMA_VERSION = 1
Version = tuple[int, int]  # inode and time of the last change: another file has another one


class Drained:
    """The file; without a path nothing is kept."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._seen: Version | None = None

    def news(self) -> frozenset[str] | None:
        """Who is drained, if the file is another one than this process wrote or read last; else None."""
        version = self._version()
        if self._path is None or version == self._seen:
            return None
        self._seen = version
        if version is None:
            return frozenset()
        try:
            content = json.loads(self._path.read_text(encoding="utf-8"))
            return frozenset(map(str, content["drained"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            log("drained_unreadable", path=str(self._path), error=repr(error))
            return frozenset()

    def keep(self, ids: Collection[str]) -> bool:
        """Whether they are on the disk now, through a crash of this process and of the machine."""
        if self._path is None:
            return False
        temporary: str | None = None
        try:
            descriptor, temporary = tempfile.mkstemp(dir=self._path.parent, prefix=f".{self._path.name}.")
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump({"schema_version": SCHEMA_VERSION, "drained": sorted(ids)}, file)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).replace(self._path)
            temporary = None
            directory = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        except OSError as error:
            log("drained_not_kept", path=str(self._path), error=repr(error))
            return False
        finally:
            if temporary is not None:
                Path(temporary).unlink(missing_ok=True)
        self._seen = self._version()
        return True

    def _version(self) -> Version | None:
        try:
            found = self._path.stat() if self._path is not None else None
        except OSError:
            return None
        return None if found is None else (found.st_ino, found.st_mtime_ns)

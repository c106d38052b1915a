"""A disk that is full, for those who write ledgers."""

import errno
import os

import pytest


class SickDisk:
    """os.write and os.fdatasync of a disk that is full."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.full = False
        real_write = os.write

        def write(descriptor: int, content: bytes) -> int:
            if not self.full:
                return real_write(descriptor, content)
            if len(content) > 20:  # as a real one does: a part, then nothing
                return real_write(descriptor, content[:20])
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr("relay.ledger_writer.os.write", write)

"""Safetensors headers: how many weights a model directory really holds, read without loading one.

A file begins with eight bytes (little-endian length of the header) and a JSON header that gives dtype, shape and byte
range of every tensor. A file whose length disagrees with its header was cut short.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path

from sizing.errors import DocumentError

LENGTH_BYTES = 8
LARGEST_HEADER_BYTES = 100_000_000
"""The format's own limit."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """The weights of a directory: bytes on disk, and how many numbers they are (scales of quantised ones left out)."""

    weight_bytes: int
    element_count: int
    file_count: int


def read_checkpoint(directory: Path) -> Checkpoint | None:
    """The sum over every .safetensors file of a directory; None if it holds none."""
    paths = sorted(directory.glob("*.safetensors"))
    if not paths:
        return None
    sums = [_read_file(path) for path in paths]
    return Checkpoint(
        weight_bytes=sum(weight_bytes for weight_bytes, _ in sums),
        element_count=sum(element_count for _, element_count in sums),
        file_count=len(paths),
    )


def _read_file(path: Path) -> tuple[int, int]:
    file_bytes = path.stat().st_size
    with path.open("rb") as file:
        header_bytes = int.from_bytes(file.read(LENGTH_BYTES), "little")
        if file_bytes < LENGTH_BYTES or not 0 < header_bytes <= min(file_bytes, LARGEST_HEADER_BYTES):
            raise _damaged(path, f"{file_bytes} bytes cannot hold its header")
        try:
            header = json.loads(file.read(header_bytes))
            tensors = [tensor for name, tensor in header.items() if name != "__metadata__"]
            weight_bytes = max((tensor["data_offsets"][1] for tensor in tensors), default=0)
            elements = sum(math.prod(tensor["shape"]) for name, tensor in header.items() if _holds_weights(name))
        except (ValueError, AttributeError, KeyError, TypeError, IndexError):
            raise _damaged(path, "its header is not a safetensors header") from None
    expected_bytes = LENGTH_BYTES + header_bytes + weight_bytes
    if file_bytes != expected_bytes:
        raise _damaged(path, f"{file_bytes} bytes, its header promises {expected_bytes}")
    return weight_bytes, elements


def _holds_weights(name: str) -> bool:
    return name != "__metadata__" and not name.endswith(("_scale_inv", "_scale"))


def _damaged(path: Path, what: str) -> DocumentError:
    return DocumentError(f"{path}: damaged or cut short ({what}); copy it again")

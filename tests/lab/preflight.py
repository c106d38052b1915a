"""Whether a lab can run here, said in one line before anything is touched."""

import os
import shutil
import sys
from pathlib import Path

from . import places
from .errors import CannotRunHere, LabError

_TOOLS = ("mmdebstrap", "ip", "nft", "ssh", "ssh-keygen", "nsenter", "unshare", "setpriv", "apt-config")
_ELSEWHERE = "what works here without it: `make test` (skips the lab tier) and `llm-size`"
_GIB = 1024**3


def packages_in(file_name: str) -> list[str]:
    """The packages of one of the lists beside this file."""
    lines = (places.LAB_DIR / file_name).read_text().splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def refuse_elsewhere() -> None:
    """Stop on a machine or for a user that cannot have a lab."""
    if sys.platform != "linux":
        raise CannotRunHere(f"the lab needs Linux, this is {sys.platform}; {_ELSEWHERE}")
    if os.geteuid() != 0:
        raise CannotRunHere(f"the lab needs root, to boot real hosts; {_ELSEWHERE}")


def require_tools() -> None:
    """Stop when a program is missing, and say how to get it."""
    search = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    missing = [tool for tool in _TOOLS if shutil.which(tool, path=search) is None]
    if missing:
        packages = " ".join(packages_in("host-packages.txt"))
        raise LabError(f"missing: {', '.join(missing)}; install with: apt-get install -y {packages}")


def require_space(directory: Path, *, free_bytes: int) -> None:
    """Stop before a disk fills half-way."""
    directory.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(directory).free
    if free < free_bytes:
        have, need = free / _GIB, free_bytes / _GIB
        advice = "free some, or put LLM_APPLIANCE_CACHE and LLM_APPLIANCE_LAB_STATE on another disk"
        raise LabError(f"{directory} has {have:.1f} GiB free, this needs {need:.1f} GiB; {advice}")

"""The lab's own background processes, started by the lab itself and by nobody else."""

from collections.abc import Sequence
from pathlib import Path


def main(argv: Sequence[str]) -> None:
    """Become labd, the proxy or a forward."""
    role, *arguments = argv
    if role == "labd":
        from . import daemon

        daemon.main(Path(arguments[0]))
    elif role == "proxy":
        from . import proxy

        proxy.main(int(arguments[0]), Path(arguments[1]))
    elif role == "forward":
        from . import forward

        forward.main(int(arguments[0]), arguments[1], int(arguments[2]))

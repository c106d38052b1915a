"""Runs every test that needs no GPU: linters, the required tier, and the lab tier where this machine can boot hosts.

Without root (or off Linux) the lab tier is skipped, and the last lines say so.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent


def main() -> int:
    lab_reason = why_no_lab()
    stages = [
        ("lint", ["make", "--no-print-directory", "lint"]),
        ("required tier", [str(BIN / "python"), "-m", "pytest", "-q", "-m", "not lab and not live"]),
    ]
    if lab_reason is None:
        stages.insert(0, ("lab machine", [str(BIN / "python"), "-m", "tools.lab_machine"]))
        stages.append(("lab tier", [str(BIN / "python"), "-m", "pytest", "-q", "-m", "lab"]))
    spent = []
    for name, command in stages:
        print(f"\n== {name}", flush=True)
        begun = time.monotonic()
        exit_code = subprocess.run(command, cwd=REPOSITORY, check=False).returncode
        spent.append(f"{name} {time.monotonic() - begun:.0f} s")
        if exit_code != 0:
            print(f"\ntests: {name} failed ({', '.join(spent)})", file=sys.stderr)
            return 1
    print(f"\ntests: all passed ({', '.join(spent)})")
    if lab_reason is not None:
        print(f"tests: the lab tier was skipped: {lab_reason}")
    return 0


def why_no_lab() -> str | None:
    """The reason why this machine cannot boot lab hosts, or None."""
    if not sys.platform.startswith("linux"):
        return f"it needs Linux, this is {sys.platform}"
    if os.geteuid() != 0:
        return "it needs root (network namespaces, mounts, cgroups)"
    return None


if __name__ == "__main__":
    sys.exit(main())

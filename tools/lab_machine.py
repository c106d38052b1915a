"""Prepares this machine for the lab: installs the Debian packages that are missing (tests/lab/host-packages.txt)."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

CREATE_CLUSTER_FILE = Path("/etc/postgresql-common/createcluster.conf")
PACKAGES_FILE = Path(__file__).resolve().parent.parent / "tests" / "lab" / "host-packages.txt"


def main() -> int:
    missing = [package for package in wanted_packages() if not is_installed(package)]
    if "npm" in missing and shutil.which("npm"):
        missing.remove("npm")  # Node.js from another source brings its own npm
    if "nodejs" in missing and shutil.which("node"):
        missing.remove("nodejs")
    if not missing:
        return 0
    if os.geteuid() != 0:
        print(f"lab: run as root: apt-get install {' '.join(missing)}", file=sys.stderr)
        return 2
    print(f"lab: installing {', '.join(missing)}", flush=True)
    if "postgresql" in missing:
        keep_postgresql_idle()
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (
        ["apt-get", "update", "-qq"],
        ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing],
    ):
        if subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=False).returncode != 0:
            print(f"lab: {' '.join(command)} failed", file=sys.stderr)
            return 2
    return 0


def keep_postgresql_idle() -> None:
    """Tests start PostgreSQL clusters of their own; Debian's default one would take port 5432 of this machine."""
    if not CREATE_CLUSTER_FILE.exists():
        CREATE_CLUSTER_FILE.parent.mkdir(parents=True, exist_ok=True)
        CREATE_CLUSTER_FILE.write_text("create_main_cluster = false\n", encoding="utf-8")


def wanted_packages() -> list[str]:
    lines = PACKAGES_FILE.read_text(encoding="utf-8").splitlines()
    return [line.split("#")[0].strip() for line in lines if line.split("#")[0].strip()]


def is_installed(package: str) -> bool:
    answer = subprocess.run(
        ["dpkg-query", "--show", "--showformat=${db:Status-Status}", package],
        capture_output=True,
        text=True,
        check=False,
    )
    return answer.stdout == "installed"


if __name__ == "__main__":
    sys.exit(main())

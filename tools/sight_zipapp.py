"""Packs the exporters into one file that Debian's own Python runs: `python -m tools.sight_zipapp PATH`.

In it: the package `sight`, what it reads ledgers with, and nvidia-ml-py's one module. Equal sources give an equal file.
"""

import sys
import zipfile
from pathlib import Path

import pynvml

REPOSITORY = Path(__file__).resolve().parent.parent
READER = ("relay/__init__.py", "relay/ledger_lines.py", "relay/ledger_reader.py")
MAIN = "import sys\n\nfrom sight.__main__ import main\n\nsys.exit(main())\n"
DATE = (1980, 1, 1, 0, 0, 0)
ARGUMENT_COUNT = 2


def write(path: Path) -> bool:
    """False when it is there already."""
    names = [*READER, *(str(one.relative_to(REPOSITORY)) for one in sorted((REPOSITORY / "sight").glob("*.py")))]
    sources = {name: (REPOSITORY / name).read_bytes() for name in names}
    sources["pynvml.py"] = Path(pynvml.__file__).read_bytes()
    sources["__main__.py"] = MAIN.encode()
    fresh = path.with_name(path.name + ".new")
    path.parent.mkdir(parents=True, exist_ok=True)
    with fresh.open("wb") as stream:
        stream.write(b"#!/usr/bin/python3\n")
        with zipfile.ZipFile(stream, "w") as archive:
            for name, source in sorted(sources.items()):
                archive.writestr(zipfile.ZipInfo(name, date_time=DATE), source, zipfile.ZIP_DEFLATED)
    fresh.chmod(0o755)
    if path.exists() and path.read_bytes() == fresh.read_bytes():
        fresh.unlink()
        return False
    fresh.replace(path)
    return True


def main() -> int:
    if len(sys.argv) != ARGUMENT_COUNT:
        print("usage: python -m tools.sight_zipapp PATH", file=sys.stderr)
        return 2
    path = Path(sys.argv[1])
    print(f"sight: {'wrote' if write(path) else 'kept'} {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

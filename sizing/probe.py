"""Probe: the hardware document of this host, of a measurement taken elsewhere, and the zipapp that takes it there."""

import json
import zipfile
from pathlib import Path

from sizing import measure
from sizing.errors import DocumentError
from sizing.hardware import Hardware

ZIPAPP_MAIN = "import sys\n\nfrom sizing.measure import main\n\nsys.exit(main())\n"
ZIPAPP_MODULES = ("__init__.py", "errors.py", "measure.py", "measure_gpus.py")
ZIPAPP_DATE = (1980, 1, 1, 0, 0, 0)
"""One fixed date, so that equal sources give an equal file."""


def probe(*, host: str, accelerator: str) -> tuple[Hardware, tuple[str, ...]]:
    """This host, and notes for the person who reads along; raises NoDriver, DriverNotLoaded or NoGpu."""
    measured, notes = measure.measure(host=host, accelerator=accelerator)
    return Hardware.parse(measured, origin="probe of this host"), tuple(notes)


def hardware_from_measurement(text: str, *, origin: str) -> Hardware:
    """The hardware document in what the zipapp printed on another host, whatever a login shell printed around it."""
    try:
        content = json.loads(text[max(0, text.find("{")) : text.rfind("}") + 1])
    except json.JSONDecodeError as error:
        raise DocumentError(f"{origin}: not the JSON of a probe: {error.msg}") from None
    if isinstance(content, dict) and "error" in content:
        raise DocumentError(f"{origin}: {content['error']}")
    if isinstance(content, dict) and "hardware" in content:
        content = content["hardware"]
    return Hardware.parse(content, origin=origin)


def without_present_use(hardware: Hardware) -> Hardware:
    """The same hardware with no memory in use: what belongs in a file that should change only when the host does."""
    idle = tuple(gpu.model_copy(update={"memory_used_bytes": 0, "processes": ()}) for gpu in hardware.gpus)
    return hardware.model_copy(update={"gpus": idle})


def write_zipapp(path: Path) -> bool:
    """Packs the measuring part and pynvml into one file that any Python 3.9 runs; False when it is there already."""
    import pynvml  # noqa: PLC0415  only its source is needed, and only here

    package = Path(measure.__file__).parent
    sources = {f"sizing/{name}": (package / name).read_bytes() for name in ZIPAPP_MODULES}
    sources["pynvml.py"] = Path(pynvml.__file__).read_bytes()
    sources["__main__.py"] = ZIPAPP_MAIN.encode()
    fresh = path.with_name(path.name + ".new")
    path.parent.mkdir(parents=True, exist_ok=True)
    with fresh.open("wb") as stream:
        stream.write(b"#!/usr/bin/env python3\n")
        with zipfile.ZipFile(stream, "w") as archive:
            for name, source in sorted(sources.items()):
                archive.writestr(zipfile.ZipInfo(name, date_time=ZIPAPP_DATE), source, zipfile.ZIP_DEFLATED)
    fresh.chmod(0o755)
    if path.exists() and path.read_bytes() == fresh.read_bytes():
        fresh.unlink()
        return False
    fresh.replace(path)
    return True

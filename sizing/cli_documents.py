"""The verbs that make documents: probe, schema."""

import socket
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from sizing.cli_console import answer, say
from sizing.errors import DocumentError, SizingError
from sizing.hardware import Hardware
from sizing.probe import hardware_from_measurement, probe, without_present_use, write_zipapp
from sizing.schema import documents, schema_text, write_schemas
from sizing.units import gib_text


def register(app: typer.Typer) -> None:
    """Adds the verbs of this module."""
    app.command("probe", epilog=PROBE_EXAMPLES, short_help="Measure this host: GPUs, CPU, memory.")(probe_command)
    app.command("schema", epilog=SCHEMA_EXAMPLES, short_help="JSON Schemas of the documents.")(schema_command)


PROBE_EXAMPLES = """\b
Examples:
  llm-size probe > hardware.json
  llm-size probe --accelerator cpu
  llm-size probe --zipapp probe.pyz && scp probe.pyz gpu-1: && ssh gpu-1 python3 probe.pyz
"""


def probe_command(
    accelerator: Annotated[
        Literal["auto", "cpu", "cuda"],
        typer.Option(help="auto: GPUs, or the CPU when no NVIDIA driver is installed; a broken driver stays an error."),
    ] = "auto",
    host: Annotated[str | None, typer.Option(metavar="NAME", help="Name of this host in the inventory.")] = None,
    measurement: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Read what probe.pyz printed on another host (- is stdin).")
    ] = None,
    host_vars: Annotated[
        bool,
        typer.Option(
            "--host-vars", help="Print the content of host_vars/<host>/hardware.json (memory in use left out)."
        ),
    ] = False,
    zipapp: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Only write probe.pyz, which needs nothing but Python.")
    ] = None,
) -> None:
    """Measure this host (GPUs through NVML, CPU, memory) and print its hardware document as JSON."""
    if zipapp is not None:
        say(f"wrote {zipapp}" if write_zipapp(zipapp) else f"unchanged {zipapp}")
        return
    if measurement is not None:
        hardware = hardware_from_measurement(_read(measurement), origin=str(measurement))
        if host is not None and hardware.host != host:
            raise DocumentError(f"{measurement}: measured on {hardware.host}, not on {host}")
    else:
        hardware, notes = probe(host=host or socket.gethostname(), accelerator=accelerator)
        for note in notes:
            say(f"note: {note}")
        say(_summary(hardware))
    answer(without_present_use(hardware).to_host_vars() if host_vars else hardware.to_json())


def _read(path: Path) -> str:
    try:
        return sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8")
    except OSError as error:
        raise SizingError(f"{path}: {error.strerror}") from None


def _summary(hardware: Hardware) -> str:
    text = f"{hardware.host}: {len(hardware.cpu.cores)} cores, {gib_text(hardware.memory_total_bytes)} of memory"
    names = sorted({(gpu.name, gpu.memory_usable_bytes) for gpu in hardware.gpus})
    for name, usable_bytes in names:
        count = sum((gpu.name, gpu.memory_usable_bytes) == (name, usable_bytes) for gpu in hardware.gpus)
        text += f", {count} x {name} with {gib_text(usable_bytes)} usable"
    return text


SCHEMA_EXAMPLES = """\b
Examples:
  llm-size schema plan
  llm-size schema --write docs/schema
"""


def schema_command(
    document: Annotated[str | None, typer.Argument(metavar="[DOCUMENT]", help="One of: " + ", ".join(documents()))] = (
        None
    ),
    write: Annotated[
        Path | None, typer.Option("--write", metavar="DIRECTORY", help="Write all schemas as <document>.schema.json.")
    ] = None,
) -> None:
    """Print or write the JSON Schemas of the documents."""
    if write is not None:
        touched = write_schemas(write)
        for path in touched:
            say(f"wrote {path}" if path.exists() else f"removed {path}")
        if not touched:
            say(f"unchanged {write}")
        return
    if document is None:
        raise typer.BadParameter("name a document or give --write DIRECTORY")
    if document not in documents():
        raise typer.BadParameter(f"no document {document!r}; there are {', '.join(documents())}")
    answer(schema_text(documents()[document]))

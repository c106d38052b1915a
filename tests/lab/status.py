"""How `status` says what is up: for a person and for a program."""

import json
from dataclasses import asdict
from pathlib import Path

from . import control


def as_json(state: Path) -> str:
    """One document; `up` says whether there is a lab at all."""
    if control.labd_pid(state) is None:
        return json.dumps({"up": False, "state_directory": str(state), "hosts": [], "partitions": [], "forwards": []})
    return json.dumps({"up": True, "state_directory": str(state), **asdict(control.lab_state(state))})


def as_text(state: Path) -> str:
    """A few lines."""
    if control.labd_pid(state) is None:
        return f"down ({state})"
    lab = control.lab_state(state)
    lines = [f"up ({state})"]
    for host in lab.hosts:
        power = "on" if host.running else f"off, {host.last_end}"
        lines.append(f"{host.name}  {host.address}  {power}{', cable cut' if host.cut else ''}")
    lines += [f"{one} and {other} do not see each other" for one, other in lab.partitions]
    lines += [f"{forward.listen} leads to {forward.target}" for forward in lab.forwards]
    return "\n".join(lines)

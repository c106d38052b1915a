#!/usr/bin/python
# Apache-2.0
"""Reads what the preflight of the vllm role decides on: free disk, listeners on ports, GPUs, an interpreter's version.

It reads and never judges: the role's asserts speak to the operator. Standard library only, so that it runs on a bare
host, and in check mode.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: vllm_host_state
short_description: Read free disk, listening ports, GPUs and a Python version
description: Changes nothing. Used by the preflight of the vllm role.
options:
  ports:
    description: TCP ports whose listeners are returned.
    type: list
    elements: int
    default: []
  disk:
    description: Bytes that each directory takes when it is complete. One that holds a file C(.complete) needs no more.
    type: dict
    default: {}
  gpus:
    description: Whether to ask the NVIDIA driver.
    type: bool
    default: false
  python:
    description: Interpreter whose version is returned.
    type: path
    required: true
author: llm-appliance
"""

EXAMPLES = r"""
- vllm_host_state:
    ports: [8000]
    python: /usr/bin/python3
"""

RETURN = r"""
python_version: {description: Version of the interpreter or an empty string., type: str, returned: always}
filesystems: {description: Each with mountpoint, needed_bytes, free_bytes., type: list, returned: always}
listeners: {description: Each with port, pid, process and unit., type: list, returned: always}
gpus: {description: Each with uuid and memory_total_mib., type: list, returned: always}
gpu_error: {description: What the driver answered instead., type: str, returned: always}
"""

LISTEN = "0A"
SOCKET = "socket:["
UNIT = re.compile(r"/([^/\n]+\.(?:service|scope|socket))")
BLOCK_BYTES = 512


def python_version(interpreter):
    if not os.access(interpreter, os.X_OK):
        return ""
    code = "import sys; print('.'.join(map(str, sys.version_info[:3])))"
    return subprocess.run([interpreter, "-c", code], capture_output=True, text=True, check=False).stdout.strip()


def mountpoint_of(path):
    """Where the path lies, or will lie once it is made."""
    while not path.is_mount():
        path = path.parent
    return path


def present_bytes(folder):
    return sum(path.lstat().st_blocks * BLOCK_BYTES for path in folder.rglob("*"))


def filesystems(disk):
    needed = {}
    for name, complete_bytes in disk.items():
        folder = Path(name)
        mountpoint = mountpoint_of(folder)
        complete = (folder / ".complete").exists()
        missing = 0 if complete else max(0, int(complete_bytes) - present_bytes(folder))
        needed[mountpoint] = needed.get(mountpoint, 0) + missing
    found = []
    for mountpoint, needed_bytes in sorted(needed.items()):
        numbers = os.statvfs(mountpoint)
        free_bytes = numbers.f_bavail * numbers.f_frsize
        found.append({"mountpoint": str(mountpoint), "needed_bytes": needed_bytes, "free_bytes": free_bytes})
    return found


def listening_sockets(ports):
    """Inode to port, from the kernel's own tables."""
    sockets = {}
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        rows = table.read_text().splitlines()[1:] if table.exists() else []
        for fields in map(str.split, rows):
            port = int(fields[1].rpartition(":")[2], 16)
            if fields[3] == LISTEN and port in ports:
                sockets[fields[9]] = port
    return sockets


def owner_of(process):
    """Name and systemd unit of a process, from its control group."""
    units = UNIT.findall((process / "cgroup").read_text())
    return {"pid": int(process.name), "process": (process / "comm").read_text().strip(), "unit": (units or [""])[-1]}


def link_of(entry):
    try:
        return str(entry.readlink())
    except FileNotFoundError:  # closed while we looked
        return ""


def sockets_of(process):
    links = [link_of(entry) for entry in (process / "fd").iterdir()]
    return {link[len(SOCKET) : -1] for link in links if link.startswith(SOCKET)}


def listeners(ports):
    sockets = listening_sockets(ports)
    found = []
    for process in Path("/proc").iterdir() if sockets else ():
        if not process.name.isdigit():
            continue
        try:
            held = sockets_of(process) & set(sockets)
            owner = owner_of(process) if held else {}
        except OSError:  # the process ended while we looked
            continue
        found += [{"port": sockets.pop(inode), **owner} for inode in held]
    found += [{"port": port, "pid": 0, "process": "unknown", "unit": ""} for port in sockets.values()]
    return sorted(found, key=lambda listener: (listener["port"], listener["pid"]))


def gpus():
    """The GPUs as the driver counts them, and its complaint if it gives none."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return [], "nvidia-smi is not installed"
    query = [program, "--query-gpu=uuid,memory.total", "--format=csv,noheader,nounits"]
    done = subprocess.run(query, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        return [], " ".join((done.stdout + done.stderr).split())
    rows = [[cell.strip() for cell in line.split(",")] for line in done.stdout.splitlines() if line.strip()]
    # A GPU that shares the host's memory answers [N/A].
    return [{"uuid": uuid, "memory_total_mib": int(mib) if mib.isdigit() else None} for uuid, mib in rows], ""


def main():
    module = AnsibleModule(
        argument_spec={
            "ports": {"type": "list", "elements": "int", "default": []},
            "disk": {"type": "dict", "default": {}},
            "gpus": {"type": "bool", "default": False},
            "python": {"type": "path", "required": True},
        },
        supports_check_mode=True,
    )
    found, complaint = gpus() if module.params["gpus"] else ([], "")
    module.exit_json(
        changed=False,
        python_version=python_version(module.params["python"]),
        filesystems=filesystems(module.params["disk"]),
        listeners=listeners(set(module.params["ports"])),
        gpus=found,
        gpu_error=complaint,
    )


if __name__ == "__main__":
    main()

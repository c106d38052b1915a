"""What a lab is made of: written once by `up` into lab.json, read by the lab's init and by every later command."""

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path

from .errors import LabError, UsageError

FILE_NAME = "lab.json"
ALL_HOSTS = "all"
WHEELHOUSE = "/srv/wheelhouse"
_LAYER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True, kw_only=True)
class Bind:
    """A directory of the machine that a host sees read-only."""

    source: str
    target: str


@dataclass(frozen=True, kw_only=True)
class HostSpec:
    """One host: its address, its read-only layers (top first, base last) and its bind mounts."""

    name: str
    address: str
    lower: tuple[str, ...]
    binds: tuple[Bind, ...]


@dataclass(frozen=True, kw_only=True)
class LabSpec:
    """The whole lab."""

    hosts: tuple[HostSpec, ...]

    def host(self, name: str) -> HostSpec:
        """The host of that name, or a line that lists the names there are."""
        for host in self.hosts:
            if host.name == name:
                return host
        known = ", ".join(host.name for host in self.hosts)
        raise LabError(f"there is no host '{name}'; this lab has {known}")

    def write(self, state: Path) -> None:
        """Into the state directory."""
        (state / FILE_NAME).write_text(json.dumps(asdict(self), indent=1) + "\n")

    @staticmethod
    def read(state: Path) -> "LabSpec":
        """From the state directory."""
        try:
            document = json.loads((state / FILE_NAME).read_text())
        except FileNotFoundError:
            raise LabError("the lab is down; start it with: tests/lab/lab up 3") from None
        return LabSpec(
            hosts=tuple(
                HostSpec(
                    name=host["name"],
                    address=host["address"],
                    lower=tuple(host["lower"]),
                    binds=tuple(Bind(**bind) for bind in host["binds"]),
                )
                for host in document["hosts"]
            )
        )


def parse_bind(text: str) -> tuple[str, Bind]:
    """HOST=/source:/target, HOST may be `all`."""
    who, equals, paths = text.partition("=")
    source, colon, target = paths.partition(":")
    if not (who and equals and colon and source.startswith("/") and target.startswith("/")):
        raise UsageError(f"--bind '{text}' is not HOST=/absolute/source:/absolute/target")
    if any(character in paths for character in "\t\n"):
        raise UsageError(f"--bind '{text}' holds a tab or a newline")
    if ".." in Path(target).parts or target.rstrip("/") == "":
        raise UsageError(f"--bind '{text}': the target must be a plain path below /")
    return who, Bind(source=source.rstrip("/"), target=target.rstrip("/"))


def parse_layer(text: str) -> tuple[str, str]:
    """HOST=NAME."""
    who, equals, name = text.partition("=")
    if not (who and equals):
        raise UsageError(f"--layer '{text}' is not HOST=NAME")
    return who, layer_name(name)


def layer_name(name: str) -> str:
    """A name that is safe as a directory name and inside an overlay option."""
    if not _LAYER_NAME.fullmatch(name):
        raise UsageError(f"'{name}' is no layer name; use letters, digits, dot, dash and underscore")
    return name


def for_host(name: str, wishes: list[tuple[str, Bind]]) -> tuple[Bind, ...]:
    """The binds that one host gets: its own and those for all."""
    return tuple(bind for who, bind in wishes if who in (name, ALL_HOSTS))


def pip_conf(binds: tuple[Bind, ...]) -> str:
    """pip on a host knows the wheelhouses bound into it and nothing else."""
    inside = (bind.target for bind in binds if Path(bind.target).is_relative_to(WHEELHOUSE))
    lines = ["[global]", "no-index = true", "disable-pip-version-check = true"]
    find_links = " ".join(inside)
    if find_links:
        lines.append(f"find-links = {find_links}")
    return "\n".join(lines) + "\n"

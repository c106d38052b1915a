"""The machine's own apt configuration, read so that the lab's hosts use the same mirrors and nothing else.

No mirror is named in this project: what the machine may ask, its hosts may ask, through the egress proxy.
"""

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from .errors import LabError

RELEASE = "bookworm"  # Debian 12, what the appliance supports
_RELEASES = ("bullseye", RELEASE, "trixie", "forky")
_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_COPIED_SETTINGS = ("Acquire::Check-Valid-Until", "Acquire::Check-Date", "Acquire::Retries")


@dataclass(frozen=True, kw_only=True)
class Source:
    """One entry of apt's sources: where, which suites, which components, signed by what."""

    uris: tuple[str, ...]
    suites: tuple[str, ...]
    components: tuple[str, ...]
    signed_by: str

    @property
    def is_debian(self) -> bool:
        """Debian's own archive, not a vendor's repository for Debian."""
        paths = {part for uri in self.uris for part in urlsplit(uri).path.split("/")}
        own_key = not self.signed_by or "debian-archive" in self.signed_by
        return own_key and "main" in self.components and not paths.isdisjoint({"debian", "debian-security"})

    def for_release(self, release: str) -> "Source":
        """The same archive, asked for another release."""
        suites = tuple(re.sub(rf"^({'|'.join(_RELEASES)}|stable|testing)\b", release, suite) for suite in self.suites)
        return Source(uris=self.uris, suites=suites, components=self.components, signed_by=_KEYRING)

    def to_deb822(self) -> str:
        """As apt reads it."""
        return (
            f"Types: deb\nURIs: {' '.join(self.uris)}\nSuites: {' '.join(self.suites)}\n"
            f"Components: {' '.join(self.components)}\nSigned-By: {self.signed_by}\n"
        )


def parse_one_line(text: str) -> list[Source]:
    """The classic format of sources.list."""
    found = []
    for line in text.splitlines():
        match = re.match(r"\s*deb\s+(?:\[([^]]*)\]\s+)?(\S+)\s+(\S+)\s*([^#]*)", line)
        if match:
            options, uri, suite, components = match.groups()
            signed = re.search(r"signed-by=(\S+)", options or "")
            found.append(
                Source(
                    uris=(uri,),
                    suites=(suite,),
                    components=tuple(components.split()),
                    signed_by=signed.group(1) if signed else "",
                )
            )
    return found


def parse_deb822(text: str) -> list[Source]:
    """The stanzas of a .sources file."""
    found = []
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    for stanza in re.split(r"\n\s*\n", "\n".join(lines)):
        fields: dict[str, str] = {}
        name = ""
        for line in stanza.splitlines():
            if line[:1].isspace():
                fields[name] = f"{fields.get(name, '')} {line.strip()}"
            elif ":" in line:
                name, _, value = line.partition(":")
                name = name.lower()
                fields[name] = value.strip()
        if "deb" in fields.get("types", "").split() and fields.get("enabled", "yes").lower() != "no":
            found.append(
                Source(
                    uris=tuple(fields.get("uris", "").split()),
                    suites=tuple(fields.get("suites", "").split()),
                    components=tuple(fields.get("components", "").split()),
                    signed_by=fields.get("signed-by", ""),
                )
            )
    return found


def machine_sources(etc_apt: Path = Path("/etc/apt")) -> list[Source]:
    """Every source this machine has."""
    found = []
    for path in [etc_apt / "sources.list", *sorted((etc_apt / "sources.list.d").glob("*"))]:
        if path.suffix == ".list" and path.is_file():
            found += parse_one_line(path.read_text())
        elif path.suffix == ".sources" and path.is_file():
            found += parse_deb822(path.read_text())
    return found


def debian_sources(sources: list[Source]) -> str:
    """The sources file of every host."""
    debian = [source.for_release(RELEASE) for source in sources if source.is_debian]
    if not debian:
        raise LabError("this machine's apt sources name no Debian archive, so there is nothing to build hosts from")
    return "\n".join(source.to_deb822() for source in debian)


def allowed_hosts(sources: list[Source]) -> frozenset[str]:
    """The servers the machine's apt sources name: all that hosts can reach."""
    names = (urlsplit(uri).hostname for source in sources for uri in source.uris)
    return frozenset(name for name in names if name)


def machine_policy() -> str:
    """Settings of the machine's apt that decide whether its mirrors work at all."""
    dump = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=True).stdout
    kept = [line for line in dump.splitlines() if line.split(" ")[0] in _COPIED_SETTINGS]
    return "".join(f"{line}\n" for line in kept)

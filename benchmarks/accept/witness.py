"""Witness: what hosts, engines' journals and PostgreSQL say about the run (`playbooks/witness.yml`), before anybody
judges it.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import Field

from benchmarks.accept.hosts import Hosts, HostsFailed
from benchmarks.errors import BadLoad
from sizing.documents import Document, Part
from sizing.observation import SpendObservation

_ENGINE_SUFFIX = re.compile(r"-[0-9a-f]{8}(?:-leg\d+)?$")


class MachineSeen(Part):
    """One host, as Ansible's facts have it."""

    distribution: str
    kernel: str
    processor: str
    processor_count: int
    memory_bytes: int
    packages: tuple[str, ...] = ()
    pythons: tuple[str, ...] = ()


class Journal(Part):
    """One engine's journal: where it stood, or which requests it logged since."""

    cursor: str | None = None
    request_ids: tuple[str, ...] = ()

    @property
    def call_ids(self) -> frozenset[str]:
        """The ids that clients gave, whether a request came through the gateway (which adds a suffix) or straight."""
        return frozenset(self.request_ids) | {_ENGINE_SUFFIX.sub("", one) for one in self.request_ids}


class Witness(Document):
    """One run of playbooks/witness.yml."""

    moment: Literal["begin", "journals", "memory", "end"]
    machines: dict[str, MachineSeen] = Field(default_factory=dict)
    journals: dict[str, dict[str, Journal]] = Field(default_factory=dict)
    spend: SpendObservation | None = None
    memory: dict[str, dict[str, int | None]] = Field(default_factory=dict, description="bytes per unit; null: stopped")


@dataclass(kw_only=True)
class Observer:
    """Asks the hosts at the moments of one run."""

    hosts: Hosts
    directory: Path
    _cursors: dict[str, dict[str, str]] = field(default_factory=dict)
    _logged: set[str] = field(default_factory=set)
    _asked: int = 0

    def begin(self) -> Witness:
        """What the machines are; from here on the journals are read."""
        seen = self._ask("begin")
        self._cursors = {
            host: {name: journal.cursor or "" for name, journal in engines.items()}
            for host, engines in seen.journals.items()
        }
        return seen

    def reached_an_engine(self, request_id: str) -> bool:
        """Whether any engine has logged the request. The hosts are asked only for what was not there before."""
        if request_id not in self._logged:
            for engines in self._ask("journals").journals.values():
                self._logged |= {call_id for journal in engines.values() for call_id in journal.call_ids}
        return request_id in self._logged

    def memory_of_services(self) -> dict[str, int]:
        """Bytes that every gateway, relay and engine holds; a service that does not run is left out."""
        try:
            seen = self._ask("memory")
        except HostsFailed as error:
            raise BadLoad(str(error)) from None
        return {
            f"{unit.removesuffix('.service')} on {host}": held
            for host, units in seen.memory.items()
            for unit, held in units.items()
            if held is not None
        }

    def end(self, *, key_hashes: Sequence[str], awaited_count: int) -> Witness:
        """Journals and spend."""
        return self._ask("end", witness_key_hashes=list(key_hashes), witness_awaited_count=awaited_count)

    def _ask(self, moment: str, **variables: object) -> Witness:
        self._asked += 1
        file = self.directory / f"witness-{self._asked}-{moment}.json"
        given = {"witness_moment": moment, "witness_cursors": self._cursors, "witness_file": str(file.resolve())}
        self.hosts.play("witness.yml", {**given, **variables})
        return Witness.load(file)

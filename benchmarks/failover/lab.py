"""Lab: the arm that reaches hosts of the lab, through the lab's own command line and nothing else."""

import json
import re
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.errors import BadLoad
from benchmarks.failover.books import Book, Tokens
from benchmarks.failover.relay_process import LEDGER_FILES
from benchmarks.null_process import ROOT

COMMAND_SECONDS = 300
LEDGER_DIRECTORY = "/var/lib/relay/ledger"
SPEND_SETTLE_SECONDS = 120.0
# vLLM's before a client's id; behind it the gateway's, and the relay's where only a later engine said the first word.
OWN_WORDS = re.compile(r"^(chatcmpl-|cmpl-)|-[0-9a-f]{8}(-leg\d+)?$")
PROOF = "proof-"  # with it begin request ids of a gateway that proves itself (plugins/modules/generated_token.py)
SPEND_QUERY = (
    """select request_id, prompt_tokens, completion_tokens from "LiteLLM_SpendLogs" """
    "where status = 'success' and request_id not like '%proof-%'"
)
SIGNAL_MEMBER = """
import os, pathlib, signal, subprocess, sys
unit, title, name = sys.argv[1:]
group = subprocess.check_output(["systemctl", "show", "--property=ControlGroup", "--value", unit], text=True).strip()
for root in ("/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd"):
    listed = pathlib.Path(root + group, "cgroup.procs")
    for pid in listed.read_text().split() if group and listed.is_file() else ():
        if title in pathlib.Path("/proc", pid, "cmdline").read_text():
            os.kill(int(pid), getattr(signal, name))
            sys.exit(0)
sys.exit(f"{unit} has no process {title}")
"""


@dataclass(frozen=True, kw_only=True)
class Lab:
    """A lab that is up."""

    program: Path = field(default=ROOT / "tests" / "lab" / "lab")

    def verb(self, *words: str) -> str:
        """One verb; what it printed."""
        command = [str(self.program), *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False)
        if done.returncode:
            raise BadLoad(f"lab {' '.join(words[:4])}: exit {done.returncode}: {done.stderr.strip()[-300:]}")
        return done.stdout

    def run(self, host: str, *command: str) -> str:
        """A command in a host."""
        return self.verb("exec", host, "--", *command)

    def signal_unit(self, host: str, unit: str, name: str, *, whom: str = "all") -> None:
        """A signal to a unit's main process or to all of them."""
        self.run(host, "systemctl", "kill", f"--signal={name}", f"--kill-whom={whom}", unit)

    def signal_member(self, host: str, unit: str, title: str, name: str) -> None:
        """A signal to one process of a unit, found by its title."""
        self.run(host, "/usr/bin/python3", "-c", SIGNAL_MEMBER, unit, title, name)

    def relay_states(self, host: str, port: int) -> dict[str, str]:
        """What a host's relay says of its replicas; empty where it does not answer."""
        try:
            said = self.run(host, "curl", "--silent", "--max-time", "2", f"http://127.0.0.1:{port}/relay/status")
            return {str(replica["id"]): str(replica["state"]) for replica in json.loads(said)["replicas"]}
        except (BadLoad, ValueError, KeyError):
            return {}

    def power_on(self, host: str, *units: str) -> None:
        """Power, until it runs and these units say that they serve."""
        self.verb("start", host)
        self.verb("wait", host)
        for unit in units:
            self.run(host, "systemctl", "start", unit)


def relay_ledgers(lab: Lab, gateways: Sequence[str]) -> Book:
    """What the relays of all gateways billed to requests that came to their end."""

    def read() -> dict[str, Tokens]:
        entries: dict[str, tuple[str, Tokens]] = {}
        command = ("/usr/bin/find", LEDGER_DIRECTORY, "-name", LEDGER_FILES, "-exec", "cat", "{}", "+")
        for host in gateways:
            for line in lab.run(host, *command).split("\n")[:-1]:
                entry = json.loads(line)
                if entry["kind"] != "end" or entry["request"].startswith(PROOF):
                    continue
                if entry["outcome"] == "completed":
                    used = (entry["prompt_tokens"], entry["completion_tokens"])
                    entries[f"{host}/{entry['entry']}"] = (entry["request"], used)
        return by_client(entries.values())

    return Book(name="relay ledger", read=read)


def gateway_spend(lab: Lab, *, database_host: str, database: str) -> Book:
    """What LiteLLM's tables say."""

    def read() -> dict[str, Tokens]:
        query = (
            "psql",
            "--no-align",
            "--tuples-only",
            "--field-separator=,",
            f"--dbname={database}",
            "-c",
            SPEND_QUERY,
        )
        rows = lab.run(database_host, "runuser", "-u", "postgres", "--", *query).splitlines()
        found = (row.rsplit(",", 2) for row in rows if row.count(",") >= 2)  # noqa: PLR2004  three columns
        return by_client((name, (int(prompt), int(completion))) for name, prompt, completion in found)

    return Book(name="gateway spend", read=read, settle_seconds=SPEND_SETTLE_SECONDS)


def by_client(entries: Iterable[tuple[str, Tokens]]) -> dict[str, Tokens]:
    """What was booked under each client's request id; booked twice is twice as much."""
    sums: dict[str, Tokens] = {}
    for name, (prompt, completion) in entries:
        client = OWN_WORDS.sub("", name)
        before = sums.get(client, (0, 0))
        sums[client] = (before[0] + prompt, before[1] + completion)
    return sums

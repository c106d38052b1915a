"""Runs one playbook as an operator would, shows its progress in short and reads the recap.

The whole output goes to a log; on the screen appear the plays, the tasks, what changed and what failed.
"""

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

REPOSITORY = Path(__file__).resolve().parent.parent
RECAP = re.compile(r"^(\S+)\s+: ok=(\d+)\s+changed=(\d+)\s+unreachable=(\d+)\s+failed=(\d+)")


class PlaybookFailed(Exception):
    """The playbook ended with an error; the message names its log."""


@dataclass(frozen=True, kw_only=True)
class Recap:
    """What ansible-playbook counted, per host."""

    changed: dict[str, int]

    @property
    def changed_count(self) -> int:
        return sum(self.changed.values())


def run_playbook(name: str, site: Path, *arguments: str, console: Console, log: Path) -> Recap:
    """Runs playbooks/<name> on a site; raises PlaybookFailed when it does not end well."""
    program = Path(sys.executable).with_name("ansible-playbook")
    command = [str(program), "-i", str(site), str(REPOSITORY / "playbooks" / name), *arguments]
    environment = {
        **os.environ,
        "ANSIBLE_FORCE_COLOR": "0",
        "ANSIBLE_CALLBACKS_ENABLED": "ansible.posix.profile_tasks",  # the time of each task, in the log
        "PYTHONUNBUFFERED": "1",
    }
    changed: dict[str, int] = {}
    with (
        log.open("w", encoding="utf-8") as file,
        subprocess.Popen(
            command, cwd=REPOSITORY, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ) as process,
    ):
        failing = False
        for line in process.stdout or ():
            file.write(line)
            file.flush()
            recap = RECAP.match(line)
            if recap:
                changed[recap[1]] = int(recap[3])
            if line.startswith(("TASK [", "PLAY [", "RUNNING HANDLER [")):
                failing = False
            elif line.startswith(("fatal:", "failed:", "[ERROR]", "ERROR!")):
                failing = True
            if failing or recap or line.startswith(("PLAY [", "TASK [", "RUNNING HANDLER [", "changed:")):
                console.print("    " + line.rstrip(" *\n"), markup=False, highlight=False, soft_wrap=True)
    if process.returncode != 0:
        raise PlaybookFailed(f"playbooks/{name} failed (exit code {process.returncode}); the whole log: {log}")
    return Recap(changed=changed)

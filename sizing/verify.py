"""Verify: compares the living site with its plan. Observing is Ansible's part, judging is `sizing.judge`'s.

This is the edge: it runs `playbooks/observe.yml` when no observation is given, and writes `report.json` and
`report.html` beside the observation.
"""

import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from sizing.errors import DocumentError, SizingError
from sizing.judge import judge
from sizing.observation import Observation
from sizing.report import Report
from sizing.report_page import render_page
from sizing.site import load_plan

__all__ = ["judge", "run"]

REPOSITORY = Path(__file__).resolve().parents[1]
OBSERVE_PLAYBOOK = REPOSITORY / "playbooks" / "observe.yml"


def run(site_directory: Path, *, observation: Path | None, report_directory: Path | None) -> Report:
    """Observes (unless an observation is given), judges, and leaves report.json and report.html in the directory."""
    plan = load_plan(site_directory)
    directory = report_directory or (observation.parent if observation else _new_directory(site_directory))
    seen = Observation.load(observation or observe(site_directory, directory))
    if seen.site != plan.site:
        raise DocumentError(f"{observation}: was made at site {seen.site}, but the plan is for {plan.site}")
    report = judge(plan, seen)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "report.json").write_text(report.to_json(), encoding="utf-8")
    (directory / "report.html").write_text(render_page(plan, report), encoding="utf-8")
    _point_latest_at(directory)
    return report


def observe(site_directory: Path, directory: Path) -> Path:
    """Runs the observing playbook, its talk on stderr; returns where the observation lies."""
    if not OBSERVE_PLAYBOOK.exists():
        raise SizingError(f"{OBSERVE_PLAYBOOK}: no such playbook; run from the repository or give --observation")
    beside_python = Path(sys.executable).with_name("ansible-playbook")
    program = str(beside_python) if beside_python.exists() else shutil.which("ansible-playbook")
    if program is None:
        raise SizingError("ansible-playbook is not installed; install llm-appliance with its `deploy` extra")
    command = [program, "-i", str(site_directory.resolve()), str(OBSERVE_PLAYBOOK)]
    command += ["--extra-vars", f"observe_report_directory={directory.resolve()}"]
    ended = subprocess.run(command, cwd=REPOSITORY, stdout=sys.stderr, check=False)
    path = directory / "observation.json"
    if not path.exists():
        raise SizingError(f"playbooks/observe.yml ended with {ended.returncode} and wrote no observation; see above")
    return path


def _point_latest_at(directory: Path) -> None:
    """`reports/latest` names the newest report of a site; a directory elsewhere is the operator's own affair."""
    if directory.parent.name != "reports":
        return
    link = directory.parent / "latest"
    if link.exists() and not link.is_symlink():
        return
    fresh = directory.parent / f".latest-{directory.name}"
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(directory.name)
    fresh.replace(link)


def _new_directory(site_directory: Path) -> Path:
    return site_directory / "reports" / datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")

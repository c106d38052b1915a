"""Bundle: one directory that holds an acceptance - its page, its document, plan, request and all raw data - sealed by
one signature over everything.
"""

import os
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import signing
from benchmarks.accept.check_bundle import DOCUMENT
from benchmarks.acceptance import Acceptance
from benchmarks.acceptance_page import render_page
from benchmarks.errors import BadLoad, BrokenBundle
from benchmarks.null_process import ROOT

PAGE, RAW = "report.html", "raw"


def new_bundle(site: str, output: Path | None) -> Path:
    """An empty directory for one run: `acceptance/<site>-<time>`, or the one that was asked for."""
    directory = output or ROOT / "acceptance" / f"{site}-{datetime.now(UTC).strftime('%Y%m%dT%H%M%SZ')}"
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise BadLoad(f"{directory}: there is something already; name a new directory")
    (directory / RAW).mkdir(parents=True)
    return directory


def signing_key(given: Path | None) -> Path | None:
    """The key to sign with, tried now: a run of hours must not end at a key that does not work."""
    named = str(given) if given else os.environ.get(signing.KEY_VARIABLE, "")
    if not named:
        return None
    key = Path(named).expanduser()
    with tempfile.TemporaryDirectory(prefix="llm-accept-") as scratch:
        (Path(scratch) / "trial").write_text("trial\n", encoding="utf-8")
        try:
            signing.seal(Path(scratch), key=key)
        except BrokenBundle as error:
            raise BadLoad(f"{key} does not sign: {str(error).rpartition(': ')[2]}") from None
    return key


def write(bundle: Path, acceptance: Acceptance, *, key: Path | None) -> None:
    """Document and page, and the seal over everything where there is a key."""
    (bundle / DOCUMENT).write_text(acceptance.to_json(), encoding="utf-8")
    (bundle / PAGE).write_text(render_page(acceptance), encoding="utf-8")
    if key is not None:
        signing.seal(bundle, key=key)

"""Calibration process: runs the calibration in a fresh interpreter and reads its answer."""

import json
import subprocess
import sys

from benchmarks.errors import BadLoad
from benchmarks.null_process import ROOT
from benchmarks.validity import Capacity


def calibrated() -> Capacity:
    """What one process of this machine holds."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "calibrate", "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise BadLoad(
            f"calibration failed: {done.stderr.strip().splitlines()[-1] if done.stderr.strip() else 'no answer'}"
        )
    return Capacity(**json.loads(done.stdout)["capacity"])

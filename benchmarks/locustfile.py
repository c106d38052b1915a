"""Locust file: `locust -f benchmarks/locustfile.py`. What it does stands in `locust_user.py`.

Locust puts this directory first on the import path, where our modules would hide others of the same name, and takes the
first entry off again afterwards: so the entry is replaced here, and not removed.
"""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:] = [str(HERE.parent) if Path(entry).resolve() == HERE else entry for entry in sys.path]

from benchmarks.locust_user import StreamingUser  # noqa: E402  the path comes first

__all__ = ["StreamingUser"]

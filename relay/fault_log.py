"""Fault log: one line of JSON for every fault, for people at 3 a.m. and for the fault suite."""

import json
import sys
from datetime import UTC, datetime


def log(event: str, **facts: object) -> None:
    """One line on standard error; under systemd the journal has it."""
    when = datetime.now(UTC).isoformat(timespec="milliseconds")
    print(json.dumps({"time": when, "event": event} | facts, ensure_ascii=False), file=sys.stderr, flush=True)

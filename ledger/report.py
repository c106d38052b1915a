"""What a run did, as one line for the journal and as metrics for the node exporter's textfile collector."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path

from ledger.book import Connection
from ledger.reconcile import Summary

_ADD = (
    "INSERT INTO appliance.counter (host, name, value) VALUES (%s, %s, %s) "
    "ON CONFLICT (host, name) DO UPDATE SET value = appliance.counter.value + EXCLUDED.value"
)
_HELP = {
    "appliance_ledger_usage_rows_total": "Requests that this host put into the bill",
    "appliance_ledger_tokens_total": "Tokens that this host put into the bill",
    "appliance_ledger_unattributed_tokens_total": "Tokens that engines reported for requests no gateway knows",
    "appliance_ledger_unpriced_tokens_total": "Tokens of models without a price",
    "appliance_ledger_repaired_rows_total": "Rows of LiteLLM that were lost or counted otherwise, and put right",
    "appliance_ledger_damaged_lines_total": "Lines of segments that failed their checksum",
    "appliance_ledger_cache_asked_total": "Answers that the cache of answers was asked for",
    "appliance_ledger_cache_hits_total": "Answers that came from the cache of answers",
    "appliance_ledger_unread_bytes": "What this host wrote and is not booked yet",
    "appliance_ledger_last_success_timestamp_seconds": "When this host was last reconciled",
}


def line(summary: Summary) -> str:
    """One line; what was repaired has its own lines."""
    tokens = sum(usage.prompt_tokens + usage.completion_tokens for usage in summary.booked)
    cost = sum(usage.cost for usage in summary.booked)
    parts = [f"booked {len(summary.booked)} requests, {tokens} tokens, {cost:.9f}"]
    for kind in ("missing", "different"):
        repairs = [repair for repair in summary.repairs if repair.kind == kind]
        if repairs:
            parts.append(f"{len(repairs)} rows {kind} in LiteLLM put right ({sum(r.tokens for r in repairs)} tokens)")
    if summary.unattributed_tokens:
        parts.append(f"{summary.unattributed_tokens} tokens of nobody known")
    if summary.unpriced_tokens:
        parts.append(f"{summary.unpriced_tokens} tokens without a price")
    if summary.damaged_lines:
        parts.append(f"{summary.damaged_lines} damaged lines")
    return "; ".join(parts)


def metrics(connection: Connection, summary: Summary, *, host: str) -> dict[str, float]:
    """Adds the run to this host's sums and returns them with what is true now."""
    run = {
        "appliance_ledger_usage_rows_total": len(summary.booked),
        "appliance_ledger_tokens_total": sum(u.prompt_tokens + u.completion_tokens for u in summary.booked),
        "appliance_ledger_unattributed_tokens_total": summary.unattributed_tokens,
        "appliance_ledger_unpriced_tokens_total": summary.unpriced_tokens,
        "appliance_ledger_repaired_rows_total": len(summary.repairs),
        "appliance_ledger_damaged_lines_total": summary.damaged_lines,
        "appliance_ledger_cache_asked_total": summary.cache_asked,
        "appliance_ledger_cache_hits_total": summary.cache_hits,
    }
    with connection.transaction():
        for name, value in run.items():
            connection.execute(_ADD, (host, name, value))
    sums = connection.execute(
        "SELECT name, value FROM appliance.counter WHERE host = %s ORDER BY name", (host,)
    ).fetchall()
    return {
        **dict(sums),
        "appliance_ledger_unread_bytes": summary.unread_bytes,
        "appliance_ledger_last_success_timestamp_seconds": time.time(),
    }


def write_metrics(path: Path, values: Mapping[str, float]) -> None:
    """Replaced as a whole: the collector never reads a half."""
    text = "".join(_exposed(name, value) for name, value in values.items())
    whole = path.with_name(f".{path.name}.{os.getpid()}")
    whole.write_text(text, encoding="utf-8")
    whole.chmod(0o644)
    whole.replace(path)


def _exposed(name: str, value: float) -> str:
    kind = "counter" if name.endswith("_total") else "gauge"
    return f"# HELP {name} {_HELP[name]}\n# TYPE {name} {kind}\n{name} {value:.17g}\n"

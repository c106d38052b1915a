"""Summary table: one run on a terminal."""

from rich.console import Group
from rich.table import Table
from rich.text import Text

from benchmarks.metrics import Summary
from benchmarks.record import FAILURES

NAMES = {
    "ttft_ms": "time to first token",
    "answer_ms": "time to first answer",
    "itl_ms": "inter-token latency",
    "tpot_ms": "time per output token",
    "ntpot_ms": "whole time per token",
    "e2e_ms": "end to end",
    "schedule_delay_ms": "schedule delay (ours)",
}


def summary_table(summary: Summary) -> Group:
    """Rates, failures by class and latency percentiles."""
    lines = [
        f"{summary.requests} requests in {summary.duration_seconds:.1f} s, {summary.succeeded} succeeded; "
        f"offered {summary.offered_per_second:.2f}/s, completed {summary.completed_per_second:.2f}/s",
        f"{summary.output_tokens_per_second:.1f} output tokens/s, {summary.total_tokens_per_second:.1f} tokens/s "
        f"with prompts; {summary.reasoning_tokens} reasoning tokens",
    ]
    if summary.goodput_per_second is not None and summary.good_ratio is not None:
        lines.append(f"goodput {summary.goodput_per_second:.2f} requests/s ({summary.good_ratio:.1%} of all were good)")
    lines += [f"failed: {count} {name} ({FAILURES.get(name, name)})" for name, count in summary.failures.items()]
    table = Table("ms", "n", "mean", "p50", "p90", "p95", "p99", "p99.9", "max")
    for key, spread in summary.spreads.items():
        values = (spread.mean, spread.p50, spread.p90, spread.p95, spread.p99, spread.p999, spread.maximum)
        table.add_row(NAMES[key], str(spread.count), *(f"{value:.1f}" for value in values))
    return Group(*(Text(line) for line in lines), table)

"""The part of docs/accuracy.md about GPU memory: the KV pool in bytes against published start-up logs, row by row."""

from tools.accuracy_sections import Section
from tools.judge_ledgers import Score, ledgers_judged, score, section_lines


def memory_section() -> Section:
    """All ledgers, judged by the sizing of today."""
    result = score(ledgers_judged())
    return Section(
        title="KV pool in bytes, against published start-up logs",
        summary="no ledger could be judged" if result is None else _summary(result),
        text="\n".join(section_lines()),
    )


def _summary(result: Score) -> str:
    return (
        f"{result.count} starts, median error {result.median_error_ratio:.1%}, 90th percentile "
        f"{result.ninetieth_error_ratio:.1%}, stated interval holds for {result.interval_ratio:.0%}"
    )

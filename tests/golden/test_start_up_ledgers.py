"""The sizing of GPU memory against every published start-up ledger that the catalogue can answer for."""

import pytest

from tools.judge_ledgers import Judged, judged, ledgers_judged, score, section_lines
from tools.start_up_ledgers import ledger_file

ENOUGH_ROWS = 20


def test_pools_meet_the_ledgers_within_the_promised_errors_and_intervals() -> None:
    rows = ledgers_judged()

    result = score(rows)

    if result is None or result.count < ENOUGH_ROWS:
        waiting = sorted({row.why for row in rows if row.verdict == "not judged"})
        pytest.skip(f"{len(rows) - (result.count if result else 0)} ledgers wait for facts: {'; '.join(waiting)[:300]}")
    assert result.meets_the_target, result


@pytest.mark.parametrize("refused", [judged(one) for one in ledger_file().refusals], ids=lambda row: row.ledger.id)
def test_what_vllm_refused_is_never_called_a_fit(refused: Judged) -> None:
    if refused.verdict == "not judged":
        pytest.skip(refused.why)

    assert "fits" != refused.verdict


def test_every_ledger_that_was_read_is_judged_or_named_with_a_reason() -> None:
    names = [ledger.id for ledger in (*ledger_file().ledgers, *ledger_file().refusals)]

    assert len(set(names)) == len(names)
    assert not set(names) & set(ledger_file().excluded)
    page = "\n".join(section_lines())
    assert [] == [name for name in (*names, *ledger_file().excluded) if name not in page]

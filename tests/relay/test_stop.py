"""A relay that is told to stop and has no more time: what it cuts is billed as far as it came."""

import json
import signal
from pathlib import Path

from relay.ledger_reader import read_all, segments
from tests.relay.two_engines import CHAT, TwoEngines

TOKENS_HEARD, LAST_MOMENT_TOKENS = 60, 20


def test_a_stream_that_is_cut_when_the_time_to_stop_is_over_is_billed_to_the_token(tmp_path: Path) -> None:
    body = {"model": "fault", "temperature": 0, "max_tokens": 4000, "stream": True, "return_token_ids": True}
    heard = 0
    with TwoEngines(tmp_path, character=("--itl-ms", "10"), drain_seconds=0.3) as site:
        asked = body | {"messages": [{"role": "user", "content": "a long answer"}]}
        is_told = False
        try:
            with site.client.stream("POST", f"{site.address}{CHAT}", json=asked) as answer:
                for line in answer.iter_lines():
                    if not line.startswith("data: {"):
                        continue
                    heard += sum(len(one.get("token_ids") or ()) for one in json.loads(line[6:])["choices"])
                    if heard >= TOKENS_HEARD and not is_told:
                        is_told = True
                        site.process.send_signal(signal.SIGTERM)
        except Exception as error:  # noqa: BLE001  (it is cut: how the client's library calls that does not matter)
            assert is_told, error
        site.process.wait(60)

    (bill,) = [one for path in segments(tmp_path) for one in read_all(path) if one["kind"] == "end"]
    # What came in the last moment may not have left any more: more of it where the relay had no core for a while.
    assert 0 <= bill["completion_tokens"] - heard <= LAST_MOMENT_TOKENS
    assert "relay_lost" == bill["outcome"]

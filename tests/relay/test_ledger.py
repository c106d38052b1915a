"""The relay's ledger: what was acknowledged is never lost, and nothing counts twice."""

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from relay.ledger import Ledger, Leg
from relay.ledger_lines import decode, encode
from relay.ledger_reader import is_in_use, read, read_all, segments
from tests.relay.sick_disk import SickDisk

ROOT = Path(__file__).resolve().parents[2]


def ends(directory: Path) -> list[dict[str, Any]]:
    return [record for path in segments(directory) for record in read_all(path) if record["kind"] == "end"]


def by_entry(records: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {record["entry"]: record for record in records}


async def finish(ledger: Ledger, request: str, tokens: int = 7) -> bool:
    return await ledger.end(
        request,
        prompt_tokens=11,
        completion_tokens=tokens,
        cached_tokens=3,
        legs=[Leg(replica="qwen-h2", prompt_tokens=11, completion_tokens=tokens, outcome="completed")],
        outcome="completed",
    )


def abandon(ledger: Ledger) -> None:
    """Lets go of the segment as the kernel does for a killed process."""
    os.close(ledger._writer._descriptor)


def test_a_line_is_json_and_any_changed_byte_of_it_is_noticed() -> None:
    line = encode({"kind": "end", "request": '한국어 "x",\n'})

    assert line.endswith(b'"}\n')
    assert json.loads(line)["request"] == '한국어 "x",\n'
    assert decode(line[:-1]) == {"kind": "end", "request": '한국어 "x",\n'}
    for place in range(len(line) - 1):
        assert decode(line[:place] + bytes([line[place] ^ 1]) + line[place + 1 : -1]) is None


def test_an_end_repeats_everything_a_reader_needs(tmp_path: Path) -> None:
    async def one() -> None:
        ledger = Ledger.open(tmp_path, group="chat")
        ledger.begin("call-1-aabbccdd", model="qwen", endpoint="/v1/completions")
        assert await finish(ledger, "call-1-aabbccdd")
        ledger.close()

    asyncio.run(one())

    (record,) = ends(tmp_path)
    assert record["entry"].endswith("-1")
    assert record["at"] >= record["begun_at"] > 1_700_000_000
    del record["at"], record["begun_at"], record["entry"]
    assert record == {
        "kind": "end", "group": "chat", "request": "call-1-aabbccdd", "model": "qwen", "endpoint": "/v1/completions",
        "prompt_tokens": 11, "completion_tokens": 7, "cached_tokens": 3, "outcome": "completed",
        "legs": [{"replica": "qwen-h2", "prompt_tokens": 11, "completion_tokens": 7, "outcome": "completed"}],
    }  # fmt: skip


def test_what_a_killed_relay_left_open_is_ended_once_with_its_last_progress(tmp_path: Path) -> None:
    async def killed() -> None:
        ledger = Ledger.open(tmp_path, group="chat")
        ledger.begin("done", model="qwen", endpoint="/v1/chat/completions")
        ledger.begin("half", model="qwen", endpoint="/v1/chat/completions")
        ledger.begin("fresh", model="qwen", endpoint="/v1/chat/completions")
        ledger.progress("half", replica="qwen-h3", prompt_tokens=20, completion_tokens=5)
        await finish(ledger, "done")
        abandon(ledger)

    asyncio.run(killed())
    (torn,) = segments(tmp_path)
    with torn.open("ab") as file:
        file.write(b'{"kind":"progress","entry":"x","comp')

    second = Ledger.open(tmp_path, group="chat")
    third = Ledger.open(tmp_path, group="chat")

    assert (second.taken_over_count, third.taken_over_count) == (2, 0)
    second.close()
    third.close()
    found = {record["request"]: record for record in ends(tmp_path)}
    assert len(ends(tmp_path)) == 3
    assert {name: record["outcome"] for name, record in found.items()} == {
        "done": "completed", "half": "relay_lost", "fresh": "relay_lost"
    }  # fmt: skip
    assert (found["half"]["prompt_tokens"], found["half"]["completion_tokens"]) == (20, 5)
    assert (found["fresh"]["prompt_tokens"], found["fresh"]["legs"]) == (0, [])
    assert read(torn).damaged_lines == 0
    assert torn.read_bytes().endswith(b"\n")


def test_a_predecessor_that_still_drains_is_left_alone(tmp_path: Path) -> None:
    draining = Ledger.open(tmp_path, group="chat")
    draining.begin("slow", model="qwen", endpoint="/v1/chat/completions")

    successor = Ledger.open(tmp_path, group="chat")

    assert successor.taken_over_count == 0
    assert is_in_use(segments(tmp_path)[0])
    assert asyncio.run(finish(draining, "slow"))
    successor.close()
    draining._writer.close()


def test_groups_whose_names_begin_alike_do_not_take_each_other_over(tmp_path: Path) -> None:
    other = Ledger.open(tmp_path, group="chat.v2")
    other.begin("r", model="qwen", endpoint="/v1/chat/completions")
    abandon(other)

    chat = Ledger.open(tmp_path, group="chat")

    assert chat.taken_over_count == 0
    chat.close()


def test_a_request_id_that_comes_twice_makes_two_entries(tmp_path: Path) -> None:
    async def twice() -> None:
        ledger = Ledger.open(tmp_path, group="chat")
        first = ledger.begin("same", model="qwen", endpoint="/v1/chat/completions")
        second = ledger.begin("same", model="qwen", endpoint="/v1/chat/completions")
        await finish(ledger, second, tokens=2)
        await finish(ledger, first, tokens=1)
        ledger.close()

    asyncio.run(twice())

    found = ends(tmp_path)
    assert [("same", 2), ("same", 1)] == [(record["request"], record["completion_tokens"]) for record in found]
    assert len(by_entry(found)) == 2


def test_open_requests_move_to_the_next_segment_so_old_ones_may_be_deleted(tmp_path: Path) -> None:
    async def many() -> None:
        ledger = Ledger.open(tmp_path, group="chat", segment_bytes=2000)
        ledger.begin("long", model="qwen", endpoint="/v1/chat/completions")
        ledger.progress("long", replica="qwen-h2", prompt_tokens=9, completion_tokens=4)
        for number in range(30):
            ledger.begin(f"short-{number}", model="qwen", endpoint="/v1/chat/completions")
            await finish(ledger, f"short-{number}")
        abandon(ledger)

    asyncio.run(many())
    written = segments(tmp_path)
    assert len(written) > 3
    for path in written[:-1]:
        path.unlink()

    successor = Ledger.open(tmp_path, group="chat")

    successor.close()
    (lost,) = [record for record in ends(tmp_path) if record["outcome"] == "relay_lost"]
    assert (lost["request"], lost["prompt_tokens"], lost["completion_tokens"]) == ("long", 9, 4)


def test_nothing_that_end_acknowledged_is_lost_by_kill_9_and_nothing_counts_twice(tmp_path: Path) -> None:
    chance = random.Random(5)
    acknowledged: list[str] = []
    for _ in range(12):
        command = [sys.executable, "-m", "tests.relay.write_ledger", str(tmp_path), "16", "20000"]
        writer = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
        assert writer.stdout is not None
        acknowledged += [writer.stdout.readline().decode() for _ in range(chance.randrange(20, 200))]
        writer.send_signal(signal.SIGKILL)
        acknowledged += writer.stdout.read().decode().splitlines()
        writer.wait()
    Ledger.open(tmp_path, group="chat").close()

    found = ends(tmp_path)
    entries = by_entry(found)
    completed = {(e["request"], e["completion_tokens"]) for e in entries.values() if e["outcome"] == "completed"}
    promised = {(request, int(tokens)) for request, tokens in (line.split() for line in acknowledged)}
    print(f"{len(promised)} acknowledged, {len(entries)} entries, {len(segments(tmp_path))} segments")
    assert len(promised) > 200
    assert promised <= completed
    assert max(Counter(record["request"] for record in entries.values()).values()) == 1
    assert len(found) == len(entries)


def test_a_full_disk_stops_no_request_and_loses_nothing_once_it_has_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    disk = SickDisk(monkeypatch)
    monkeypatch.setattr("relay.ledger_writer.RETRY_SECONDS", 0.02)

    async def through_a_full_disk() -> Ledger:
        ledger = Ledger.open(tmp_path, group="chat")
        ledger.begin("before", model="qwen", endpoint="/v1/chat/completions")
        assert await finish(ledger, "before")
        ledger.begin("across", model="qwen", endpoint="/v1/chat/completions")
        disk.full = True
        ledger.begin("during", model="qwen", endpoint="/v1/chat/completions")
        assert not await finish(ledger, "during")
        assert ledger.is_sick
        assert ledger.counters.unwritten_lines >= 1
        disk.full = False
        while ledger.is_sick:
            await asyncio.sleep(0.01)
        assert await finish(ledger, "across")
        return ledger

    ledger = asyncio.run(through_a_full_disk())

    ledger.close()
    assert (ledger.counters.unwritten_lines, ledger.counters.lost_lines) == (0, 0)
    assert {"before", "during", "across"} == {record["request"] for record in by_entry(ends(tmp_path)).values()}
    assert all(read(path).damaged_lines == 0 for path in segments(tmp_path))
    unwritten = [message for message in caplog.messages if "not on the disk yet" in message]
    assert '"request":"during"' in unwritten[0]
    assert Ledger.open(tmp_path, group="chat").taken_over_count == 0


def test_a_relay_that_starts_on_a_full_disk_serves_and_writes_once_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = SickDisk(monkeypatch)
    monkeypatch.setattr("relay.ledger_writer.RETRY_SECONDS", 0.02)
    before = Ledger.open(tmp_path, group="chat")
    before.begin("left open", model="qwen", endpoint="/v1/chat/completions")
    abandon(before)

    async def start_on_a_full_disk() -> Ledger:
        disk.full = True
        ledger = Ledger.open(tmp_path, group="chat")
        ledger.begin("during", model="qwen", endpoint="/v1/chat/completions")
        assert not await finish(ledger, "during")
        disk.full = False
        while ledger.is_sick:
            await asyncio.sleep(0.01)
        return ledger

    ledger = asyncio.run(start_on_a_full_disk())
    ledger.close()
    Ledger.open(tmp_path, group="chat").close()

    assert (ledger.counters.unwritten_lines, ledger.counters.lost_lines) == (0, 0)
    assert {"left open", "during"} == {record["request"] for record in by_entry(ends(tmp_path)).values()}
    assert all(read(path).damaged_lines == 0 for path in segments(tmp_path))


def test_a_directory_that_nobody_may_write_into_is_no_full_disk(tmp_path: Path) -> None:
    (tmp_path / "ledger").write_text("a file", encoding="utf-8")

    with pytest.raises(OSError, match="exists"):
        Ledger.open(tmp_path / "ledger", group="chat")


def test_records_that_find_no_memory_either_are_counted_as_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = SickDisk(monkeypatch)

    async def fill() -> Ledger:
        ledger = Ledger.open(tmp_path, group="chat")
        ledger._writer._memory_bytes = 2000
        disk.full = True
        for number in range(20):
            ledger.begin(f"r{number}", model="qwen", endpoint="/v1/chat/completions")
            assert not await finish(ledger, f"r{number}")
        return ledger

    ledger = asyncio.run(fill())

    assert ledger.counters.lost_lines > 0
    assert ledger.counters.unwritten_lines + ledger.counters.lost_lines == 40


def test_a_cancelled_request_does_not_take_others_commit_with_it(tmp_path: Path) -> None:
    async def two() -> bool:
        ledger = Ledger.open(tmp_path, group="chat")
        ledger.begin("cancelled", model="qwen", endpoint="/v1/chat/completions")
        ledger.begin("other", model="qwen", endpoint="/v1/chat/completions")
        cancelled = asyncio.create_task(finish(ledger, "cancelled"))
        other = asyncio.create_task(finish(ledger, "other"))
        await asyncio.sleep(0)
        cancelled.cancel()
        kept = await other
        ledger.close()
        return kept

    assert asyncio.run(two())
    assert {"cancelled", "other"} == {record["request"] for record in ends(tmp_path)}


def test_throughput_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [sys.executable, "-m", "tests.relay.write_ledger", str(tmp_path), "64", str(64 * 1024**2), "50"]

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)

    with capsys.disabled():
        print(f"\nledger: {done.stderr.strip()} (load {os.getloadavg()[0]:.0f})")
    assert len(ends(tmp_path)) == 3200

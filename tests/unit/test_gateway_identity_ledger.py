"""The gateway's lines on a full disk: none is lost, and nobody else is told to add what the ledger will add."""

import asyncio
import importlib
import sys
from pathlib import Path
from typing import Any

import pytest

from relay.ledger_reader import read_all, segments
from tests.relay.sick_disk import SickDisk

FILES = Path(__file__).resolve().parents[2] / "roles" / "gateway" / "files"
BY_PROVIDER = {
    "litellm_call_id": "call-1", "model_id": "elsewhere", "request_id": "row-1", "model": "gpt",
    "call_type": "acompletion", "prompt_tokens": 10, "completion_tokens": 5, "spend": 0.25, "status": "success",
}  # fmt: skip
BY_RELAY = BY_PROVIDER | {"litellm_call_id": "call-2", "model_id": "chat-relay", "request_id": "row-2"}


@pytest.fixture
def identity_ledger(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(FILES))
    yield importlib.import_module("identity_ledger")
    for name in ("identity_ledger", "audit_lines", "outage_budget"):
        sys.modules.pop(name, None)


def test_what_a_full_disk_keeps_waiting_is_added_by_the_ledger_alone_and_booked_once(
    identity_ledger: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    disk = SickDisk(monkeypatch)
    monkeypatch.setattr("relay.ledger_writer.RETRY_SECONDS", 0.02)
    ledger = identity_ledger.IdentityLedger(tmp_path, relay_deployments=frozenset({"chat-relay"}))

    async def through_a_full_disk() -> list[bool]:
        for number in (1, 2):
            ledger.begin(request=f"call-{number}-0000000{number}", call_id=f"call-{number}", key=None, tags=[],
                         model="chat", end_user=None)  # fmt: skip
        disk.full = True
        left = [ledger.end(payload, key_hash=None) for payload in (BY_PROVIDER, BY_RELAY)]
        assert ledger.writer.is_sick
        disk.full = False
        while ledger.writer.is_sick:
            await asyncio.sleep(0.01)
        return left

    left_to_the_ledger = asyncio.run(through_a_full_disk())

    ended = {
        record["entry"]: (record["request"], record["billed_by"])
        for path in segments(tmp_path)
        for record in read_all(path)
        if record["kind"] == "end"
    }
    assert [True, True] == left_to_the_ledger
    assert [("call-1-00000001", "provider"), ("call-2-00000002", "relay")] == sorted(ended.values())
    unwritten = [message for message in caplog.messages if "not on the disk yet" in message]
    assert ["call-1-00000001", "call-2-00000002"] == [
        request for message in unwritten for request in ("call-1-00000001", "call-2-00000002") if request in message
    ]


@pytest.mark.parametrize("wrong", ["x", 5, True, ["use-cache"]])
def test_what_a_client_sends_in_the_wrong_form_is_left_out_and_no_fault_of_the_gateway(
    identity_ledger: Any, wrong: Any
) -> None:
    data = {"cache": wrong, "metadata": {"tags": 5}, "litellm_metadata": {"tags": ["night", 5]}}

    assert not identity_ledger.asks_cache(data)
    assert ["night"] == identity_ledger.tags_of(data)

"""Streams against the null server: what is recorded, and how every kind of failure is named."""

import ssl
from pathlib import Path

import pytest

from benchmarks import events
from benchmarks.driver import Share
from benchmarks.metrics import reasoning_count, samples_of, summarize, token_count, usage_of
from tests.fakes.certificate import self_signed
from tests.fakes.null_site import carry_out, load_for, null_site

IMPATIENT = {
    "mute": {"first_byte_seconds": 0.3},
    "silent": {"silence_seconds": 0.3},
    "endless": {"total_seconds": 0.8},
}
"""Where something never comes; whatever comes may take its time."""


def test_a_stream_is_recorded_from_intended_start_to_done() -> None:
    with null_site() as (port, _):
        record = carry_out(load_for(port))[0]

    assert "ok" == record.outcome
    assert 200 == record.status
    assert record.intended_ns == 0 <= record.started_ns <= record.sent_ns <= record.first_byte_ns <= record.ended_ns
    assert 10 == token_count(record)
    assert 10 == usage_of(record)["completion_tokens"]
    kinds = list(record.event_kind)
    assert [events.OTHER, *[events.ANSWER] * 10, events.OTHER, events.OTHER, events.DONE] == kinds
    assert 14 == len(set(record.checksums()))
    assert b"" == record.body


def test_every_arrival_is_made_once_however_many_processes_share_them() -> None:
    with null_site() as (port, server):
        load = load_for(port, requests=20)
        for index in range(3):
            carry_out(load, share=Share(index=index, count=3))

    assert sorted(f"run-{number}-0" for number in range(20)) == sorted(server.traffic.request_ids)


def test_reasoning_counts_as_tokens_and_delays_the_first_answer() -> None:
    with null_site() as (port, _):
        records = carry_out(load_for(port, model="null?reasoning=4&itl_ms=2"))
    samples = samples_of(records)

    assert 10 == token_count(records[0])
    assert 4 == reasoning_count(records[0])
    assert samples.answer_ms[0] >= samples.ttft_ms[0]
    assert [events.REASONING] * 4 + [events.ANSWER] * 6 == list(records[0].event_kind)[1:11]


def test_latency_counts_from_the_intended_start_even_when_the_server_is_busy() -> None:
    with null_site(slots=1) as (port, _):
        records = carry_out(load_for(port, model="null?ttft_ms=400", requests=5))
    ttft = sorted(samples_of(records).ttft_ms)

    assert {"ok"} == {record.outcome for record in records}
    # Who waited for the server would start his last request 1.5 s late.
    assert max(record.started_ns - record.intended_ns for record in records) < 1_200_000_000
    assert ttft[0] >= 400
    assert ttft[-1] >= 1_800


def test_chunks_torn_apart_and_glued_together_are_the_same_events() -> None:
    with null_site() as (port, _):
        paced = carry_out(load_for(port, model="null?itl_ms=1"))[0]
        glued = carry_out(load_for(port, model="null?itl_ms=0"))[0]

    assert paced.event_crc == glued.event_crc


def test_the_body_is_kept_only_when_asked_for() -> None:
    with null_site() as (port, _):
        record = carry_out(load_for(port, keep_bodies=True))[0]

    assert record.body.endswith(b"data: [DONE]\n\n")
    assert 14 == record.body.count(b"\n\n")


def test_turns_of_a_conversation_follow_each_other_after_the_answer() -> None:
    with null_site() as (port, server):
        records = carry_out(load_for(port, workload={"turns": 3, "think_seconds": 0.02, "output": {"mean_tokens": 4}}))

    assert ["run-0-0", "run-0-1", "run-0-2"] == server.traffic.request_ids
    first, second, _ = sorted(records, key=lambda record: record.turn)
    assert 20_000_000 == second.intended_ns - first.ended_ns


@pytest.mark.parametrize(
    ("fault", "outcome"),
    [
        ("unauthorized", "unauthorized"),
        ("missing", "not_found"),
        ("rate_limited", "rate_limited"),
        ("server_error", "server_error"),
        ("html", "not_a_stream"),
        ("garbage", "protocol"),
        ("reset", "no_response"),
        ("mute", "first_byte_timeout"),
        ("cut", "cut"),
        ("cut_clean", "cut"),
        ("empty", "empty"),
        ("error", "error_event"),
        ("silent", "silent"),
        ("endless", "endless"),
    ],
)
def test_each_failure_has_its_own_name_and_the_run_ends(fault: str, outcome: str) -> None:
    with null_site() as (port, _):
        records = carry_out(load_for(port, model=f"null?fault={fault}", patience=IMPATIENT.get(fault, {})))

    assert [outcome] == [record.outcome for record in records]


def test_an_error_followed_by_done_is_no_success() -> None:
    with null_site() as (port, _):
        record = carry_out(load_for(port, model="null?fault=error"))[0]

    assert events.DONE == record.event_kind[-1]
    assert "error_event" == record.outcome
    assert "engine died" in record.detail


def test_a_token_of_another_stream_is_marked() -> None:
    with null_site() as (port, _):
        record = carry_out(load_for(port, model="null?fault=foreign"))[0]

    assert [6] == [index for index, kind in enumerate(record.event_kind) if kind & events.FOREIGN]


def test_a_server_that_is_down_and_a_name_that_does_not_resolve_are_told_apart() -> None:
    with null_site() as (port, _):
        pass

    down = carry_out(load_for(port))[0]
    nameless = carry_out(load_for(port, target={"base_url": f"http://no-such-host.invalid:{port}/v1"}))[0]

    assert "refused" == down.outcome
    assert "dns" == nameless.outcome
    assert "no-such-host.invalid" in nameless.detail


def test_the_key_is_sent_and_recorded_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_API_KEY", "a-secret-word")
    with null_site(key="a-secret-word") as (port, _):
        record = carry_out(load_for(port))[0]

    assert "ok" == record.outcome
    assert "a-secret-word" not in repr(record.packed())


def test_tls_is_spoken_with_the_given_authority_and_refused_without(certificate: Path) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)

    with null_site(tls=context) as (port, _):
        trusted = carry_out(load_for(port, scheme="https", target={"ca_file": str(certificate)}, requests=3))
        stranger = carry_out(load_for(port, scheme="https"))
        plain = carry_out(load_for(port, patience=IMPATIENT["mute"]))

    assert ["ok"] * 3 == [record.outcome for record in trusted]
    assert ["tls"] == [record.outcome for record in stranger]
    assert "self-signed" in stranger[0].detail
    assert plain[0].outcome in {"no_response", "first_byte_timeout"}


def test_a_long_prompt_is_sent_whole() -> None:
    with null_site() as (port, _):
        record = carry_out(load_for(port, workload={"prompt": {"mean_tokens": 400_000}}))[0]

    assert "ok" == record.outcome
    assert usage_of(record)["prompt_tokens"] > 250_000  # words


def test_a_summary_counts_failures_by_class() -> None:
    with null_site() as (port, _):
        records = [*carry_out(load_for(port, requests=3)), *carry_out(load_for(port, model="null?fault=missing"))]

    summary = summarize(records)

    assert (4, 3, {"not_found": 1}) == (summary.requests, summary.succeeded, summary.failures)
    assert 30 == round(summary.output_tokens_per_second * summary.duration_seconds)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return self_signed(tmp_path_factory.mktemp("tls"))

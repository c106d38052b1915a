"""The observing modules against loopback servers that replay what real engines and a real gateway answered."""

from pathlib import Path
from typing import Any

import pytest

from sizing.observation import (
    EngineCounters,
    EngineObservation,
    GatewayObservation,
    RelayObservation,
    SpendObservation,
)
from tests.fakes.ansible_module import run_module
from tests.fakes.replay import Asked, Reply, replaying

RECORDED = Path(__file__).resolve().parents[1] / "fakes" / "recorded"
METRICS = (RECORDED / "vllm-0.32.0-metrics.txt").read_text(encoding="utf-8")
JOURNAL = (RECORDED / "vllm-0.32.0-journal.txt").read_text(encoding="utf-8")
ENGINE_KEY = "an-engine-key"
MASTER_KEY = "a-master-key"
RUN = "verify-20261121t050000z-abcdef"


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory in front of PATH, for the system's own programs."""
    directory = tmp_path / "bin"
    directory.mkdir()
    monkeypatch.setenv("PATH", f"{directory}:/usr/bin:/bin")
    return directory


def program(directory: Path, name: str, script: str) -> None:
    path = directory / name
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o755)


def systemd(directory: Path, *, state: str = "active") -> None:
    shown = f"ActiveState={state}\\nNRestarts=1\\nMemoryCurrent=1463812096\\n"
    program(directory, "systemctl", f"printf '{shown}'")
    (directory / "journal").write_text(JOURNAL, encoding="utf-8")
    ask_cursor = 'case "$*" in *show-cursor*) echo "-- cursor: s=1;i=2"; exit;; esac'
    program(directory, "journalctl", f'{ask_cursor}\necho "$@" > {directory}/asked\ncat {directory}/journal')


def engine(asked: Asked) -> Reply:
    """vLLM 0.32.0, as recorded."""
    if asked.path == "/metrics":
        return Reply(text=METRICS)
    if asked.path == "/health":
        return Reply()
    if asked.path == "/version":
        return Reply(content={"version": "0.32.0"})
    if asked.key != ENGINE_KEY:
        return Reply(status=401, content={"error": "Unauthorized"})
    if asked.path == "/v1/models":
        return Reply(content={"object": "list", "data": [{"id": "tiny-qwen3", "max_model_len": 2048}]})
    return Reply(content={"id": "chatcmpl-1", "usage": {"prompt_tokens": 17, "completion_tokens": 1}})


def observe_engine(url: str, **more: Any) -> dict[str, Any]:
    return run_module(
        "observe_engine",
        **{"name": "qwen", "url": url, "model": "tiny-qwen3", "api_key": ENGINE_KEY, "run_id": RUN, **more},
    )


def test_an_engine_is_observed_after_the_calls(programs: Path) -> None:
    systemd(programs)

    with replaying(engine) as server:
        answer = observe_engine(server.url, moment="after", journal_cursor="s=1;i=1")

    seen = EngineObservation.model_validate(answer["observation"])
    assert not answer["changed"]
    assert (43648, 341, 128) == (seen.kv_cache_tokens, seen.block_count, seen.block_size_tokens)
    assert (2048, "tiny-qwen3", "0.32.0") == (seen.max_model_len, seen.served_model_name, seen.version)
    assert (401, 401) == (seen.keyless_models_status, seen.keyless_chat_status)
    assert (200, 1) == (seen.first_token_status, seen.first_token_count)
    assert ("active", 1, 1463812096) == (seen.active_state, seen.restart_count, seen.memory_current_bytes)
    assert 1 == seen.refused_chat_count
    assert seen.journal_read
    assert (f"{RUN}g0-001",) == seen.journal_request_ids
    assert "--after-cursor s=1;i=1" in (programs / "asked").read_text()


def test_the_counters_are_read_before_our_own_refused_requests(programs: Path) -> None:
    systemd(programs)

    with replaying(engine) as server:
        observe_engine(server.url, moment="after")

    assert "/metrics" == server.asked[0].path


def test_before_the_calls_only_counters_and_the_journal_cursor_are_read(programs: Path) -> None:
    systemd(programs)

    with replaying(engine) as server:
        answer = observe_engine(server.url, moment="before")

    assert 1 == EngineCounters.model_validate(answer["observation"]).refused_chat_count
    assert "s=1;i=2" == answer["journal_cursor"]
    assert ["/metrics"] == [asked.path for asked in server.asked]


def test_an_engine_that_is_down_is_an_observation_and_no_failure(programs: Path) -> None:
    systemd(programs, state="failed")

    answer = observe_engine("http://127.0.0.1:9", moment="after")

    seen = EngineObservation.model_validate(answer["observation"])
    assert "failed" == seen.active_state
    assert seen.health_status is None
    assert "refused" in seen.error


def gateway(asked: Asked) -> Reply:  # noqa: PLR0911 (one line for each answer)
    """LiteLLM 1.109.1 with the token hook, as recorded."""
    if asked.path == "/model/info":
        return Reply(content={"data": [DECLARED]})
    if asked.path == "/key/generate":
        return Reply(content={"key": "sk-of-this-run", "key_alias": asked.body["key_alias"]})
    if asked.path == "/key/delete":
        return Reply(content={"deleted_keys": asked.body["key_aliases"]})
    if asked.key != "sk-of-this-run":
        return Reply(status=401, content={"error": {"message": "Authentication Error", "code": "401"}})
    named = {
        "x-litellm-version": "1.109.1",
        "x-litellm-model-id": "h2-tiny-qwen3",
        "x-litellm-call-id": asked.headers["x-litellm-call-id"],
    }
    prompt_tokens = len(asked.body["messages"][0]["content"].split())
    if prompt_tokens + asked.body["max_tokens"] > 2048:
        words = f"tiny-qwen3 has a window of 2048 tokens; your prompt has {prompt_tokens}"
        return Reply(
            status=400, content={"error": {"message": words, "code": "context_length_exceeded"}}, headers=named
        )
    if asked.body.get("stream"):
        return Reply(text=STREAM, headers=named)
    message = {"role": "assistant", "content": "GGGG"}
    usage = {"prompt_tokens": prompt_tokens, "completion_tokens": 16}
    return Reply(
        content={"id": "chatcmpl-1", "choices": [{"message": message, "finish_reason": "length"}], "usage": usage},
        headers=named,
    )


DECLARED = {
    "model_name": "tiny-qwen3",
    "litellm_params": {"api_base": "http://10.77.0.12:8001/v1"},
    "model_info": {"id": "h2-tiny-qwen3", "max_input_tokens": 1536, "max_output_tokens": 512},
}
STREAM = (RECORDED / "stream.txt").read_text(encoding="utf-8")
BROKEN_STREAM = (RECORDED / "broken-stream.txt").read_text(encoding="utf-8")


def observe_gateway(url: str, **more: Any) -> dict[str, Any]:
    return run_module(
        "observe_gateway",
        **{
            "url": url,
            "master_key": MASTER_KEY,
            "run_id": f"{RUN}g0",
            "moment": "calls",
            "models": [{"name": "tiny-qwen3", "max_input_tokens": 1536, "max_output_tokens": 512}],
            **more,
        },
    )


def test_every_model_is_called_four_times_with_a_key_of_the_run() -> None:
    with replaying(gateway) as server:
        answer = observe_gateway(server.url)

    seen = GatewayObservation.model_validate(answer["observation"])
    assert 2 == answer["answered_count"]
    assert "1.109.1" == seen.version
    assert 401 == seen.keyless_status
    assert ["chat", "stream", "over-long", "over-window"] == [call.kind for call in seen.calls]
    assert [200, 200, 400, 400] == [call.status for call in seen.calls]
    assert [f"{RUN}g0-00{number}" for number in (1, 2, 3, 4)] == [call.request_id for call in seen.calls]
    chat, stream, _, over_window = seen.calls
    assert ("length", 4, "h2-tiny-qwen3") == (chat.finish_reason, chat.text_characters, chat.deployment_id)
    assert (True, 3, "length", 17, 3) == (
        stream.done_after_finish,
        stream.text_characters,
        stream.finish_reason,
        stream.prompt_tokens,
        stream.completion_tokens,
    )
    assert stream.first_token_seconds is not None
    assert chat.prompt_tokens is not None
    assert 2049 == chat.prompt_tokens + over_window.asked_output_tokens
    assert "has a window of 2048 tokens" in over_window.message


def test_the_ids_of_a_call_go_out_for_litellm_and_for_the_engine() -> None:
    with replaying(gateway) as server:
        observe_gateway(server.url)

    chats = [asked for asked in server.asked if asked.path.endswith("/chat/completions") and asked.key]
    assert all(asked.headers["x-request-id"] == asked.headers["x-litellm-call-id"] for asked in chats)


def test_the_keys_do_not_leave_the_module() -> None:
    with replaying(gateway) as server:
        answer = observe_gateway(server.url)

    assert "sk-of-this-run" not in str(answer)
    assert MASTER_KEY not in str(answer)


def test_the_key_of_the_run_is_deleted_by_its_alias() -> None:
    with replaying(gateway) as server:
        answer = observe_gateway(server.url, moment="afterwards")

    assert answer["deleted"]
    assert {"key_aliases": [f"{RUN}g0"]} == server.asked[0].body


def test_a_stream_that_breaks_and_says_done_is_not_taken_for_a_success() -> None:
    def breaking(asked: Asked) -> Reply:
        return Reply(text=BROKEN_STREAM) if asked.body.get("stream") else gateway(asked)

    with replaying(breaking) as server:
        answer = observe_gateway(server.url)

    stream = GatewayObservation.model_validate(answer["observation"]).calls[1]
    assert not stream.done_after_finish
    assert "Connection error" in stream.error


def test_a_stream_that_is_cut_is_an_observation() -> None:
    def cut(asked: Asked) -> Reply:
        return Reply(text=STREAM[:300], cut=True) if asked.body.get("stream") else gateway(asked)

    with replaying(cut) as server:
        answer = observe_gateway(server.url)

    assert not GatewayObservation.model_validate(answer["observation"]).calls[1].done_after_finish


def test_a_gateway_without_its_database_says_why_no_key_was_made() -> None:
    def without_database(asked: Asked) -> Reply:
        if asked.path == "/key/generate":
            return Reply(status=500, content={"error": {"message": "DB not connected", "code": "500"}})
        return gateway(asked)

    with replaying(without_database) as server:
        answer = observe_gateway(server.url)

    assert "/key/generate: 500 DB not connected" == answer["observation"]["error"]
    assert 0 == answer["answered_count"]


def test_a_gateway_that_is_down_is_an_observation() -> None:
    answer = observe_gateway("http://127.0.0.1:9")

    assert "Connection refused" in GatewayObservation.model_validate(answer["observation"]).error


BOOKED = (
    '{"rows": [{"request_id": "chatcmpl-1", "call_id": "a-001", "model": "m", "status": "success",'
    ' "prompt_tokens": 34, "completion_tokens": 16, "spend": 0.000066}], "key_spend": {"cafe": 0.000066}}'
)


def test_the_spend_log_is_asked_again_until_the_awaited_rows_are_there(programs: Path) -> None:
    empty = '{"rows": [], "key_spend": {"cafe": 0}}'
    program(
        programs,
        "psql",
        f'echo "$PGOPTIONS $*" > {programs}/query; echo x >> {programs}/times\n'
        f"[ $(wc -l < {programs}/times) -ge 2 ] && echo '{BOOKED}' || echo '{empty}'",
    )

    answer = run_module("observe_spend", database="litellm", key_hashes=["cafe"], awaited_count=1)

    seen = SpendObservation.model_validate(answer["observation"])
    assert ["a-001"] == [row.call_id for row in seen.rows]
    assert {"cafe": 0.000066} == seen.key_spend
    assert seen.waited_seconds >= 1
    query = (programs / "query").read_text()
    assert query.startswith("-c observe.hashes=cafe ")
    assert "LiteLLM_SpendLogs" in query


def test_what_is_there_when_the_time_is_over_is_the_observation(programs: Path) -> None:
    program(programs, "psql", f"echo '{BOOKED}'")

    answer = run_module("observe_spend", database="litellm", key_hashes=["cafe"], awaited_count=2, wait_seconds=0)

    assert 1 == len(SpendObservation.model_validate(answer["observation"]).rows)


def test_a_database_that_refuses_is_an_observation(programs: Path) -> None:
    program(programs, "psql", "echo 'psql: error: database \"litellm\" does not exist' >&2; exit 2")

    answer = run_module("observe_spend", database="litellm", key_hashes=["cafe"], awaited_count=1)

    assert "does not exist" in SpendObservation.model_validate(answer["observation"]).error


def relay(asked: Asked) -> Reply:
    """A relay with one engine that serves and one that it has ejected."""
    if asked.key != ENGINE_KEY:
        return Reply(status=401, content={"error": {"message": "Unauthorized"}})
    serving = {"id": "qwen@h2", "state": "serving", "outstanding_requests": 3}
    return Reply(content={"group": "qwen", "replicas": [serving, {"id": "qwen@h3", "state": "ejected"}]})


def observe_relay(url: str) -> RelayObservation:
    answer = run_module("observe_relay", group="qwen", url=url, model="tiny-qwen3", api_key=ENGINE_KEY)
    return RelayObservation.model_validate(answer["observation"])


def test_a_relay_is_observed_with_the_states_of_its_replicas(programs: Path) -> None:
    program(programs, "systemctl", "echo active")

    with replaying(relay) as server:
        seen = observe_relay(server.url)

    assert ("active", 200, 401) == (seen.active_state, seen.status, seen.keyless_status)
    assert [("qwen@h2", "serving"), ("qwen@h3", "ejected")] == [(one.id, one.state) for one in seen.replicas]


def test_a_relay_that_is_down_is_an_observation(programs: Path) -> None:
    program(programs, "systemctl", "echo failed")

    with replaying(relay) as server:
        url = server.url
    seen = observe_relay(url)

    assert ("failed", None, ()) == (seen.active_state, seen.status, seen.replicas)
    assert seen.error


def test_a_port_that_lets_a_stranger_in_is_named_and_an_allowed_host_is_not_asked() -> None:
    with replaying(relay) as server:
        port = int(server.url.rpartition(":")[2])
        given = {"own_address": "10.77.0.14", "addresses": ["127.0.0.1"], "port": port}
        open_port = run_module("observe_port", **given)
        allowed = run_module("observe_port", **given, allowed_networks=["10.77.0.1/32", "10.77.0.0/16"])
        elsewhere = run_module("observe_port", **given, allowed_networks=["10.77.0.1/32"])
    closed = run_module("observe_port", **given)

    assert ["127.0.0.1"] == open_port["reached"] == elsewhere["reached"]
    assert "reached" not in allowed
    assert [] == closed["reached"]
